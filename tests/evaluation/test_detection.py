"""ROC-AUC, average precision and their bootstrap against counting and sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from recbole_margo.errors import RecBoleMargoError
from recbole_margo.evaluation.detection import (
    areas_of_counts,
    auc_estimate,
    detect,
    mean_roc,
    precision_estimate,
)


def pairs_won(scores: list[float], labels: list[bool]) -> float:
    """Return the share of pairs in which the positive scores higher, ties one half."""
    positives = [score for score, label in zip(scores, labels, strict=True) if label]
    negatives = [score for score, label in zip(scores, labels, strict=True) if not label]
    won = sum((p > n) + (p == n) / 2 for p in positives for n in negatives)
    return won / (len(positives) * len(negatives))


def precision_at_positives(scores: list[float], labels: list[bool]) -> float:
    """Return the mean over positives of the precision among all that score at least as high."""
    precisions = []
    for score, label in zip(scores, labels, strict=True):
        if label:
            above = [other for s, other in zip(scores, labels, strict=True) if s >= score]
            precisions.append(sum(above) / len(above))
    return sum(precisions) / len(precisions)


labelled = st.lists(
    st.tuples(st.integers(-4, 4).map(float), st.booleans()), min_size=2, max_size=30
).filter(lambda rows: len({label for _, label in rows}) == 2)


@settings(deadline=None)
@given(labelled)
def test_the_areas_are_those_of_counting_pairs_and_precisions(rows) -> None:
    scores, labels = map(list, zip(*rows, strict=True))
    found = detect(scores, labels, resamples=3)
    assert found.auc == pytest.approx(pairs_won(scores, labels), abs=1e-12)
    assert found.average_precision == pytest.approx(
        precision_at_positives(scores, labels), abs=1e-12
    )
    assert found.chance == pytest.approx(sum(labels) / len(labels))


@settings(deadline=None)
@given(labelled, st.integers(0, 10**6))
def test_the_areas_of_counts_are_those_of_items_repeated_so_often(rows, seed) -> None:
    scores, labels = (np.array(part) for part in zip(*rows, strict=True))
    often = np.random.default_rng(seed).integers(1, 4, len(scores))
    distinct, place = np.unique(scores, return_inverse=True)
    counts = [
        np.bincount(place[labels == kind], often[labels == kind], len(distinct)).astype(np.int64)
        for kind in (True, False)
    ]
    auc, precision = areas_of_counts(counts[0][np.newaxis], counts[1][np.newaxis])[0]
    repeated = np.repeat(labels, often), np.repeat(scores, often)
    assert auc == pytest.approx(roc_auc_score(*repeated), abs=1e-12)
    assert precision == pytest.approx(average_precision_score(*repeated), abs=1e-12)


def test_bootstrap_samples_are_those_drawn_from_positives_and_negatives_apart() -> None:
    random = np.random.default_rng(0)
    labels = random.random(60) < 0.3
    scores = np.round(random.normal(size=60) + labels, 1)
    positives, negatives = np.flatnonzero(labels), np.flatnonzero(~labels)
    draws = [np.random.default_rng([7, kind]) for kind in (0, 1)]
    chosen = [
        of_kind[draw.integers(0, len(of_kind), (20, len(of_kind)))]
        for of_kind, draw in zip((positives, negatives), draws, strict=True)
    ]
    expected = [
        (
            roc_auc_score(labels[items], scores[items]),
            average_precision_score(labels[items], scores[items]),
        )
        for items in np.concatenate(chosen, axis=1)
    ]
    np.testing.assert_allclose(detect(scores, labels, 7, 20).resampled, expected, atol=1e-12)


def test_blocks_do_not_change_the_samples(monkeypatch) -> None:
    random = np.random.default_rng(0)
    labels, scores = random.random(50) < 0.4, random.normal(size=50)
    whole = detect(scores, labels, resamples=30).resampled
    monkeypatch.setattr("recbole_margo.evaluation.detection.CELLS", 350)
    np.testing.assert_array_equal(detect(scores, labels, resamples=30).resampled, whole)


def test_intervals_hold_the_true_area_about_as_often_as_they_say() -> None:
    distance = 0.8
    truth = norm.cdf(distance / math.sqrt(2))
    held = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        labels = np.arange(150) < 50
        found = detect(random.normal(size=150) + distance * labels, labels, seed, 300)
        estimate = auc_estimate([found])
        held += estimate.low <= truth <= estimate.high
    # 285 are expected, with a deviation of 4; the percentile interval is a little too narrow.
    assert 270 <= held <= 297


def test_scores_of_the_same_items_are_compared_pairwise() -> None:
    random = np.random.default_rng(1)
    labels = random.random(400) < 0.3
    good = random.normal(size=400) + labels
    alike = good + 0.05 * random.normal(size=400)
    ours, theirs = detect(alike, labels, 3), detect(good, labels, 3)
    difference = auc_estimate([ours], [theirs])
    assert difference.mean == pytest.approx(ours.auc - theirs.auc)
    alone = auc_estimate([ours])
    assert difference.high - difference.low < (alone.high - alone.low) / 4
    same = auc_estimate([ours], [ours])
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_several_draws_have_a_mean_a_deviation_and_a_narrower_interval() -> None:
    labels = np.arange(200) < 60
    draws = [
        detect(np.random.default_rng(seed).normal(size=200) + labels, labels, seed)
        for seed in range(4)
    ]
    found, single = auc_estimate(draws), auc_estimate(draws[:1])
    values = [draw.auc for draw in draws]
    assert found.mean == pytest.approx(np.mean(values))
    assert found.deviation == pytest.approx(np.std(values, ddof=1))
    assert single.deviation is None
    assert 0.4 < (found.high - found.low) / (single.high - single.low) < 0.6  # 1 / sqrt(4)
    precision = precision_estimate(draws)
    assert precision.low < np.mean([draw.average_precision for draw in draws]) < precision.high


def test_a_mean_curve_of_one_draw_has_the_area_of_the_draw() -> None:
    random = np.random.default_rng(2)
    labels = random.random(500) < 0.4
    scores = random.normal(size=500) + labels
    grid = np.linspace(0, 1, 2001)
    curve = mean_roc([(scores, labels)], grid)
    area = float(((curve[1:] + curve[:-1]) / 2 * np.diff(grid)).sum())
    assert area == pytest.approx(detect(scores, labels, resamples=1).auc, abs=1e-3)
    twice = mean_roc([(scores, labels), (-scores, labels)], grid)
    np.testing.assert_allclose(twice, (curve + mean_roc([(-scores, labels)], grid)) / 2)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, 2.0], [True, True], "items of both kinds, found 2 to be found among 2"),
        ([1.0, 2.0], [False, False], "found 0 to be found among 2"),
        ([1.0, float("nan")], [True, False], "finite scores, found nan of item 1"),
        ([1.0], [True, False], r"found shapes \(1,\) and \(2,\)"),
        ([1.0, 2.0], [1, 0], "int64"),
    ],
)
def test_what_cannot_be_measured_is_refused(scores, labels, message) -> None:
    with pytest.raises(RecBoleMargoError, match=message):
        detect(scores, labels)
