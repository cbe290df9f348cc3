"""In which precision features are kept and projected: the key `feature_precision`."""

from __future__ import annotations

from typing import Any

import torch

from recbole_margo.errors import ConfigError

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
