"""The user-item graph of the training interactions."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray


def interaction_matrix(dataset: Any) -> sp.csr_matrix:
    """Return the binary training interactions R [U, I] of a RecBole dataset.

    Args:
        dataset: RecBole's training `Dataset`; repeated interactions count once.

    Returns:
        R [U, I], float32; row 0 and column 0 (PAD) are empty.
    """
    matrix = dataset.inter_matrix(form="csr").astype(np.float32)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return sp.csr_matrix(matrix)


def random_walk_adjacency(interactions: sp.csr_matrix) -> sp.csr_matrix:
    r"""Return the row-normalised bipartite adjacency with self loops; it is not symmetric.

    .. math:: D^{-1} (A + I), \qquad D = \mathrm{diag}((A + I) 1)

    Args:
        interactions: R [U, I].

    Returns:
        The matrix [U + I, U + I], float32, users first; every row sums to 1.

    Source: LATTICE (Zhang et al., MM 2021) and MICRO (Zhang et al., TKDE 2022), interaction graph.
    """
    adjacency = _adjacency(interactions)
    return row_mean(adjacency + sp.identity(adjacency.shape[0], format="csr"))


def row_mean(matrix: sp.spmatrix) -> sp.csr_matrix:
    """Return a non-negative matrix [R, C] whose rows are divided by their sums, float32.

    Empty rows stay empty.
    """
    total = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
    scale = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    return sp.csr_matrix(sp.diags(scale) @ matrix.astype(np.float64), dtype=np.float32)


def normalized_adjacency(interactions: sp.csr_matrix) -> sp.csr_matrix:
    r"""Return the symmetrically normalised bipartite adjacency without self loops.

    .. math:: \hat A = D^{-1/2} A D^{-1/2}, \qquad A = \begin{pmatrix} 0 & R \\ R^\top & 0
        \end{pmatrix}

    Nodes without an edge keep an empty row.

    Args:
        interactions: R [U, I].

    Returns:
        The matrix [U + I, U + I], float32, users first.

    Source: LightGCN (He et al., SIGIR 2020), Eq. 7-8.
    """
    adjacency = _adjacency(interactions)
    return scaled_on_both_sides(adjacency, np.asarray(adjacency.sum(axis=1)).ravel())


def normalized_interactions(interactions: sp.csr_matrix) -> sp.csr_matrix:
    r"""Return the users' part of `normalized_adjacency`, from which the items' part follows.

    .. math:: \hat R_{ui} = R_{ui} / \sqrt{\sum_j R_{uj} \sum_v R_{vi}}

    Args:
        interactions: R [U, I].

    Returns:
        The matrix [U, I], float32.

    Source: LightGCN (He et al., SIGIR 2020), Eq. 7-8.
    """
    users = interactions.shape[0]
    return sp.csr_matrix(normalized_adjacency(interactions)[:users, users:])


def scaled_on_both_sides(matrix: sp.spmatrix, total: NDArray[np.floating]) -> sp.csr_matrix:
    r"""Return :math:`D^{-1/2} M D^{-1/2}`, float32, with the row sums on both sides.

    Args:
        matrix: M [N, N].
        total: the diagonal of D [N]; where it is not positive, row and column become empty.
    """
    scale = np.zeros_like(total, dtype=np.float64)
    np.power(total, -0.5, where=total > 0, out=scale)
    return sp.csr_matrix(
        sp.diags(scale) @ matrix.astype(np.float64) @ sp.diags(scale), dtype=np.float32
    )


def _adjacency(interactions: sp.csr_matrix) -> sp.csr_matrix:
    return sp.bmat([[None, interactions], [interactions.T, None]], format="csr")
