"""The user-user graph of shared training items."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from recbole_margo.graph.sparse import csr_tensor

# Counts of R R^T that are held at a time, about 64 bytes each while they are sorted.
BLOCK_ENTRIES = 2**21
# The same of a GPU, where the zeros among them are held too, about 20 bytes each.
BLOCK_CELLS = 2**27


def strongest_cooccurrences(
    interactions: sp.csr_matrix, k: int, device: torch.device | None = None
) -> sp.csr_matrix:
    """Return, for each user, the k users with whom most items are shared.

    Counts are C = R R^T without the diagonal, computed in blocks of users. Most counts are equal
    (often 1), so the choice among equals is part of the definition: more shared items first, then
    the user with fewer interactions (the higher Jaccard similarity), then the lower id.

    Args:
        interactions: binary R [U, I].
        k: number of neighbours a user keeps at most.
        device: where they are counted; a GPU takes another way to the same graph.

    Returns:
        Counts [U, U], at most k entries a row, none on the diagonal.
    """
    if device is not None and device.type == "cuda":
        return cooccurrences_in_dense_blocks(interactions, k, device)
    user_count = interactions.shape[0]
    degree = np.diff(interactions.indptr)
    # With the columns in the order of preference among equal counts, a lower column is preferred.
    preferred = np.argsort(degree, kind="stable")
    columns_of_items = interactions[preferred].T.tocsr()
    own_column = np.argsort(preferred)
    kept = []
    for block in _blocks_of_users(interactions):
        counts = interactions[block] @ columns_of_items
        kept.append(_strongest_of_block(counts, own_column[block], k))
    per_user, columns, counts = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    pointer = np.concatenate([[0], np.cumsum(per_user)])
    graph = sp.csr_matrix((counts, preferred[columns], pointer), shape=(user_count, user_count))
    graph.sort_indices()
    return graph


def cooccurrences_in_dense_blocks(
    interactions: sp.csr_matrix, k: int, device: torch.device, cells: int = BLOCK_CELLS
) -> sp.csr_matrix:
    """Return `strongest_cooccurrences` by way of dense blocks of counts, as a GPU likes it.

    Args:
        interactions: binary R [U, I].
        k: number of neighbours a user keeps at most.
        device: where they are counted.
        cells: counts that are held at a time.
    """
    user_count, item_count = interactions.shape
    # Users are numbered in the order of preference, so that the lower of two numbers is preferred.
    preferred = np.argsort(np.diff(interactions.indptr), kind="stable")
    ordered = sp.csr_matrix(interactions[preferred], dtype=np.float32)
    parts = ordered.indptr, ordered.indices, ordered.data
    pointer, item, value = (torch.from_numpy(part).to(device) for part in parts)
    matrix = csr_tensor((pointer, item, value), (user_count, item_count))
    most = int(np.diff(interactions.indptr).max(initial=0))
    number = torch.int32 if (most + 1) * user_count < 2**31 else torch.int64
    place = user_count - 1 - torch.arange(user_count, device=device, dtype=number)
    users, others, counts = [], [], []
    for block in torch.split(torch.arange(user_count), max(1, cells // max(user_count, 1))):
        start, end = int(block[0]), int(block[-1]) + 1
        entries = slice(int(ordered.indptr[start]), int(ordered.indptr[end]))
        length = pointer[start : end + 1].diff()
        column = torch.arange(end - start, device=device).repeat_interleave(length)
        dense = value.new_zeros(item_count, end - start)
        dense[item[entries].long(), column] = value[entries]
        # Count and preference in one number, whose order is that of the choice.
        key = (matrix @ dense).T.to(number, memory_format=torch.contiguous_format)
        shared = key > 0
        key.mul_(user_count).add_(place).mul_(shared)
        key.view(-1)[start :: user_count + 1] = 0
        found = key.topk(min(k, user_count), dim=1).values
        row, rank = torch.nonzero(found, as_tuple=True)
        best = found[row, rank].long()
        users.append(row.cpu().numpy() + start)
        others.append((user_count - 1 - best % user_count).cpu().numpy())
        counts.append((best // user_count).float().cpu().numpy())
    places = (preferred[np.concatenate(users)], preferred[np.concatenate(others)])
    graph = sp.csr_matrix((np.concatenate(counts), places), shape=(user_count, user_count))
    graph.sort_indices()
    return graph


def _blocks_of_users(interactions: sp.csr_matrix) -> Iterator[slice]:
    """Yield ranges of users whose counts are `BLOCK_ENTRIES` at most, or a single user."""
    degree_of_item = np.bincount(interactions.indices, minlength=interactions.shape[1])
    paths = interactions.astype(np.int64) @ degree_of_item
    entries = np.cumsum(np.clip(paths, 1, interactions.shape[0]))
    start = 0
    while start < len(entries):
        before = entries[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(entries, before + BLOCK_ENTRIES, side="right")))
        yield slice(start, end)
        start = end


def _strongest_of_block(
    counts: sp.csr_matrix, own_column: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return how many users each row keeps [B], and their columns and counts, row by row."""
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    other = counts.indices != own_column[row]
    row, column, shared = row[other], counts.indices[other], counts.data[other].astype(np.int64)
    # Row, count and column in one number: a plain sort is many times faster than one by three keys.
    users, most = counts.shape[1], int(shared.max(initial=0))
    key = (row * (most + 1) + (most - shared)) * users + column
    key.sort()
    per_row = np.bincount(row, minlength=counts.shape[0])
    position = np.arange(len(key)) - np.repeat(np.cumsum(per_row) - per_row, per_row)
    rest, column = np.divmod(key[position < k], users)
    return np.minimum(per_row, k), column, (most - rest % (most + 1)).astype(np.float32)


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
