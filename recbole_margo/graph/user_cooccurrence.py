"""The user-user graph of shared training items."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

# Rows of R R^T that are held at a time; bounds the transient memory for large user sets.
BLOCK_USERS = 4096


def strongest_cooccurrences(interactions: sp.csr_matrix, k: int) -> sp.csr_matrix:
    """Return, for each user, the k users with whom most items are shared.

    Counts are C = R R^T without the diagonal, computed in blocks of users. Most counts are equal
    (often 1), so the choice among equals is part of the definition: more shared items first, then
    the user with fewer interactions (the higher Jaccard similarity), then the lower id.

    Args:
        interactions: binary R [U, I].
        k: number of neighbours a user keeps at most.

    Returns:
        Counts [U, U], at most k entries a row, none on the diagonal.
    """
    user_count = interactions.shape[0]
    transposed = interactions.T.tocsr()
    degree = np.diff(interactions.indptr)
    kept = []
    for start in range(0, user_count, BLOCK_USERS):
        block = interactions[start : start + BLOCK_USERS]
        kept.append(_top_k_of_block((block @ transposed).tocoo(), start, degree, k))
    rows, columns, counts = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return sp.csr_matrix((counts, (rows, columns)), shape=(user_count, user_count))


def _top_k_of_block(
    counts: sp.coo_matrix, start: int, degree: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, columns, values = counts.row + start, counts.col, counts.data
    others = rows != columns
    rows, columns, values = rows[others], columns[others], values[others]
    order = np.lexsort((columns, degree[columns], -values, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    first_of_row = np.searchsorted(rows, rows, side="left")
    best = np.arange(len(rows)) - first_of_row < k
    return rows[best], columns[best], values[best]


def softmax_rows(graph: sp.csr_matrix) -> sp.csr_matrix:
    """Return the graph with the softmax of each row's stored values; empty rows stay empty.

    Args:
        graph: non-negative counts [U, U].

    Returns:
        The graph [U, U], float32; every non-empty row sums to 1.

    Source: DualGNN (Wang et al., TMM 2021) and DRAGON (Zhou et al., ECAI 2023), user graph.
    """
    per_row = np.diff(graph.indptr)
    filled = np.flatnonzero(per_row)
    result = sp.csr_matrix(graph, dtype=np.float64, copy=True)
    if len(filled):
        starts = graph.indptr[filled]
        largest = np.maximum.reduceat(result.data, starts)
        result.data = np.exp(result.data - np.repeat(largest, per_row[filled]))
        total = np.add.reduceat(result.data, starts)
        result.data /= np.repeat(total, per_row[filled])
    return result.astype(np.float32)
