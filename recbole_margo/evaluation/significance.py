"""Whether one model is better than another for the same users: paired tests, Holm's correction."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wilcoxon

from recbole_margo.errors import RecBoleMargoError

# Equal values need not be equal floats once they are averaged over seeds; metrics lie in [0, 1].
DECIMALS = 12
EXACT_WILCOXON_USERS = 50
# Bounds the memory of the bootstrap to some 20 MB, however many users there are.
CELLS = 2**20


@dataclass(frozen=True)
class PairedComparison:
    """How a model compares with a reference on the same users.

    Args:
        difference: mean of model - reference; positive where the model is better.
        low: lower end of the bootstrap's percentile interval of the difference.
        effect_size: Cohen's d_z, the mean of the differences over their standard deviation; 0
            where all are 0, plus or minus infinity where all are the same other number.
    """

    users: int
    difference: float
    low: float
    high: float
    effect_size: float
    wilcoxon_p: float
    bootstrap_p: float


def compare_paired(
    values: ArrayLike,
    reference: ArrayLike,
    seed: int = 0,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> PairedComparison:
    """Compare a metric of two models on the same users; both tests are two-sided.

    Wilcoxon's signed-rank test leaves out users without a difference, as Wilcoxon did: most users
    get nothing from either model, and Pratt's way of ranking them first comes close to a sign test
    then, which forgets how large the differences are. The p-value is exact for at most 50 users
    with differences of distinct sizes, else of the normal approximation with a correction for ties
    (rough below some 10 such users); without any difference it is 1.

    The bootstrap draws users with replacement. Its p-value belongs to its percentile interval: with
    n resamples, b of which have a mean difference on the other side of 0 or at 0, it is
    2 (b + 1) / (n + 1), at most 1 and never 0. Where it is below 1 - confidence, the interval
    leaves 0 out.

    Args:
        values: a metric of the model by user [N].
        reference: the same metric of the reference, of the same users in the same order [N].
        resamples: number of resamples n.

    Raises:
        RecBoleMargoError: if the values are not two equally long rows of at least 2 finite numbers,
            or if there are no resamples or the confidence is not between 0 and 1.

    Source:
        Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1945; Efron and
        Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 15; Davison and
        Hinkley, Bootstrap Methods and their Application, 1997, section 4.2, on (b + 1) / (n + 1).
    """
    if resamples < 1 or not 0 < confidence < 1:
        raise RecBoleMargoError(
            "expected at least 1 resample and a confidence between 0 and 1, found "
            f"resamples={resamples} and confidence={confidence}"
        )
    differences = _differences(values, reference)
    means = np.round(_resampled_means(differences, seed, resamples), DECIMALS)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    beyond = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    return PairedComparison(
        users=len(differences),
        difference=float(differences.mean()),
        low=float(low),
        high=float(high),
        effect_size=_effect_size(differences),
        wilcoxon_p=_wilcoxon_p(differences),
        bootstrap_p=min(1.0, 2 * (beyond + 1) / (resamples + 1)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for being several, by Holm's step-down method.

    Returns:
        The adjusted p-values in the same order, at most 1; rejecting those below a level keeps the
        probability of any false rejection below that level.

    Raises:
        RecBoleMargoError: if a value is not between 0 and 1.

    Source:
        Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statistics 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise RecBoleMargoError(f"expected p-values between 0 and 1, found {list(p_values)}")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(value) for value in adjusted]


def _differences(values: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    one, other = np.asarray(values, np.float64), np.asarray(reference, np.float64)
    if one.ndim != 1 or one.shape != other.shape:
        raise RecBoleMargoError(
            "expected a value of the model and one of the reference for each user, found shapes "
            f"{one.shape} and {other.shape}: compare evaluations of the same users"
        )
    if len(one) < 2:
        raise RecBoleMargoError(f"expected at least 2 users to compare models, found {len(one)}")
    for name, row in (("model", one), ("reference", other)):
        wrong = np.flatnonzero(~np.isfinite(row))
        if len(wrong):
            raise RecBoleMargoError(
                f"expected finite values, found {row[wrong[0]]} of the {name} for user "
                f"{wrong[0]} ({len(wrong)} such users)"
            )
    return np.round(one - other, DECIMALS)


def _effect_size(differences: NDArray[np.float64]) -> float:
    mean = float(differences.mean())
    # The standard deviation of equal floats need not come out as 0.
    if np.ptp(differences) == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / float(differences.std(ddof=1))


def _wilcoxon_p(differences: NDArray[np.float64]) -> float:
    other = differences[differences != 0]
    if not len(other):
        return 1.0
    distinct = len(np.unique(np.abs(other))) == len(other)
    method = "exact" if distinct and len(other) <= EXACT_WILCOXON_USERS else "approx"
    with warnings.catch_warnings():
        # Some versions say that the approximation is rough for few differences; the docs do too.
        warnings.simplefilter("ignore", UserWarning)
        return float(wilcoxon(other, zero_method="wilcox", method=method).pvalue)


def _resampled_means(
    differences: NDArray[np.float64], seed: int, resamples: int
) -> NDArray[np.float64]:
    """Return the mean of each bootstrap sample [n].

    A mean depends only on how often each distinct value was drawn, and these numbers are
    multinomial: of few distinct values that is much less work than to draw the users.
    """
    random, users = np.random.default_rng(seed), len(differences)
    distinct, counts = np.unique(differences, return_counts=True)
    few = 10 * len(distinct) < users
    at_once = max(1, CELLS // (len(distinct) if few else users))
    means = []
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        if few:
            drawn = random.multinomial(users, counts / users, size)
            means.append(drawn @ distinct / users)
        else:
            means.append(differences[random.integers(0, users, (size, users))].mean(axis=1))
    return np.concatenate(means)
