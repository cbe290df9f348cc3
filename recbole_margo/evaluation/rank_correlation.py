"""Spearman's rank correlation with a bootstrap interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

# Bounds the memory of the bootstrap to some 30 MB a matrix.
CELLS = 2**20
# Feature files hold float32: rows scaled to length 1 differ in the seventh digit.
RELATIVE_SPREAD = 1e-5


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho of two values of the same rows.

    Args:
        rho: between -1 and 1; NaN where one of the values is the same for all rows.
        low: lower end of its 95 % interval; NaN with it.
        high: its upper end.
    """

    rho: float
    low: float
    high: float
    count: int

    @classmethod
    def of(
        cls, one: ArrayLike, other: ArrayLike, resamples: int = 1000, seed: int = 0
    ) -> RankCorrelation:
        """Correlate the ranks, ties sharing the mean of theirs.

        Args:
            one: values [N].
            other: values of the same rows [N].

        Returns:
            The correlation with the percentile interval of the bootstrap.

        Source: Spearman 1904; Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
        """
        x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
        count = len(x)
        if count < 3 or is_constant(x) or is_constant(y):
            return cls(math.nan, math.nan, math.nan, count)
        random = np.random.default_rng(seed)
        at_once, drawn = max(1, CELLS // count), []
        for start in range(0, resamples, at_once):
            rows = random.integers(0, count, (min(at_once, resamples - start), count))
            drawn.append(_spearman(x[rows], y[rows]))
        low, high = np.nanquantile(np.concatenate(drawn), [0.025, 0.975])
        return cls(float(_spearman(x[None], y[None])[0]), float(low), float(high), count)


def is_constant(values: NDArray[np.float64]) -> bool:
    """Return whether values differ by no more than rounding."""
    return not len(values) or bool(np.ptp(values) <= RELATIVE_SPREAD * np.abs(values).max())


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank correlation of each row of x and y [B, N]; NaN without variance."""
    a, b = (rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (x, y))
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    rho: NDArray[np.float64] = np.full(len(a), np.nan)
    np.divide((a * b).sum(axis=1), scale, out=rho, where=scale > 0)
    return rho
