"""Who shares users with an item, as a vector of fixed width: what features are asked to predict."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd

SINGULAR_VECTORS = 128
RANDOM_VECTORS = 256
# The singular values of sparse interactions fall slowly: fewer iterations miss their vectors.
POWER_ITERATIONS = 12


def item_targets(
    interactions: sp.csr_matrix,
    singular_vectors: int = SINGULAR_VECTORS,
    random_vectors: int = RANDOM_VECTORS,
    seed: int = 0,
) -> NDArray[np.float32]:
    r"""Return the co-occurrence of each item with the others, projected to few columns.

    .. math:: C = D_i^{-1/2} R^\top D_u^{-1} R D_i^{-1/2}, \qquad
        T = \tfrac{1}{\sqrt 2} \left[ \nu\big((C - \mathrm{diag}\, C) V\big),
        \nu\big((C - \mathrm{diag}\, C) \Omega\big) \right]

    with the leading right singular vectors V of :math:`D_u^{-1/2} R D_i^{-1/2}`, Gaussian
    :math:`\Omega`, and rows brought to length one by :math:`\nu`. V keeps what many items have in
    common, :math:`\Omega` what few have: dense data is described best by the former, very sparse
    data by the latter. Neither C nor anything else of size [I, I] is ever formed.

    Args:
        interactions: binary training interactions R [U, I].
        singular_vectors: columns of V; fewer where R has fewer.
        random_vectors: columns of Omega.
        seed: decides Omega and where the search for V begins.

    Returns:
        T [I, K]; rows of zeros for items that share no user with another.
    """
    binary = sp.csr_matrix(interactions, dtype=np.float32)
    degrees = [np.maximum(np.asarray(binary.sum(axis=axis)).ravel(), 1) for axis in (1, 0)]
    scaled = sp.csr_matrix(
        sp.diags(degrees[0] ** -0.5) @ binary @ sp.diags(degrees[1] ** -0.5), dtype=np.float32
    )
    count = min(singular_vectors, min(scaled.shape) - 1)
    random = np.random.default_rng(seed)
    gaussian = random.standard_normal((scaled.shape[1], random_vectors), dtype=np.float32)
    parts = [unit_rows(_without_diagonal(scaled, gaussian))]
    if count > 0:
        _, _, transposed = randomized_svd(
            scaled, count, n_oversamples=count, n_iter=POWER_ITERATIONS, random_state=seed
        )
        parts.insert(0, unit_rows(_without_diagonal(scaled, transposed.T)))
    targets: NDArray[np.float32] = np.concatenate(parts, axis=1) / np.sqrt(np.float32(len(parts)))
    return targets


def _without_diagonal(scaled: sp.csr_matrix, columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (A^T A - diag(A^T A)) columns, exactly zero for an item without company."""
    itself = np.asarray(scaled.multiply(scaled).sum(axis=0)).ravel()
    product: NDArray[np.float32] = scaled.T @ (scaled @ columns) - itself[:, np.newaxis] * columns
    others = np.maximum(np.asarray(scaled.astype(bool).sum(axis=1)).ravel() - 1, 0)
    alone = scaled.astype(bool).T @ others == 0
    product[alone] = 0.0  # what is there is rounding
    return product


def unit_rows(rows: NDArray[np.float32], negligible: float = 0.0) -> NDArray[np.float32]:
    """Return rows [N, K] of length one; zeros for those that have no direction.

    A row is what rounding leaves up to `negligible`, a length in units of the median.
    """
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    there = norms > negligible * max(float(np.median(norms)), np.finfo(np.float32).tiny)
    result: NDArray[np.float32] = np.divide(rows, norms, out=np.zeros_like(rows), where=there)
    return result
