"""RecBole's decision trees, which derive from the classes of other libraries."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from recbole_margo.errors import ConfigError
from recbole_margo.registry import ModelEntry, find_model
from recbole_margo.run import _fit, _trained_parameters


class TreeTrainer:
    """Takes what RecBole's `DecisionTreeTrainer.fit` takes."""

    epochs = 1

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
    ) -> tuple[float, dict[str, float]]:
        return 0.5, {"auc": 0.5}


def test_a_trainer_that_takes_no_callback_is_used():
    config: Any = {"show_progress": False}
    fitted = _fit(config, TreeTrainer(), ("train", "valid", "test"))
    assert fitted.valid_result == {"auc": 0.5} and fitted.validations == []
    assert _trained_parameters(TreeTrainer()) == 0


@pytest.mark.parametrize("model", ["LightGBM", "XGBoost"])
def test_a_library_that_is_missing_is_named(model, monkeypatch):
    for name in [name for name in sys.modules if "exlib_recommender" in name]:
        monkeypatch.delitem(sys.modules, name)
    for library in ("lightgbm", "xgboost"):
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match="pip install lightgbm xgboost"):
        find_model(model)


def test_a_class_of_recbole_need_not_be_a_recommender():
    assert ModelEntry("Fraction", "RecBole", "fractions").load().__name__ == "Fraction"
