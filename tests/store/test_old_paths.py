"""Names that were documented under dataset_converters are still found there, with a warning."""

from __future__ import annotations

import importlib
import sys

import pytest

from dataset_converters import errors
from recbole_margo.errors import DataError


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("dataset_converters.feature_files", "recbole_margo.store.feature_files", "write_features"),
        ("dataset_converters.text_table", "recbole_margo.store.dataset_files", "read_item_lines"),
    ],
)
def test_an_old_path_gives_the_same_function_and_names_the_new_one(
    old: str, new: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"import {name} from {new}$"):
        module = importlib.import_module(old)
    assert getattr(module, name) is getattr(importlib.import_module(new), name)


def test_the_error_of_wrong_data_is_one_class() -> None:
    assert errors.DataError is DataError
