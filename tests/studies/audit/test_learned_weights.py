"""The weights of runs on disk, and their entropy and dispersion."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from made_up_audit import made_weights
from small_studies import compare_seeds

from recbole_margo.errors import CheckpointError, ConfigError
from recbole_margo.studies.audit.learned_weights import (
    LearnedWeights,
    audited_runs,
    entropy_bits,
    weight_stability,
)
from recbole_margo.studies.comparison.plan import labelled_runs
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.studies.runs.study import StudyReport
from recbole_margo.testing import MISSING, NAME, SETTINGS, random_world, small_settings
from recbole_margo.training.checkpoint import read_checkpoint

ENTRIES = [
    Entry("MARGO", "MARGO"),
    Entry("w/o nograd", "MARGO", {"stop_gradient": False}),
    Entry("w/o weight", "MARGO", {"item_weights": False}),
    *Entry.of_models(["DRAGON", "BPR"]),
]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a comparison of two seeds."""
    root = tmp_path_factory.mktemp("comparison")
    random_world().without(MISSING["some items miss one"]).write(root / "data")
    changes: dict[str, Any] = {"data_path": str(root / "data"), "epochs": 1}
    settings = {**SETTINGS, **small_settings("MARGO"), **changes}
    with pytest.MonkeyPatch.context() as patch:
        # Its figures take longer than the training.
        patch.setattr(StudyReport, "write", lambda *_: None)
        compare_seeds(ENTRIES, NAME, [1, 2], settings, root / "out")
    return root / "out"


def test_runs_have_the_labels_of_their_comparison(comparison: Path) -> None:
    found = [(label, run.seed) for label, run in labelled_runs(comparison)]
    assert set(found) == {(entry.label, seed) for entry in ENTRIES for seed in (1, 2)}


def test_margos_weights_are_of_items_and_dragons_of_users(comparison: Path) -> None:
    runs = {(label, run.seed): run for label, run in labelled_runs(comparison)}
    ours = LearnedWeights.of_run(runs["w/o nograd", 1], "w/o nograd")
    assert ours is not None
    assert (ours.rows, len(ours.weights)) == ("items", 15)
    np.testing.assert_allclose(ours.weights.sum(axis=1), 1, rtol=1e-6)
    theirs = LearnedWeights.of_run(runs["DRAGON", 2], "DRAGON")
    assert theirs is not None
    state = read_checkpoint(runs["DRAGON", 2].folder / "checkpoint.pth")["state_dict"]
    factors = state["user_weights"].abs()[1:]
    expected = factors / factors.sum(dim=1, keepdim=True)
    np.testing.assert_allclose(theirs.weights, expected, rtol=1e-5)
    assert (theirs.rows, len(theirs.weights)) == ("users", 20)
    for label in ("w/o weight", "BPR"):
        assert LearnedWeights.of_run(runs[label, 1], label) is None


def test_the_audited_runs_are_margos_unless_another_label_is_named(comparison: Path) -> None:
    runs = labelled_runs(comparison)
    label, chosen = audited_runs(runs)
    assert (label, [run.seed for run in chosen]) == ("MARGO", [1, 2])
    assert audited_runs(runs, "w/o nograd")[0] == "w/o nograd"
    with pytest.raises(ConfigError, match=r"--label must be one of .*w/o nograd.*'w/o weight'"):
        audited_runs(runs, "w/o weight")
    with pytest.raises(ConfigError, match="expected a run of MARGO with item weights, found BPR"):
        audited_runs([(name, run) for name, run in runs if name == "BPR"])


def test_runs_on_other_interactions_are_not_mixed(comparison: Path) -> None:
    _, chosen = audited_runs(labelled_runs(comparison))
    other = dataclasses.replace(chosen[1].result, split="another")
    chosen[1] = dataclasses.replace(chosen[1], result=other)
    with pytest.raises(CheckpointError, match=r"expected the split of .*found another"):
        audited_runs([("MARGO", run) for run in chosen])


def test_a_damaged_plan_is_an_error(comparison: Path, tmp_path: Path) -> None:
    folder = tmp_path / "seed-1"
    folder.symlink_to(comparison / "seed-1")
    (tmp_path / "comparison-plan.json").write_text(json.dumps({"entries": [{"label": 1}]}))
    with pytest.raises(CheckpointError, match="is not the plan of a comparison"):
        labelled_runs(tmp_path)


def test_statistics_of_weights_known_by_hand() -> None:
    weights = made_weights(
        [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5], [1.0, 0.0, 0.0]],
        [[True, True, False], [True, False, False], [True, True, True], [True, True, True]],
    )
    found = weights.statistics()
    # The second item has no choice and is left out.
    assert found.count == 3
    assert found.entropy_bits == pytest.approx((1 + 1.5 + 0) / 3)
    assert found.relative_entropy == pytest.approx((1 + 1.5 / np.log2(3) + 0) / 3)
    assert found.share_decided == pytest.approx(1 / 3)
    image, _, audio = found.modalities
    assert image.mean == pytest.approx(1.75 / 3)
    assert image.std == pytest.approx(np.std([0.5, 0.25, 1.0]))
    assert image.share_decided == pytest.approx(1 / 3)
    assert (audio.count, audio.mean) == (2, 0.25)


def test_one_modality_has_nothing_to_say() -> None:
    found = made_weights([[1.0], [1.0]]).statistics()
    assert (found.count, found.entropy_bits, found.modalities[0].mean) == (
        0,
        None,
        None,
    )


@settings(deadline=None)
@given(arrays.arrays(np.float64, (5, 3), elements=st.floats(-50, 50)))
def test_entropy_lies_between_0_and_that_of_even_weights(logits: np.ndarray) -> None:
    weights = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    bits = entropy_bits(weights)
    assert (bits >= 0).all()
    assert (bits <= np.log2(3) + 1e-9).all()
    natural = torch.distributions.Categorical(torch.from_numpy(weights)).entropy().numpy()
    np.testing.assert_allclose(bits, natural / np.log(2), atol=1e-9)


def test_seeds_that_agree_and_seeds_that_do_not() -> None:
    one, reverse = (
        made_weights([[0.2, 0.8], [0.4, 0.6], [0.7, 0.3], [0.9, 0.1]]),
        made_weights([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6], [0.2, 0.8]]),
    )
    assert weight_stability([one]) == ()
    (image, text) = weight_stability([one, one, reverse])
    assert image.smallest == pytest.approx(-1)
    assert image.mean == text.mean == pytest.approx((1 - 1 - 1) / 3)


def of_full_rows(weights: np.ndarray, present: np.ndarray) -> np.ndarray:
    return LearnedWeights("MARGO", 1, "items", ("a", "b", "c"), weights, present).of_full_rows


def test_weights_of_items_with_fewer_modalities_are_put_on_the_scale_of_the_others() -> None:
    random = np.random.default_rng(4)
    present = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1], [0, 1, 0]], dtype=bool)[
        random.integers(0, 4, 200)
    ]
    logits = random.normal(0, 0.1, (200, 3))
    parts = np.exp(logits) * present
    weights = parts / parts.sum(axis=1, keepdims=True)
    scaled = of_full_rows(weights, present)
    complete = present.all(axis=1)
    assert np.array_equal(scaled[complete], weights[complete])
    for item in range(200):
        mean = np.exp(logits[item])[present[item]].mean()
        for m in range(3):
            own = np.exp(logits[item, m]) if present[item, m] else 0.0
            assert scaled[item, m] == pytest.approx(own / mean / 3, rel=1e-12)
    # Equal trust is the same number, however many modalities share it.
    equal = of_full_rows(present / present.sum(axis=1, keepdims=True), present)
    assert equal[present] == pytest.approx(np.full(present.sum(), 1 / 3), rel=1e-12)
