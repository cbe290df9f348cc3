"""The name that docs taught under dataset_converters is found there, with a warning."""

from __future__ import annotations

import importlib
import sys

import pytest

from recbole_margo.store.feature_files import write_features


def test_the_old_path_gives_the_same_function_and_names_the_new_one(monkeypatch) -> None:
    old = "dataset_converters.feature_files"
    monkeypatch.delitem(sys.modules, old, raising=False)
    advice = "import write_features from recbole_margo.store.feature_files$"
    with pytest.warns(DeprecationWarning, match=advice):
        module = importlib.import_module(old)
    assert module.write_features is write_features
