"""The rank correlation against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, spearmanr

from recbole_margo.evaluation.rank_correlation import RankCorrelation


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
