"""How well a score tells bad items from good ones: ROC-AUC, average precision, intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from recbole_margo.errors import RecBoleMargoError

RESAMPLES = 1000
CONFIDENCE = 0.95
# Bounds the memory of the bootstrap to some 60 MB, however many items there are.
CELLS = 2**20


@dataclass(frozen=True)
class Detection:
    """How well a score finds the positives among the items of one draw.

    Args:
        positives: how many of them are to be found.
        auc: area under the ROC curve: the probability that a positive scores higher than a
            negative, ties counting one half.
        average_precision: mean precision at the ranks of the positives.
        resampled: ROC-AUC and average precision of each bootstrap sample [R, 2].
    """

    items: int
    positives: int
    auc: float
    average_precision: float
    resampled: NDArray[np.float64] = field(repr=False, compare=False)

    @property
    def chance(self) -> float:
        """Average precision of a score that knows nothing: the share of positives."""
        return self.positives / self.items


@dataclass(frozen=True)
class Estimate:
    """A number over one or more draws.

    Args:
        deviation: sample standard deviation over the draws; none for a single one.
        low: lower end of the percentile interval of the mean, of the bootstrap over items.
    """

    mean: float
    deviation: float | None
    low: float
    high: float


def detect(
    scores: ArrayLike, positive: ArrayLike, seed: int = 0, resamples: int = RESAMPLES
) -> Detection:
    """Measure how well high scores mark the positives.

    The bootstrap is stratified: positives and negatives are each drawn with replacement, so that
    their numbers stay. Two scores of the same items, measured with the same seed, are drawn the
    same items: their differences, sample by sample, are those of a paired bootstrap.

    Args:
        scores: finite numbers, the higher the more suspicious [N].
        positive: which items are to be found [N], bool.

    Raises:
        RecBoleMargoError: if there is not a finite score and a label for each item, or if there are
            no positives or no negatives.

    Source:
        Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 1982; Efron
        and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.
    """
    values, labels = _checked(scores, positive)
    return Detection(
        items=len(values),
        positives=int(labels.sum()),
        auc=float(roc_auc_score(labels, values)),
        average_precision=float(average_precision_score(labels, values)),
        resampled=_resample(values, labels, seed, resamples),
    )


def auc_estimate(draws: Sequence[Detection], reference: Sequence[Detection] = ()) -> Estimate:
    """Return the ROC-AUC over draws, or how much it is above a reference's.

    Args:
        draws: measurements of one score on independent draws, such as one a seed.
        reference: those of another score on the same items, measured with the same seeds.
    """
    return _estimate(draws, reference, "auc", 0)


def precision_estimate(draws: Sequence[Detection]) -> Estimate:
    """Return the average precision over draws."""
    return _estimate(draws, (), "average_precision", 1)


def mean_roc(
    draws: Sequence[tuple[ArrayLike, ArrayLike]], false_positive_rates: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the ROC curve, averaged over draws at the same false positive rates.

    Args:
        draws: scores [N] and labels [N] of each draw.
        false_positive_rates: where [G], ascending in [0, 1].

    Returns:
        The true positive rates [G].

    Source: Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 2006, Algorithm 3.
    """
    curves = []
    for scores, positive in draws:
        values, labels = _checked(scores, positive)
        false_rate, true_rate, _ = roc_curve(labels, values, drop_intermediate=False)
        curves.append(np.interp(false_positive_rates, false_rate, true_rate))
    mean: NDArray[np.float64] = np.mean(curves, axis=0)
    return mean


def areas_of_counts(
    positives: NDArray[np.int64], negatives: NDArray[np.int64]
) -> NDArray[np.float64]:
    r"""Return ROC-AUC and average precision of samples that are given by counts.

    With p_g and n_g the positives and negatives at the g-th lowest score, P and N their sums:

    .. math:: AUC = \frac{1}{P N} \sum_g p_g \Big( \sum_{h < g} n_h + \frac{n_g}{2} \Big), \qquad
        AP = \frac{1}{P} \sum_g p_g
        \frac{\sum_{h \ge g} p_h}{\sum_{h \ge g} (p_h + n_h)}

    Args:
        positives: of each sample at each distinct score, ascending [R, G].
        negatives: likewise [R, G].

    Returns:
        The two areas of each sample [R, 2].
    """
    total_positives = positives.sum(axis=1)
    total_negatives = negatives.sum(axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    auc = (positives * below).sum(axis=1) / (total_positives * total_negatives)
    found = np.cumsum(positives[:, ::-1], axis=1)[:, ::-1]
    looked_at = np.cumsum((positives + negatives)[:, ::-1], axis=1)[:, ::-1]
    # Where nothing has been looked at yet, there is no positive either.
    precision = found / np.maximum(looked_at, 1)
    average_precision = (positives * precision).sum(axis=1) / total_positives
    return np.stack([auc, average_precision], axis=1)


def _checked(
    scores: ArrayLike, positive: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, labels = np.asarray(scores, np.float64), np.asarray(positive)
    if values.ndim != 1 or values.shape != labels.shape or labels.dtype != np.bool_:
        raise RecBoleMargoError(
            "expected a score and a true or false for each item, found shapes "
            f"{values.shape} and {labels.shape} of {labels.dtype}"
        )
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise RecBoleMargoError(
            f"expected finite scores, found {values[wrong[0]]} of item {wrong[0]} ({len(wrong)} "
            "such items)"
        )
    if labels.all() or not labels.any():
        raise RecBoleMargoError(
            f"expected items of both kinds, found {int(labels.sum())} to be found among "
            f"{len(labels)}"
        )
    return values, labels


def _resample(
    values: NDArray[np.float64], labels: NDArray[np.bool_], seed: int, resamples: int
) -> NDArray[np.float64]:
    """Return both areas of each bootstrap sample [R, 2]; they depend on counts a score alone."""
    distinct, group = np.unique(values, return_inverse=True)
    groups = (group[labels], group[~labels])
    generators = [np.random.default_rng([seed, kind]) for kind in (0, 1)]
    # Not by the number of distinct scores, which differs between scores of the same items.
    at_once = max(1, CELLS // len(values))
    areas = []
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        counts = [
            _drawn_counts(of_kind, len(distinct), random, size)
            for of_kind, random in zip(groups, generators, strict=True)
        ]
        areas.append(areas_of_counts(*counts))
    return np.concatenate(areas)


def _drawn_counts(
    groups: NDArray[np.intp], count: int, random: np.random.Generator, size: int
) -> NDArray[np.int64]:
    """Draw as many items as there are, and return how many fall on each score [size, count]."""
    drawn = groups[random.integers(0, len(groups), (size, len(groups)))]
    cells = drawn + count * np.arange(size)[:, np.newaxis]
    return np.bincount(cells.ravel(), minlength=size * count).reshape(size, count)


def _estimate(
    draws: Sequence[Detection], reference: Sequence[Detection], name: str, column: int
) -> Estimate:
    values = np.array([getattr(draw, name) for draw in draws])
    resampled = np.mean([draw.resampled[:, column] for draw in draws], axis=0)
    if reference:
        values = values - np.array([getattr(draw, name) for draw in reference])
        resampled = resampled - np.mean([draw.resampled[:, column] for draw in reference], axis=0)
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(
        mean=float(values.mean()),
        deviation=float(values.std(ddof=1)) if len(values) > 1 else None,
        low=float(low),
        high=float(high),
    )
