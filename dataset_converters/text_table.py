"""The place of `read_item_lines` until 0.1; it is `recbole_margo.store.dataset_files` now."""

from __future__ import annotations

import warnings

from recbole_margo.store.dataset_files import read_item_lines

__all__ = ["read_item_lines"]

warnings.warn(
    "dataset_converters.text_table goes away with the next release: import read_item_lines from "
    "recbole_margo.store.dataset_files",
    DeprecationWarning,
    stacklevel=2,
)
