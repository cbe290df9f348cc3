"""A control without a recommender: does an item look like the other items of its users?"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

# Bounds a block of co-occurrences or cosines to some 50 MB, whatever the size of the catalogue.
BLOCK_CELLS = 2**22
# Rows this much shorter than the middle one are what rounding leaves of the mean row.
NO_DIRECTION = 1e-4


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

    Works in blocks of items: nothing dense of size [I, I] is ever held.

    Args:
        interactions: binary training interactions R [U, I].
        features: of one modality [I, D].
        present: which items have the modality [I].

    Returns:
        z [I]; 0, what chance gives, for an item that has no direction (its row is missing, or the
        mean row) or shares no user with an item that has one.
    """
    directions = _directions(features, present)
    items = np.flatnonzero(directions.any(axis=1))
    scores = np.zeros(len(directions))
    if len(items) < 3:
        return scores
    x = directions[items]
    cosine = _columns_of_norm_one(sp.csr_matrix(interactions, dtype=np.float64)[:, items])
    transposed = sp.csr_matrix(cosine.T)
    step = max(1, BLOCK_CELLS // len(items))
    for start in range(0, len(items), step):
        weights = (transposed[start : start + step] @ cosine).tocoo()
        weights.data[weights.row + start == weights.col] = 0.0
        scores[items[start : start + step]] = _standardized(
            weights.tocsr(), x[start : start + step], x
        )
    return scores


def _directions(features: NDArray[np.floating], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the centred rows of length one [I, D], zero where there is no direction."""
    directions = np.zeros(features.shape)
    if not present.any():
        return directions
    centred = features[present].astype(np.float64)
    centred -= centred.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1)
    there = norms > NO_DIRECTION * max(float(np.median(norms)), np.finfo(np.float64).tiny)
    directions[np.flatnonzero(present)[there]] = centred[there] / norms[there, np.newaxis]
    return directions


def _columns_of_norm_one(interactions: sp.csr_matrix) -> sp.csr_matrix:
    degree = np.asarray(interactions.sum(axis=0)).ravel()
    return sp.csr_matrix(interactions @ sp.diags(1.0 / np.sqrt(np.maximum(degree, 1.0))))


def _standardized(
    weights: sp.csr_matrix, block: NDArray[np.float64], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return z of a block of items [B].

    Args:
        weights: unnormalised, of the block's items to all, none to themselves [B, n].
        block: directions of the block [B, D].
        x: directions of all [n, D].
    """
    others = len(x) - 1
    # The item itself, whose cosine is 1, is taken out of the sums.
    cosines = block @ x.T
    mean = (cosines.sum(axis=1) - 1.0) / others
    squares = (cosines**2).sum(axis=1) - 1.0
    variance = np.maximum(squares - others * mean**2, 0.0) / max(others - 1, 1)
    total = np.asarray(weights.sum(axis=1)).ravel()
    having = np.where(total > 0, total, 1.0)
    agreement = np.asarray(weights.multiply(cosines).sum(axis=1)).ravel() / having
    concentration = np.asarray(weights.multiply(weights).sum(axis=1)).ravel() / having**2
    scale = np.sqrt(variance * np.maximum(concentration - 1.0 / others, 0.0))
    known = (total > 0) & (scale > 1e-9)
    result: NDArray[np.float64] = np.zeros_like(mean)
    np.divide(agreement - mean, scale, out=result, where=known)
    return result
