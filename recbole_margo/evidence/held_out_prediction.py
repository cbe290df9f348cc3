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
# Bounds a block of features to some 16 MB.
BLOCK_CELLS = 2**22
# Up to this size the Gram matrix is decomposed in float64, which takes seconds at most.
EXACT_SIZE = 2048
# Directions of smaller relative variance are rounding.
NEGLIGIBLE = 1e-5


@dataclass(frozen=True)
class HeldOutPrediction:
    """The predictions of a ridge regression for each row when it was fitted to the other rows.

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
    features: NDArray[np.floating],
    targets: NDArray[np.float32],
    seed: int = 0,
    items: NDArray[np.intp] | None = None,
) -> HeldOutPrediction:
    r"""Predict every row's target by a ridge regression on the other rows.

    .. math:: H = \tfrac{1}{N} 1 1^\top + X (X^\top X + \lambda I)^{-1} X^\top, \qquad
        \hat T_{i} = \frac{(H T)_i - H_{ii} T_i}{1 - H_{ii}}

    with X standardised by column. That is the prediction of a fit without row i, with equal
    standardisation: nothing is fitted N times (Allen's PRESS, Technometrics 16, 1974). lambda
    minimises the squared error of these predictions. Returned is
    :math:`\hat T_i - \mathrm{mean}_{j \ne i} T_j`: what the features say beyond the mean, which
    leans away from the row's own target.

    Memory: four matrices of size min(N, D) squared, blocks of features, two of targets. The
    features are read in blocks and never copied whole where they have more rows than columns.

    Args:
        features: of the rows [N, D], finite, of any floating type, memory-mapped or not.
        targets: T [N, K].
        seed: decides on which rows the penalty is chosen where there are many.
        items: which rows of the features the targets belong to [N]; all by default.

    Returns:
        The predictions; zeros where no column of the features varies.
    """
    rows = len(targets)
    x = _Rows.of(features, np.arange(rows) if items is None else items)
    centred = targets - targets.mean(axis=0, dtype=np.float64).astype(np.float32)
    basis = _Basis.of(x, centred)
    if rows < 3 or not len(basis.variances):
        return HeldOutPrediction(np.zeros_like(targets), np.inf, 0.0)
    variance = float(np.einsum("ik,ik->", centred, centred, dtype=np.float64)) / centred.size
    chosen = np.arange(rows)
    if rows > ROWS_THAT_CHOOSE:
        chosen = np.sort(np.random.default_rng(seed).choice(rows, ROWS_THAT_CHOOSE, replace=False))
    scores = x[chosen] @ basis.directions
    errors = basis.errors(scores, centred[chosen], rows)
    best = min(errors, key=lambda penalty: errors[penalty])
    # The predictions take the place of the centred targets, which are no longer needed.
    centred[chosen] = basis.predict(scores, centred[chosen], best, rows)
    others = np.setdiff1d(np.arange(rows), chosen, assume_unique=True)
    for start, stop in _blocks(len(others), features.shape[1]):
        block = others[start:stop]
        scores = x[block] @ basis.directions
        centred[block] = basis.predict(scores, centred[block], best, rows)
    explained = 1.0 - errors[best] / variance if variance > 0 else 0.0
    return HeldOutPrediction(centred, best, explained)


@dataclass(frozen=True)
class _Rows:
    """Standardised rows, made when they are needed.

    Attributes:
        features: of all items [I, D].
        items: which rows of them take part [N].
        mean: of each column [D].
        scale: deviation of each column [D], 1 where it is zero.
    """

    features: NDArray[np.floating]
    items: NDArray[np.intp]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    @classmethod
    def of(cls, features: NDArray[np.floating], items: NDArray[np.intp]) -> _Rows:
        count, columns = len(items), features.shape[1]
        total, squares = np.zeros(columns), np.zeros(columns)
        for start, stop in _blocks(count, columns):
            total += features[items[start:stop]].sum(axis=0, dtype=np.float64)
        mean = total / count
        for start, stop in _blocks(count, columns):
            difference = features[items[start:stop]] - mean
            squares += np.einsum("nd,nd->d", difference, difference)
        scale = np.sqrt(squares / count)
        scale[scale <= 1e-12 * np.maximum(np.abs(mean), 1e-30)] = 1.0
        return cls(features, items, mean.astype(np.float32), scale.astype(np.float32))

    def __getitem__(self, chosen: slice | NDArray[np.intp]) -> NDArray[np.float32]:
        # Rows that are chosen by their numbers are a copy, in memory and free to be changed.
        rows = np.asarray(self.features[self.items[chosen]]).astype(np.float32, copy=False)
        rows -= self.mean
        rows /= self.scale
        return rows


@dataclass(frozen=True)
class _Basis:
    """Orthogonal directions of standardised features X.

    Attributes:
        variances: eigenvalues of X^T X, those that are not rounding [r].
        directions: their eigenvectors V [D, r].
        coefficients: (X V)^T T [r, K].
    """

    variances: NDArray[np.float32]
    directions: NDArray[np.float32]
    coefficients: NDArray[np.float32]

    @classmethod
    def of(cls, x: _Rows, targets: NDArray[np.float32]) -> _Basis:
        rows, columns = len(x.items), len(x.mean)
        size = min(rows, columns)
        dtype = np.float64 if size <= EXACT_SIZE else np.float32
        product = np.zeros((columns, targets.shape[1]), dtype=np.float32)
        if columns > rows:
            whole = x[:].astype(dtype, copy=False)
            product += whole.T.astype(np.float32, copy=False) @ targets
            gram = whole @ whole.T
        else:
            gram = np.zeros((size, size), dtype, order="F")
            (add_product,) = scipy.linalg.get_blas_funcs(("syrk",), (gram,))
            for start, stop in _blocks(rows, columns):
                block = x[start:stop]
                product += block.T @ targets[start:stop]
                # The lower half alone, in place.
                block = block.astype(dtype, copy=False)
                gram = add_product(1.0, block.T, 1.0, gram, overwrite_c=True, lower=True)
        values, vectors = scipy.linalg.eigh(gram, overwrite_a=True, driver="evd")
        there = values > max(float(values[-1]), 0.0) * NEGLIGIBLE
        if not there.all():
            values, vectors = values[there], vectors[:, there]
        if columns > rows:
            vectors = whole.T @ (vectors / np.sqrt(values))
        directions = vectors.astype(np.float32, copy=False)
        return cls(values.astype(np.float32), directions, directions.T @ product)

    def errors(
        self, scores: NDArray[np.float32], targets: NDArray[np.float32], rows: int
    ) -> dict[float, float]:
        """Return the mean squared error by penalty, on rows with these scores X V [C, r]."""
        errors: dict[float, float] = {}
        for penalty in _penalties(errors):
            missed = self.predict(scores, targets, penalty, rows)
            missed -= targets * np.float32(rows / (rows - 1))
            total = float(np.einsum("ik,ik->", missed, missed, dtype=np.float64))
            errors[penalty] = total / missed.size
        return errors

    def predict(
        self,
        scores: NDArray[np.float32],
        targets: NDArray[np.float32],
        penalty: float,
        rows: int,
    ) -> NDArray[np.float32]:
        """Return predictions beyond the mean of the others [C, K] of rows with scores [C, r].

        The algebra takes the intercept's part of the leverage out, which would drown small
        predictions in rounding: with h the leverage of X alone,
        (fitted - h t N / (N - 1)) / (1 - 1 / N - h) for a centred target t.
        """
        shrunk = 1.0 / (self.variances + np.float32(penalty * self.variances.mean()))
        scaled = scores * shrunk
        leverage = np.einsum("cr,cr->c", scaled, scores)[:, np.newaxis]
        left = np.maximum(1.0 - 1.0 / rows - leverage, np.finfo(np.float32).eps)
        predicted: NDArray[np.float32] = scaled @ self.coefficients
        predicted -= leverage * np.float32(rows / (rows - 1)) * targets
        predicted /= left
        return predicted


def _penalties(errors: Mapping[float, float]) -> Iterator[float]:
    """Yield penalties to try; `errors` is filled with the error of each before the next."""
    yield from (float(penalty) for penalty in PENALTIES)
    while (last := max(errors)) < LARGEST_PENALTY and errors[last] == min(errors.values()):
        yield last * GROWTH


def _blocks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    step = max(1, BLOCK_CELLS // max(columns, 1))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)
