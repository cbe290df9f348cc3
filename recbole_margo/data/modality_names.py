"""What is said of a modality that a dataset does not have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from recbole_margo.errors import ConfigError


def nearest_hint(name: Any, available: Sequence[str]) -> str:
    """Return " Did you mean 'text'?" where a name is near to one that there is, else nothing."""
    close = get_close_matches(str(name), available, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_modality_names(key: str, named: Iterable[Any], available: Sequence[str]) -> None:
    """Raise a `ConfigError` if a setting by modality names one that there is not.

    Args:
        key: the setting.
        named: the modalities in it.
        available: all modalities of the dataset.
    """
    for modality in named:
        if modality not in available:
            raise ConfigError(
                f"`{key}`: expected modalities among {', '.join(available)}, found "
                f"{modality!r}.{nearest_hint(modality, available)}"
            )
