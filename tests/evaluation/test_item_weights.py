"""The learned weights as a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recbole_margo.errors import CheckpointError
from recbole_margo.evaluation.item_weights import ItemWeights
from recbole_margo.testing import prepare, random_world

MISSING = {"image": ["i1", "i4"]}


def test_weights_are_by_item_token_and_survive_the_file(tmp_path: Path) -> None:
    random_world().without(MISSING).write(tmp_path)
    experiment = prepare(tmp_path, "MARGO", weight_init_std=1.0)
    weights = ItemWeights.of_model(experiment.model, experiment.dataset)
    assert list(weights.items) == experiment.item_tokens[1:]
    np.testing.assert_allclose(weights.weights.sum(axis=1), 1.0, rtol=1e-6)
    missing = np.isin(weights.items, MISSING["image"])
    image = weights.modalities.index("image")
    assert (weights.weights[missing, image] == 0).all()
    assert (weights.weights[~missing, image] > 0).all()
    np.testing.assert_array_equal(weights.present[:, image], ~missing)

    path = tmp_path / "weights.npz"
    weights.save(path)
    loaded = ItemWeights.load(path)
    assert loaded.modalities == weights.modalities
    np.testing.assert_array_equal(loaded.items, weights.items)
    np.testing.assert_array_equal(loaded.weights, weights.weights)
    assert [file.name for file in tmp_path.glob("*.npz")] == ["weights.npz"]


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, items=np.array([object()]))
    with pytest.raises(CheckpointError, match="does not hold item weights"):
        ItemWeights.load(path)
    with pytest.raises(CheckpointError, match="does not hold item weights"):
        ItemWeights.load(tmp_path / "absent.npz")
