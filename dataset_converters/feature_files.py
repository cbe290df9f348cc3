"""The place of `write_features` until 0.1; it is `recbole_margo.store.feature_files` now."""

from __future__ import annotations

import warnings

from recbole_margo.store.feature_files import write_features

__all__ = ["write_features"]

warnings.warn(
    "dataset_converters.feature_files goes away with the next release: import write_features "
    "from recbole_margo.store.feature_files",
    DeprecationWarning,
    stacklevel=2,
)
