"""The controls of the robustness study against loops and permutations, and planted weights."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from recbole_margo.evidence.neighbor_agreement import neighbor_agreement
from recbole_margo.studies.robustness.items import CorruptedItems, user_shares_of_items
from recbole_margo.studies.robustness.plan import RobustnessPlan
from recbole_margo.studies.robustness.summary import summarize_robustness

RANDOM = np.random.default_rng(0)


def interactions(users: int, items: int, density: float = 0.4) -> np.ndarray:
    return (np.random.default_rng(users * items).random((users, items)) < density).astype(float)


def weights_of_pairs(R: np.ndarray, i: int, others: list[int]) -> np.ndarray:
    """Return w_ij of one item, summing to 1."""
    raw = [
        (R[:, i] * R[:, j]).sum() / np.sqrt(max(R[:, i].sum() * R[:, j].sum(), 1)) for j in others
    ]
    return np.array(raw) / max(sum(raw), 1e-300)


def unit_rows(features: np.ndarray) -> np.ndarray:
    centred = features - features.mean(axis=0)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def test_agreement_is_standardised_by_what_permuted_rows_give() -> None:
    R, features = interactions(8, 7), RANDOM.normal(size=(7, 3))
    found = neighbor_agreement(sp.csr_matrix(R), features, np.ones(7, dtype=bool))
    x = unit_rows(features)
    for i in range(7):
        others = [j for j in range(7) if j != i]
        weights = weights_of_pairs(R, i, others)
        cosines = x[others] @ x[i]
        null = [weights @ np.array(order) for order in itertools.permutations(cosines)]
        expected = (weights @ cosines - np.mean(null)) / np.std(null)
        assert found[i] == pytest.approx(expected, abs=1e-9)


def test_agreement_leaves_out_items_that_miss_the_modality_or_have_the_mean_row() -> None:
    R, features = interactions(9, 10), RANDOM.normal(size=(10, 4))
    present = np.ones(10, dtype=bool)
    present[3] = False
    features[3] = 0
    features[6] = features[np.setdiff1d(np.arange(10), [3, 6])].mean(axis=0)
    found = neighbor_agreement(sp.csr_matrix(R), features.astype(np.float32), present)
    kept = np.setdiff1d(np.arange(10), [3, 6])
    alone = neighbor_agreement(sp.csr_matrix(R[:, kept]), features[kept], present[kept])
    np.testing.assert_allclose(found[kept], alone, rtol=1e-4, atol=1e-5)
    assert found[3] == found[6] == 0


def test_agreement_is_the_same_in_blocks_and_zero_without_co_interacted_items(monkeypatch) -> None:
    R, features = interactions(30, 12), RANDOM.normal(size=(12, 5))
    R[:, 4] = 0
    whole = neighbor_agreement(sp.csr_matrix(R), features, np.ones(12, dtype=bool))
    monkeypatch.setattr("recbole_margo.evidence.neighbor_agreement.BLOCK_CELLS", 30)
    blocks = neighbor_agreement(sp.csr_matrix(R), features, np.ones(12, dtype=bool))
    np.testing.assert_allclose(blocks, whole, atol=1e-12)
    assert whole[4] == 0
    assert np.isfinite(whole).all()


@pytest.mark.parametrize("items", [0, 1, 2])
def test_agreement_of_hardly_any_items_is_zero(items: int) -> None:
    present = np.arange(4) < items
    found = neighbor_agreement(
        sp.csr_matrix(interactions(5, 4)), RANDOM.normal(size=(4, 2)), present
    )
    assert found.tolist() == [0, 0, 0, 0]


def test_an_item_s_weight_in_dragon_is_the_mean_over_its_users() -> None:
    R, W = interactions(11, 6), RANDOM.normal(size=(11, 3))
    R[:, 2] = 0
    shares = np.abs(W) / np.abs(W).sum(axis=1, keepdims=True)
    found = user_shares_of_items(shares, sp.csr_matrix(R))
    for item in range(6):
        users = [user for user in range(11) if R[user, item]]
        for m in range(3):
            parts = [abs(W[user, m]) / sum(abs(W[user])) for user in users]
            expected = sum(parts) / len(parts) if parts else 0
            assert found[item, m] == pytest.approx(expected, abs=1e-12)


def planted(weights: dict[str, np.ndarray], seed: int = 1) -> CorruptedItems:
    """Return 40 items, the first 10 with a corrupted text and the next 10 with a bad image."""
    count = 40
    corrupted = np.zeros((count, 2), dtype=bool)
    corrupted[:10, 1] = corrupted[10:20, 0] = True
    trust = {name: np.stack([1 - text, text], axis=1) for name, text in weights.items()}
    return CorruptedItems(
        items=np.array([f"i{item}" for item in range(count)]),
        modalities=("image", "text"),
        present=np.ones((count, 2), dtype=bool),
        corrupted=corrupted,
        interactions=np.arange(count) % 5 + 1,
        trust=trust,
    )


def summary_of(truth: dict[int, CorruptedItems]) -> dict[str, Any]:
    plan = RobustnessPlan("tiny", {"text": 0.25}, models=["MARGO", "DRAGON"], seeds=list(truth))
    models = [
        {"label": entry.label, "errors": {}, "values": {}, "mean": {}, "std": {}}
        for entry in plan.entries()
    ]
    comparison = {
        "models": models,
        "seeds": list(truth),
        "metrics": [],
        "eval_protocol": "recbole",
        "split": "x",
        "valid_metric": "Recall@20",
        "absent_parts": [],
    }
    return summarize_robustness(plan, comparison, {1.0: truth})


def auc_of(summary: dict[str, Any], detector: str, **question: str) -> float:
    question = {"items": "all", "negatives": "all others", **question}
    (row,) = [
        row
        for row in summary["detection"]
        if row["detector"] == detector and all(row[key] == question[key] for key in question)
    ]
    return row["auc"]["mean"]


def test_weights_that_tell_nothing_everything_or_the_opposite_get_the_known_areas() -> None:
    text = np.where(np.arange(40) < 10, 0.1, 0.8)
    weights = {"MARGO": text, "DRAGON": 1 - text, "constant": np.full(40, 0.5)}
    summary = summary_of({1: planted(weights), 2: planted(weights)})
    assert auc_of(summary, "MARGO") == 1
    assert auc_of(summary, "DRAGON") == 0
    assert auc_of(summary, "constant") == 0.5
    (row,) = [
        row
        for row in summary["detection"]
        if (row["detector"], row["items"], row["negatives"]) == ("DRAGON", "all", "all others")
    ]
    assert row["auc_above_reference"] == {"mean": -1, "deviation": 0, "low": -1, "high": -1}
    assert row["chance"] == 0.25
    (histogram,) = [row for row in summary["weights"] if row["model"] == "MARGO"]
    assert (sum(histogram["corrupted"]), sum(histogram["intact"])) == (20, 60)
    assert histogram["mean_corrupted"] == pytest.approx(0.1)


def test_items_corrupted_in_another_modality_are_easy_negatives_and_reported_apart() -> None:
    # The weights know that the image is bad, and nothing of the text.
    text = np.full(40, 0.5)
    text[10:20] = 0.9
    summary = summary_of({1: planted({"MARGO": text})})
    assert auc_of(summary, "MARGO", negatives="nothing corrupted") == 0.5
    assert auc_of(summary, "MARGO") == pytest.approx((10 + 20 / 2) / 30)


def test_only_items_with_a_choice_and_a_training_interaction_are_asked_about() -> None:
    draw = planted({})
    draw.present[5, 0] = draw.present[6, 1] = False
    draw.interactions[7] = 0
    asked = draw.asked("text")
    assert sorted(np.flatnonzero(~asked)) == [5, 6, 7]
    popular = draw.popular("text")
    assert set(draw.interactions[popular]) == {4, 5}
    assert not (popular & ~asked).any()
    assert np.flatnonzero(~draw.intact("text")).tolist() == list(range(10, 20))


def test_without_positives_it_says_why_nothing_is_detected() -> None:
    draw = planted({"MARGO": np.full(40, 0.5)})
    draw.corrupted[:] = False
    summary = summary_of({1: draw})
    assert summary["detection"] == []
    assert "No modality has both" in summary["why_no_detection"]
