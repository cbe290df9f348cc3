"""A control without a recommender: does an item look like the other items of its users?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

# Bounds a block of co-occurrences or of rows to some 50 MB, whatever the size of the catalogue.
BLOCK_CELLS = 2**22
# Rows this much shorter than the middle one are what rounding leaves of the mean row.
NO_DIRECTION = 1e-4
# Up to so many columns sums are taken in float64, which takes seconds at most.
EXACT_COLUMNS = 2048


def neighbor_agreement(
    interactions: sp.csr_matrix, features: NDArray[np.floating], present: NDArray[np.bool_]
) -> NDArray[np.float64]:
    r"""Return how much more an item is like the items of its users than like random ones.

    .. math:: a_i = \sum_{j \ne i} w_{ij} \cos(x_i, x_j), \qquad
        w_{ij} \propto \frac{|U_i \cap U_j|}{\sqrt{|U_i| |U_j|}}, \qquad
        z_i = \frac{a_i - \mu_i}{s_i \sqrt{\sum_j w_{ij}^2 - \frac{1}{n - 1}}}

    where x are the features less their mean, U_i are the users who interacted with i, the weights
    of an item sum to 1, and mu and s are mean and standard deviation (n - 2 degrees of freedom) of
    the cosines of item i with all n - 1 others. The denominator is the standard deviation of a_i
    when the rows of the others are permuted, so that z has mean 0 and variance 1 for an item whose
    row has nothing to do with its users. Only items with a direction take part.

    Neither the cosines nor the co-occurrences of all items are ever held: with C the interactions
    in columns of length one, the sums over j are :math:`X^\top X x_i` and :math:`C^\top C X`.

    Args:
        interactions: binary training interactions R [U, I].
        features: of one modality [I, D].
        present: which items have the modality [I].

    Returns:
        z [I]; 0, what chance gives, for an item that has no direction (its row is missing, or the
        mean row) or shares no user with an item that has one.
    """
    scores = np.zeros(len(features))
    x = _Directions.of(features, present)
    count = len(x.items)
    if count < 3:
        return scores
    columns = _columns_of_norm_one(sp.csr_matrix(interactions, dtype=np.float64)[:, x.items])
    mean, variance = x.moments_of_cosines()
    total, concentration = _weight_sums(columns)
    agreement = x.sums_of_cosines(columns) / np.where(total > 0, total, 1.0)
    scale = np.sqrt(variance * np.maximum(concentration - 1.0 / (count - 1), 0.0))
    known = (total > 0) & (scale > 1e-9)
    scores[x.items[known]] = (agreement - mean)[known] / scale[known]
    return scores


@dataclass(frozen=True)
class _Directions:
    """Centred rows of length one [n, D] of the items that have a direction, made when needed.

    Attributes:
        features: of all items [I, D].
        items: which have a direction [n].
        mean: the mean row [D].
        norms: length of each of the items' rows less the mean [n].
    """

    features: NDArray[np.floating]
    items: NDArray[np.intp]
    mean: NDArray[np.float64]
    norms: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[np.floating], present: NDArray[np.bool_]) -> _Directions:
        items, columns = np.flatnonzero(present), features.shape[1]
        mean, norms = np.zeros(columns), np.zeros(len(items))
        for block in _blocks(len(items), columns):
            mean += features[items[block]].sum(axis=0, dtype=np.float64)
        mean /= max(len(items), 1)
        for block in _blocks(len(items), columns):
            norms[block] = np.linalg.norm(features[items[block]] - mean, axis=1)
        middle = float(np.median(norms)) if len(items) else 0.0
        there = norms > NO_DIRECTION * max(middle, np.finfo(np.float64).tiny)
        return cls(features, items[there], mean, norms[there])

    @property
    def dtype(self) -> type[np.floating]:
        return np.float64 if self.features.shape[1] <= EXACT_COLUMNS else np.float32

    def rows(self, block: slice) -> NDArray[np.floating]:
        rows = (self.features[self.items[block]] - self.mean) / self.norms[block, np.newaxis]
        return rows.astype(self.dtype, copy=False)

    def columns(self, block: slice) -> NDArray[np.float64]:
        columns = self.features[:, block][self.items] - self.mean[block]
        return columns / self.norms[:, np.newaxis]

    def moments_of_cosines(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and variance of the cosines of each item with all others [n]."""
        count, width = len(self.items), len(self.mean)
        others = count - 1
        sums, squares = np.zeros(count), np.zeros(count)
        total, gram = np.zeros(width), np.zeros((width, width), self.dtype, order="F")
        add_product, times = scipy.linalg.get_blas_funcs(("syrk", "trmm"), (gram,))
        for block in _blocks(count, width):
            rows = self.rows(block)
            # The lower half alone, in place.
            gram = add_product(1.0, rows.T, 1.0, gram, overwrite_c=True, lower=True)
            total += rows.sum(axis=0, dtype=np.float64)
        # x^T G x for a symmetric G: its lower half counts twice, but for the diagonal.
        diagonal = gram.diagonal()
        for block in _blocks(count, width):
            rows = self.rows(block)
            sums[block] = rows @ total
            half = times(1.0, gram, rows.T, lower=True).T
            squares[block] = np.einsum("id,id->i", 2 * half - rows * diagonal, rows)
        # The item itself, whose cosine is 1, is taken out.
        mean = (sums - 1.0) / others
        variance = np.maximum(squares - 1.0 - others * mean**2, 0.0) / max(others - 1, 1)
        return mean, variance

    def sums_of_cosines(self, columns: sp.csr_matrix) -> NDArray[np.float64]:
        """Return the sum over the others of the unnormalised weight times the cosine [n]."""
        result = -np.asarray(columns.multiply(columns).sum(axis=0)).ravel()
        for block in _blocks(len(self.mean), max(columns.shape)):
            x = self.columns(block)
            result += np.einsum("id,id->i", columns.T @ (columns @ x), x)
        return result


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, BLOCK_CELLS // max(columns, 1))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _columns_of_norm_one(interactions: sp.csr_matrix) -> sp.csr_matrix:
    degree = np.asarray(interactions.sum(axis=0)).ravel()
    return sp.csr_matrix(interactions @ sp.diags(1.0 / np.sqrt(np.maximum(degree, 1.0))))


def _weight_sums(columns: sp.csr_matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum of each item's weights, and its sum of squares by that squared [n]."""
    transposed, count = sp.csr_matrix(columns.T), columns.shape[1]
    total, squares = np.zeros(count), np.zeros(count)
    for block in _blocks(count, count):
        weights = (transposed[block] @ columns).tocoo()
        weights.data[weights.row + block.start == weights.col] = 0.0
        total[block] = np.asarray(weights.sum(axis=1)).ravel()
        squares[block] = np.asarray(weights.multiply(weights).sum(axis=1)).ravel()
    return total, squares / np.where(total > 0, total, 1.0) ** 2
