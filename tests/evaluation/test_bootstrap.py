"""Intervals from resampling an item's users."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm, spearmanr, t

from recbole_margo.evaluation import bootstrap as intervals
from recbole_margo.evaluation.bootstrap import RankCorrelation, ratio_intervals, sum_by_item


def planted(counts: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return c z, c and the item of pairs whose items have means between 0.1 and 0.9."""
    random = np.random.default_rng(seed)
    items = np.repeat(np.arange(1, len(counts) + 1), counts)
    means = random.uniform(0.1, 0.9, len(counts) + 1)[items]
    weight = random.uniform(0.2, 1.0, len(items))
    share = random.beta(4 * means, 4 * (1 - means))
    return (weight * share)[:, None], weight[:, None], items


def test_intervals_are_those_of_direct_resampling() -> None:
    above, below, items = planted([3, 8, 40, 1])
    low, high = ratio_intervals(above, below, items, 6, resamples=20_000)
    random = np.random.default_rng(99)
    for item in (1, 2, 3, 4):
        pairs = np.flatnonzero(items == item)
        ratios = []
        for _ in range(4_000):
            drawn = [*random.choice(pairs, len(pairs)), random.integers(len(items))]
            ratios.append(above[drawn].sum() / below[drawn].sum())
        n = len(pairs)
        tail = norm.cdf(-np.sqrt((n + 1) / n) * t.ppf(0.975, n))
        expected = np.quantile(ratios, [tail, 1 - tail])
        np.testing.assert_allclose([low[item, 0], high[item, 0]], expected, atol=0.03)


@pytest.mark.parametrize("pairs", [3, 5, 10, 30])
def test_intervals_cover_the_truth_as_often_as_they_say(pairs: int) -> None:
    # The mean of a beta distribution is the truth; 1,500 items.
    random = np.random.default_rng(pairs)
    count = 1_500
    truth = random.beta(3, 2, count)
    items = np.repeat(np.arange(count), pairs)
    share = random.beta(2 * truth[items], 2 * (1 - truth[items]))[:, None]
    low, high = ratio_intervals(share, np.ones_like(share), items, count, resamples=500)
    covered = ((low[:, 0] <= truth) & (truth <= high[:, 0])).mean()
    assert 0.925 <= covered <= 0.99


def test_few_pairs_have_wide_intervals_even_if_they_agree() -> None:
    # Item 1 has 2 pairs and item 2 has 200, all at 0.05; the others say what is usual.
    random = np.random.default_rng(0)
    items = np.repeat([1, 2, *range(3, 60)], [2, 200, *[20] * 57])
    share = np.where(items < 3, 0.05, random.uniform(0.3, 0.9, len(items)))[:, None]
    _, high = ratio_intervals(share, np.ones_like(share), items, 60)
    assert high[1, 0] > 0.3
    assert high[2, 0] < 0.06


def test_items_without_pairs_have_no_interval_and_blocks_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    above, below, items = planted([4, 9, 2, 7])
    above, below = np.hstack([above, below - above]), np.hstack([below, below])
    low, high = ratio_intervals(above, below, items, 7, resamples=4_000)
    assert np.isnan(low[[0, 5, 6]]).all()
    assert np.isfinite(low[1:5]).all()
    # Columns are resampled together: the intervals of x and 1 - x mirror each other.
    np.testing.assert_allclose(low[1:5, 0], 1 - high[1:5, 1], atol=1e-12)
    monkeypatch.setattr(intervals, "CELLS", 4_000)
    again = ratio_intervals(above, below, items, 7, resamples=4_000)
    np.testing.assert_allclose(again[0], low, atol=0.05)


def test_resamples_that_say_nothing_widen_the_interval() -> None:
    # Of four pairs only one has any confidence: many resamples have none.
    above, below = np.array([[0.0], [0.0], [0.0], [0.4]]), np.array([[0.0], [0.0], [0.0], [0.8]])
    low, high = ratio_intervals(above, below, np.array([1, 1, 1, 1]), 2)
    assert (low[1, 0], high[1, 0]) == (0.0, 1.0)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=12), st.integers(0, 1000))
def test_intervals_hold_the_ratio_and_stay_between_0_and_1(counts: list[int], seed: int) -> None:
    above, below, items = planted(counts, seed)
    if not len(items):
        return
    n_items = len(counts) + 1
    low, high = ratio_intervals(above, below, items, n_items, resamples=100, seed=seed)
    having = np.unique(items)
    ratio = sum_by_item(items, above, n_items)[having] / sum_by_item(items, below, n_items)[having]
    assert (low[having] <= ratio + 1e-12).all()
    assert (ratio <= high[having] + 1e-12).all()
    assert low[having].min() >= 0
    assert high[having].max() <= 1


def test_rank_correlation_is_scipys_also_with_ties() -> None:
    random = np.random.default_rng(1)
    x = random.integers(0, 6, 80).astype(float)
    y = x + random.normal(0, 3, 80)
    found = RankCorrelation.of(x, y, resamples=2_000)
    assert found.rho == pytest.approx(spearmanr(x, y).statistic)
    expected = bootstrap(
        (x, y),
        lambda a, b: spearmanr(a, b).statistic,
        paired=True,
        vectorized=False,
        n_resamples=1_000,
        method="percentile",
        random_state=0,
    ).confidence_interval
    assert found.low == pytest.approx(expected.low, abs=0.04)
    assert found.high == pytest.approx(expected.high, abs=0.04)
