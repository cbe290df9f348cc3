"""The user-item graph of the training interactions."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp


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
    adjacency = sp.bmat([[None, interactions], [interactions.T, None]], format="csr")
    degree = np.asarray(adjacency.sum(axis=1)).ravel()
    scale = np.zeros_like(degree, dtype=np.float64)
    np.power(degree, -0.5, where=degree > 0, out=scale)
    return sp.csr_matrix(
        sp.diags(scale) @ adjacency.astype(np.float64) @ sp.diags(scale), dtype=np.float32
    )
