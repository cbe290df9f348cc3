"""Ridge regression whose prediction for each row was made without that row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

# Ridge penalties, in units of the mean eigenvalue; the grid grows while its end is the best.
PENALTIES = 10.0 ** np.arange(-3.0, 4.5, 0.5)
GROWTH, LARGEST_PENALTY = 10.0**0.5, 1e8
# The penalty is chosen by the error on at most so many rows, predicted by a fit to all.
ROWS_THAT_CHOOSE = 4096
# Bounds a block of features or predictions to some 64 MB.
BLOCK_CELLS = 2**24
# Up to this size the Gram matrix is decomposed in float64, which takes seconds at most.
EXACT_SIZE = 2048
# Directions of smaller relative variance are rounding.
NEGLIGIBLE = 1e-5


@dataclass(frozen=True)
class HeldOutPrediction:
    """What a ridge regression says of each row when it was fitted to the other rows.

    Attributes:
        predicted: how far each row's target, as a fit without the row predicts it, lies from the
            mean target of the other rows [N, K].
        penalty: lambda, in units of the mean variance along the directions of the features.
        explained: share of the targets' variance that is predicted, 1 - error / variance; about 0
            or a little less where features and targets have nothing to do with each other.
    """

    predicted: NDArray[np.float32]
    penalty: float
    explained: float


def held_out_prediction(
    features: NDArray[np.floating], targets: NDArray[np.float32], seed: int = 0
) -> HeldOutPrediction:
    r"""Predict every row's target by a ridge regression on the other rows.

    .. math:: H = \tfrac{1}{N} 1 1^\top + X (X^\top X + \lambda I)^{-1} X^\top, \qquad
        \hat T_{i} = \frac{(H T)_i - H_{ii} T_i}{1 - H_{ii}}

    with X standardised by column. That is the prediction of a fit without row i, with equal
    standardisation: nothing is fitted N times (Allen's PRESS, Technometrics 16, 1974). lambda
    minimises the squared error of these predictions. Returned is
    :math:`\hat T_i - \mathrm{mean}_{j \ne i} T_j`: what the features say beyond the mean, which
    leans away from the row's own target.

    Memory: one matrix of size min(N, D) squared and three, one block of features, and the result.

    Args:
        features: of the rows [N, D], finite, of any floating type, memory-mapped or not.
        targets: T [N, K].
        seed: decides on which rows the penalty is chosen where there are many.

    Returns:
        The predictions; zeros where no column of the features varies.
    """
    rows = len(features)
    centred = targets - targets.mean(axis=0, dtype=np.float64).astype(np.float32)
    basis = _Basis.of(features)
    if rows < 3 or not len(basis.variances):
        return HeldOutPrediction(np.zeros_like(targets), np.inf, 0.0)
    coefficients = basis.transposed_times(features, centred)
    variance = float((centred.astype(np.float64) ** 2).mean())
    chosen = np.arange(rows)
    if rows > ROWS_THAT_CHOOSE:
        chosen = np.sort(np.random.default_rng(seed).choice(rows, ROWS_THAT_CHOOSE, replace=False))
    scores = basis.scores(features, chosen)
    errors: dict[float, float] = {}
    for penalty in _penalties(errors):
        predicted = _predict(scores, coefficients, centred[chosen], basis, penalty, rows)
        missed = centred[chosen] * np.float32(rows / (rows - 1)) - predicted
        errors[penalty] = float((missed.astype(np.float64) ** 2).mean())
    best = min(errors, key=lambda penalty: errors[penalty])
    result = np.empty_like(targets)
    for start, stop in _blocks(rows, features.shape[1]):
        block = np.arange(start, stop)
        scores = basis.scores(features, block)
        result[block] = _predict(scores, coefficients, centred[block], basis, best, rows)
    explained = 1.0 - errors[best] / variance if variance > 0 else 0.0
    return HeldOutPrediction(result, best, explained)


@dataclass(frozen=True)
class _Basis:
    """Orthogonal directions of standardised features.

    Attributes:
        mean: of each column [D].
        scale: deviation of each column [D], 1 where it is zero.
        variances: eigenvalues of X^T X, those that are not rounding [r].
        directions: their eigenvectors [D, r].
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    variances: NDArray[np.float32]
    directions: NDArray[np.float32]

    @classmethod
    def of(cls, features: NDArray[np.floating]) -> _Basis:
        rows, columns = features.shape
        mean, scale = _moments(features)
        wide, size = columns > rows, min(rows, columns)
        gram = np.zeros((size, size), np.float64 if size <= EXACT_SIZE else np.float32)
        if wide:
            whole = _standardized(features[:], mean, scale)
            whole = whole.astype(gram.dtype)
            gram += whole @ whole.T
        else:
            for start, stop in _blocks(rows, columns):
                block = _standardized(features[start:stop], mean, scale).astype(gram.dtype)
                gram += block.T @ block
        values, vectors = scipy.linalg.eigh(gram, overwrite_a=True, driver="evd")
        there = values > max(float(values[-1]), 0.0) * NEGLIGIBLE
        values, vectors = values[there], vectors[:, there]
        if wide:
            vectors = whole.T @ (vectors / np.sqrt(values))
        return cls(mean, scale, values.astype(np.float32), vectors.astype(np.float32))

    def scores(
        self, features: NDArray[np.floating], chosen: NDArray[np.intp]
    ) -> NDArray[np.float32]:
        """Return standardised rows along the directions [C, r]."""
        rows: NDArray[np.float32] = (
            _standardized(features[chosen], self.mean, self.scale) @ self.directions
        )
        return rows

    def transposed_times(
        self, features: NDArray[np.floating], targets: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return (X V)^T T [r, K]."""
        product = np.zeros((features.shape[1], targets.shape[1]), dtype=np.float32)
        for start, stop in _blocks(*features.shape):
            block = _standardized(features[start:stop], self.mean, self.scale)
            product += block.T @ targets[start:stop]
        result: NDArray[np.float32] = self.directions.T @ product
        return result


def _predict(
    scores: NDArray[np.float32],
    coefficients: NDArray[np.float32],
    targets: NDArray[np.float32],
    basis: _Basis,
    penalty: float,
    rows: int,
) -> NDArray[np.float32]:
    """Return predictions beyond the mean of the others [C, K] of rows with these scores [C, r].

    The algebra takes the intercept's part of the leverage out, which would drown small predictions
    in rounding: with h the leverage of X alone,
    (fitted - h t N / (N - 1)) / (1 - 1 / N - h) for a centred target t.
    """
    shrunk = 1.0 / (basis.variances + np.float32(penalty * basis.variances.mean()))
    fitted = (scores * shrunk) @ coefficients
    leverage = (scores**2 @ shrunk)[:, np.newaxis]
    left = np.maximum(1.0 - 1.0 / rows - leverage, np.finfo(np.float32).eps)
    own = targets * np.float32(rows / (rows - 1))
    predicted: NDArray[np.float32] = ((fitted - leverage * own) / left).astype(np.float32)
    return predicted


def _penalties(errors: Mapping[float, float]) -> Iterator[float]:
    """Yield penalties to try; `errors` is filled with the error of each before the next."""
    yield from (float(penalty) for penalty in PENALTIES)
    while (last := max(errors)) < LARGEST_PENALTY and errors[last] == min(errors.values()):
        yield last * GROWTH


def _moments(features: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows, columns = features.shape
    total, squares = np.zeros(columns), np.zeros(columns)
    for start, stop in _blocks(rows, columns):
        total += features[start:stop].sum(axis=0, dtype=np.float64)
    mean = total / rows
    for start, stop in _blocks(rows, columns):
        squares += ((features[start:stop] - mean) ** 2).sum(axis=0)
    scale = np.sqrt(squares / rows)
    scale[scale <= 1e-12 * np.maximum(np.abs(mean), 1e-30)] = 1.0
    return mean.astype(np.float32), scale.astype(np.float32)


def _standardized(
    rows: NDArray[np.floating], mean: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    result: NDArray[np.float32] = (rows.astype(np.float32) - mean) / scale
    return result


def _blocks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    step = max(1, BLOCK_CELLS // max(columns, 1))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)
