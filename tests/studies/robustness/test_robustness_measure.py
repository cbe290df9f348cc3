"""The calculation of a robustness study on planted weights, whose numbers are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from recbole_margo.evaluation.detection import Estimate
from recbole_margo.report import json_text
from recbole_margo.store.plain import as_plain
from recbole_margo.studies.comparison.result import ComparedModel, Comparison
from recbole_margo.studies.robustness.measure import (
    CorruptedItems,
    measure,
    user_shares_of_items,
)
from recbole_margo.studies.robustness.plan import RobustnessPlan
from recbole_margo.studies.robustness.result import (
    HEADLINE,
    POPULAR,
    UNTOUCHED,
    FailedRun,
    Quality,
    Question,
    RobustnessResult,
)

RANDOM = np.random.default_rng(0)


def interactions(users: int, items: int, density: float = 0.4) -> np.ndarray:
    return (np.random.default_rng(users * items).random((users, items)) < density).astype(float)


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


def result_of(truth: dict[int, CorruptedItems]) -> RobustnessResult:
    plan = RobustnessPlan("tiny", {"text": 0.25}, models=["MARGO", "DRAGON"], seeds=list(truth))
    compared = Comparison(
        dataset="tiny",
        eval_protocol="recbole",
        split="x",
        seeds=tuple(truth),
        valid_metric="Recall@20",
        reference="MARGO @ 0",
        metrics=(),
        models=tuple(
            ComparedModel(label=entry.label, model=entry.model, status="finished")
            for entry in plan.entries()
        ),
    )
    return measure(plan, compared, {1.0: truth})


def auc_of(result: RobustnessResult, detector: str, question: Question = HEADLINE) -> float:
    rows = result.detectors(1.0, "text", question)
    (row,) = [row for row in rows if row.detector == detector]
    return row.auc.mean


def test_weights_that_tell_nothing_everything_or_the_opposite_get_the_known_areas() -> None:
    text = np.where(np.arange(40) < 10, 0.1, 0.8)
    weights = {"MARGO": text, "DRAGON": 1 - text, "constant": np.full(40, 0.5)}
    result = result_of({1: planted(weights), 2: planted(weights)})
    assert auc_of(result, "MARGO") == 1
    assert auc_of(result, "DRAGON") == 0
    assert auc_of(result, "constant") == 0.5
    rows = result.detectors(1.0, "text", HEADLINE)
    (row,) = [row for row in rows if row.detector == "DRAGON"]
    assert row.auc_above_reference == Estimate(-1, 0, -1, -1)
    assert row.chance == 0.25
    (histogram,) = [one for one in result.weights if one.model == "MARGO"]
    assert (sum(histogram.corrupted), sum(histogram.intact)) == (20, 60)
    assert histogram.mean_corrupted == pytest.approx(0.1)


def test_items_corrupted_in_another_modality_are_easy_negatives_and_reported_apart() -> None:
    # The weights know that the image is bad, and nothing of the text.
    text = np.full(40, 0.5)
    text[10:20] = 0.9
    result = result_of({1: planted({"MARGO": text})})
    assert auc_of(result, "MARGO", UNTOUCHED) == 0.5
    assert auc_of(result, "MARGO") == pytest.approx((10 + 20 / 2) / 30)


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
    assert (draw.rows("text", POPULAR) == popular).all()
    assert (draw.rows("text", UNTOUCHED) == (asked & draw.intact("text"))).all()


def test_without_positives_it_says_why_nothing_is_detected() -> None:
    draw = planted({"MARGO": np.full(40, 0.5)})
    draw.corrupted[:] = False
    result = result_of({1: draw})
    assert result.detection == ()
    assert "No modality has both" in str(result.why_no_detection)


def eight_items() -> CorruptedItems:
    """Return items of which MARGO's weights find the two with a bad text, and DRAGON's the others.

    Two of the popular ones are bad in nothing, one in its text; one item is bad in its image.
    """
    corrupted = np.zeros((8, 2), dtype=bool)
    corrupted[:2, 1] = corrupted[2, 0] = True
    text = np.where(corrupted[:, 1], 0.1, 0.8)
    opposite = np.where(corrupted[:, 1], 0.9, 0.2)
    return CorruptedItems(
        items=np.array(list("abcdefgh")),
        modalities=("image", "text"),
        present=np.ones((8, 2), dtype=bool),
        corrupted=corrupted,
        interactions=np.array([4, 1, 2, 2, 3, 3, 4, 1]),
        trust={
            "MARGO": np.stack([1 - text, text], axis=1),
            "DRAGON": np.stack([1 - opposite, opposite], axis=1),
        },
    )


def detection_by_hand(
    question: tuple[str, str], detector: str, items: int, positives: int
) -> dict[str, Any]:
    """Return the row of a score that ranks all positives first, or all of them last.

    Every resample of such items gives the same areas. Ranked last together with nothing after
    them, the precision at each positive is their share.
    """
    share = positives / items
    auc, precision, seeds = (1.0, 1.0, [1, 2]) if detector == "MARGO" else (0.0, share, [1])
    deviation = 0.0 if len(seeds) > 1 else None

    def constant(value: float, deviation: float | None = deviation) -> dict[str, Any]:
        return {"mean": value, "deviation": deviation, "low": value, "high": value}

    of_seed = {"items": items, "positives": positives}
    for name, value in (("auc", auc), ("average_precision", precision)):
        of_seed |= {name: value, f"{name}_low": value, f"{name}_high": value}
    return {
        "step": 1.0,
        "modality": "text",
        "items": question[0],
        "negatives": question[1],
        "detector": detector,
        "seeds": [{"seed": seed, **of_seed, "chance": share} for seed in seeds],
        "auc": constant(auc),
        "average_precision": constant(precision),
        "chance": share,
        "auc_above_reference": None if detector == "MARGO" else constant(-1.0),
    }


def test_the_plain_form_of_a_small_study_equals_the_numbers_worked_out_by_hand() -> None:
    plan = RobustnessPlan(
        "tiny", {"text": 0.25}, models=["MARGO", "DRAGON"], seeds=[1, 2], settings={"alpha": 1.0}
    )
    values = {"MARGO @ 0": (0.5, 0.3), "DRAGON @ 0": (0.4, 0.4), "MARGO @ 1": (0.2, 0.4)}
    compared = Comparison(
        dataset="tiny",
        eval_protocol="recbole",
        split="abc",
        seeds=(1, 2),
        valid_metric="Recall@20",
        reference="MARGO @ 0",
        metrics=("recall@20",),
        models=(
            *(
                ComparedModel(
                    label=label,
                    model=label.split()[0],
                    status="finished",
                    values={"recall@20": of_seeds},
                    mean={"recall@20": mean},
                    std={"recall@20": deviation},
                )
                for (label, of_seeds), mean, deviation in zip(
                    values.items(), (0.4, 0.4, 0.3), (0.1414, 0.0, 0.1414), strict=True
                )
            ),
            ComparedModel(
                label="DRAGON @ 1",
                model="DRAGON",
                status="finished",
                errors={"2": "no memory"},
                values={"recall@20": (0.3,)},
                mean={"recall@20": 0.3},
                std={"recall@20": None},
            ),
        ),
    )
    without_dragon = replace(eight_items(), trust={"MARGO": eight_items().trust["MARGO"]})
    result = measure(plan, compared, {1.0: {1: eight_items(), 2: without_dragon}})

    assert result.errors == (FailedRun("DRAGON", 1.0, 2, "no memory"),)
    recall = [
        Quality("MARGO", 0.0, (1, 2), {"recall@20": (0.5, 0.3)}, {"recall@20": 0.4}, {}),
        Quality("MARGO", 1.0, (1, 2), {"recall@20": (0.2, 0.4)}, {"recall@20": 0.3}, {}),
        Quality("DRAGON", 0.0, (1, 2), {"recall@20": (0.4, 0.4)}, {"recall@20": 0.4}, {}),
        Quality("DRAGON", 1.0, (1,), {"recall@20": (0.3,)}, {"recall@20": 0.3}, {}),
    ]
    assert [replace(row, std={}) for row in result.quality] == recall

    plain = as_plain(result)
    questions = {
        ("all", "all others"): (8, 2),
        ("all", "nothing corrupted"): (7, 2),
        ("popular", "all others"): (4, 1),
        ("popular", "nothing corrupted"): (4, 1),
    }
    assert plain["detection"] == [
        detection_by_hand(question, detector, *counts)
        for question, counts in questions.items()
        for detector in ("MARGO", "DRAGON")
    ]
    margo, dragon = plain["weights"]
    assert (margo["corrupted"], margo["intact"]) == ([4] + [0] * 39, [0] * 39 + [12])
    assert (dragon["corrupted"], dragon["intact"]) == ([0] * 39 + [2], [6] + [0] * 39)
    assert (margo["edges"][0], margo["edges"][-1]) == (0.1, 0.8)
    assert [curve["true_positive_rate"][0] for curve in plain["roc"]] == [1.0, 0.0]
    plain |= {key: [] for key in ("quality", "detection", "weights", "roc")}
    # As text, for the order of the keys is part of the file.
    assert json_text(plain) == json_text(
        {
            "dataset": "tiny",
            "eval_protocol": "recbole",
            "split": "abc",
            "seeds": [1, 2],
            "valid_metric": "Recall@20",
            "absent_parts": [],
            "share": {"text": 0.25},
            "kind": "swap",
            "signal_to_noise": None,
            "steps": [0.0, 1.0],
            "shares": [{"text": 0.0}, {"text": 0.25}],
            "models": ["MARGO", "DRAGON"],
            "settings": {"alpha": 1.0},
            "metrics": ["recall@20"],
            "errors": [{"model": "DRAGON", "step": 1.0, "seed": 2, "error": "no memory"}],
            "quality": [],
            "reference": "MARGO",
            "detection": [],
            "roc": [],
            "weights": [],
            "why_no_detection": None,
        }
    )
