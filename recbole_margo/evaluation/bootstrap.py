"""Bootstrap intervals: of an item's averages over its users, and of a rank correlation."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata, t
from tqdm import tqdm

# Bounds the memory of a block of resamples to some 30 MB per column.
CELLS = 2**22


def ratio_intervals(
    numerators: NDArray[np.float64],
    denominators: NDArray[np.float64],
    items: NDArray[np.intp],
    n_items: int,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Return an interval of :math:`\sum_p a_p / \sum_p b_p` over the pairs p of each item.

    The n pairs of an item, one per user, are drawn with replacement; numerator and denominator of a
    pair stay together, and so do the columns. To each resample one pair is added that is drawn from
    all items: a bootstrap of few pairs, which may be alike by chance, knows nothing of what the
    next user could say. The ends are those of the expanded percentile interval, the quantiles
    :math:`\Phi(\mp\sqrt{(n + 1) / n}\; t_n)` with Student's t of n degrees of freedom, moved so
    that the ratio itself lies inside. A resample whose denominator is 0 says nothing: it counts as
    0 for the lower end and as 1 for the upper.

    Args:
        numerators: a [P, K], with 0 <= a <= b.
        denominators: b [P, K].
        items: item of each pair [P], ascending.

    Returns:
        Lower and upper end [I, K]; NaN for items without a pair.

    Source: Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician
    2015, on expanded intervals; Ferguson, "A Bayesian Analysis of Some Nonparametric Problems",
    Annals of Statistics 1973: the added pair is a Dirichlet process prior that weighs one pair.
    """
    random = np.random.default_rng(seed)
    counts = np.bincount(items, minlength=n_items)
    low = np.full((n_items, numerators.shape[1]), np.nan)
    high = low.copy()
    observed, at = np.flatnonzero(counts), 0
    bar = tqdm(
        total=len(items), desc="resampling users", disable=not sys.stderr.isatty(), leave=False
    )
    with bar:
        for block in _blocks(observed, counts, resamples):
            pairs = np.arange(at, at + counts[block].sum())
            ratios = _resampled(random, numerators, denominators, pairs, counts[block], resamples)
            low[block], high[block] = _ends(ratios, counts[block], 1 - level)
            at += len(pairs)
            bar.update(len(pairs))
    whole = ratio(*(sum_by_item(items, part, n_items) for part in (numerators, denominators)))
    return np.fmin(low, whole), np.fmax(high, whole)


def sum_by_item(
    items: NDArray[np.intp], values: NDArray[np.float64], n_items: int
) -> NDArray[np.float64]:
    """Return the sums of values [P, K] by item [I, K]."""
    columns = [np.bincount(items, column, minlength=n_items) for column in values.T]
    return np.stack(columns, axis=1)


def ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quotient of sums, NaN where the divisor, which is broadcast, is 0."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _blocks(
    observed: NDArray[np.intp], counts: NDArray[np.intp], resamples: int
) -> Iterator[NDArray[np.intp]]:
    """Yield items whose pairs, resampled, fit into a block; at least one item each."""
    at_once, first, pairs = max(1, CELLS // resamples), 0, 0
    for index, count in enumerate(counts[observed]):
        if pairs and pairs + count > at_once:
            yield observed[first:index]
            first, pairs = index, 0
        pairs += int(count)
    if pairs:
        yield observed[first:]


def _resampled(
    random: np.random.Generator,
    numerators: NDArray[np.float64],
    denominators: NDArray[np.float64],
    pairs: NDArray[np.intp],
    counts: NDArray[np.intp],
    resamples: int,
) -> NDArray[np.float64]:
    """Return the ratio of each resample of each item [R, I, K]; NaN where b is 0."""
    starts = np.concatenate([[0], counts.cumsum()[:-1]])
    first, size = np.repeat(pairs[starts], counts), np.repeat(counts, counts)
    ratios = np.empty((resamples, len(counts), numerators.shape[1]))
    at_once = max(1, CELLS // len(pairs))
    for begin in range(0, resamples, at_once):
        rows = min(at_once, resamples - begin)
        drawn = first + (random.random((rows, len(pairs))) * size).astype(np.intp)
        added = random.integers(0, len(numerators), (rows, len(counts)))
        for column in range(numerators.shape[1]):
            above, below = (
                np.add.reduceat(values[drawn, column], starts, axis=1) + values[added, column]
                for values in (numerators, denominators)
            )
            ratios[begin : begin + rows, :, column] = ratio(above, below)
    return ratios


def _ends(
    ratios: NDArray[np.float64], counts: NDArray[np.intp], alpha: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the expanded percentile intervals [I, K] of ratios [R, I, K]."""
    tail = norm.cdf(-np.sqrt((counts + 1) / counts) * t.ppf(1 - alpha / 2, counts))
    low = _quantiles(np.nan_to_num(ratios, nan=0.0), tail)
    high = _quantiles(np.nan_to_num(ratios, nan=1.0), 1 - tail)
    return low, high


def _quantiles(values: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quantile [I, K] of values [R, I, K] at each item's own level, interpolated."""
    ordered = np.sort(values, axis=0)
    position = (levels * (len(values) - 1))[None, :, None]
    below = np.floor(position).astype(np.intp)
    above = np.minimum(below + 1, len(values) - 1)
    left = np.take_along_axis(ordered, np.broadcast_to(below, (1, *values.shape[1:])), 0)
    right = np.take_along_axis(ordered, np.broadcast_to(above, (1, *values.shape[1:])), 0)
    found: NDArray[np.float64] = (left + (right - left) * (position - below))[0]
    return found


# Bounds the memory of the bootstrap to some 30 MB a matrix.
RANK_CELLS = 2**20
# Feature files hold float32: rows scaled to length 1 differ in the seventh digit.
RELATIVE_SPREAD = 1e-5


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho of two values of the same rows.

    Args:
        rho: between -1 and 1; NaN where one of the values is the same for all rows.
        low: lower end of its 95 % interval; NaN with it.
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

        Source: Spearman 1904; Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
        """
        x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
        count = len(x)
        if count < 3 or is_constant(x) or is_constant(y):
            return cls(math.nan, math.nan, math.nan, count)
        random = np.random.default_rng(seed)
        at_once, drawn = max(1, RANK_CELLS // count), []
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
