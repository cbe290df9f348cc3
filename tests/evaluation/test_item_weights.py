"""The learned weights as a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

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


def test_weights_are_drawn_with_items_that_have_a_choice_only(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    first = random.uniform(0.2, 0.8, 50).astype(np.float32)
    weights = np.stack([first, 1 - first], axis=1)
    present = np.ones((50, 2), dtype=bool)
    present[:10, 1] = False
    path = tmp_path / "weights.svg"
    items = np.arange(50).astype(str)
    ItemWeights(items, ("image", "text"), weights, present).draw(path, "Title & more")
    drawn = path.read_text()
    # matplotlib writes each text as a comment beside its glyphs.
    assert f"image (mean {first[10:].mean():.2f}, n = 40)" in drawn
    assert f"text (mean {(1 - first[10:]).mean():.2f}, n = 40)" in drawn


def test_the_summary_is_of_items_that_have_a_choice() -> None:
    present = np.array([[True, True], [True, True], [True, False]])
    weights = np.array([[0.2, 0.8], [0.4, 0.6], [1.0, 0.0]], dtype=np.float32)
    some = ItemWeights(np.array(["a", "b", "c"]), ("image", "text"), weights, present)
    assert some.summary() == "image 0.300 ± 0.100, text 0.700 ± 0.100"
    none = ItemWeights(some.items[2:], some.modalities, weights[2:], present[2:])
    assert none.summary() == "no item has a choice"


def test_no_choice_at_all_is_drawn_too(tmp_path: Path) -> None:
    path = tmp_path / "weights.png"
    ones = np.ones((5, 1), dtype=np.float32)
    weights = ItemWeights(np.arange(5).astype(str), ("text",), ones, ones.astype(bool))
    weights.draw(path, "One modality")
    assert image.imread(path).std() > 0.01
