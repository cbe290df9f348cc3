"""What the settings of features may say: names of modalities, normalisation, precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from recbole_margo.data.row_norms import RowNorms
from recbole_margo.errors import ConfigError


def nearest_hint(name: Any, available: Sequence[str]) -> str:
    """Return " Did you mean 'text'?" where a name is near to one that there is, else nothing."""
    close = get_close_matches(str(name), available, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_modality_names(key: str, named: Iterable[Any], available: Sequence[str]) -> None:
    """Raise a `ConfigError` if a setting by modality names one that there is not."""
    for modality in named:
        if modality not in available:
            raise ConfigError(
                f"`{key}`: expected modalities among {', '.join(available)}, found "
                f"{modality!r}.{nearest_hint(modality, available)}"
            )


NORMALIZATIONS = ("none", "l2", "standard")


def normalize_features(matrix: Tensor, present: Tensor, normalization: str) -> None:
    """Normalise a feature matrix in place; rows of missing items stay zero.

    `l2`: x_i / ||x_i||. `standard`: (x_i - mean) / std per column, over the items that have the
    modality (population standard deviation); a column that is constant over them becomes zero.

    Args:
        matrix: [I, D] float32, zero where the item misses the modality.
        present: [I] bool, the items that have it.
        normalization: one of `NORMALIZATIONS`.
    """
    if normalization == "l2":
        RowNorms.of(matrix).divide_(matrix)
    elif normalization == "standard":
        # Missing rows are zero, so that sums over all rows are sums over the items that have it.
        # Sums are in float64, a block at a time: the whole matrix in float64 would be the largest
        # thing in memory.
        count = int(present.sum())
        blocks = torch.split(matrix, 1024)
        mean = torch.stack([block.double().sum(dim=0) for block in blocks]).sum(dim=0) / count
        matrix -= mean.to(matrix.dtype)
        matrix[~present] = 0.0
        squares = torch.stack([block.double().square().sum(dim=0) for block in blocks]).sum(dim=0)
        deviation = (squares / count).sqrt().to(matrix.dtype)
        matrix /= torch.where(deviation > 0, deviation, 1.0)


FEATURE_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def feature_type(setting: Any) -> torch.dtype:
    """Return the type that a value of `feature_precision` names.

    Args:
        setting: the value; none, as in a stock RecBole config, is float32.

    Raises:
        ConfigError: for any other value.
    """
    if setting is None:
        return torch.float32
    if not isinstance(setting, str) or setting not in FEATURE_TYPES:
        raise ConfigError(
            f"`feature_precision` must be one of {list(FEATURE_TYPES)}, found {setting!r}"
        )
    return FEATURE_TYPES[setting]
