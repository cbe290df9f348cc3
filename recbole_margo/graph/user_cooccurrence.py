"""The user-user graph of shared training items."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from recbole_margo.graph.graph_cache import GraphCache
from recbole_margo.graph.sparse import csr_tensor

IntArray = NDArray[np.integer[Any]]

# Counts of R R^T that are held at a time, about 40 bytes each.
BLOCK_ENTRIES = 2**21
# The same of a GPU, where the zeros among them are held too, about 20 bytes each.
BLOCK_CELLS = 2**27
# How many of the most popular items may be counted by sets instead of by pairs of users.
POPULAR = (0, 4, 8, 12, 16)
# The number of bits of every set of that many items.
SIZE_OF_SET = np.unpackbits(np.arange(2**16, dtype="<u2").view(np.uint8)).reshape(-1, 16).sum(1)
SIZE_OF_SET = SIZE_OF_SET.astype(np.uint8)


def strongest_cooccurrences(
    interactions: sp.csr_matrix,
    k: int,
    device: torch.device | None = None,
    cache: GraphCache | None = None,
) -> sp.csr_matrix:
    """Return, for each user, the k users with whom most items are shared.

    Counts are C = R R^T without the diagonal, computed in blocks of users. Most counts are equal
    (often 1), so the choice among equals is part of the definition: more shared items first, then
    the user with fewer interactions (the higher Jaccard similarity), then the lower id.

    Args:
        interactions: binary R [U, I].
        k: number of neighbours a user keeps at most.
        device: where they are counted; a GPU takes another way to the same graph.
        cache: where the graph is looked for and kept.

    Returns:
        Counts [U, U], at most k entries a row, none on the diagonal.
    """
    if cache is not None:
        users, items = interactions.shape
        return cache.get(
            "user-graph",
            f"{k} strongest co-users of {users:,} users by {items:,} items",
            (users, items, interactions.indptr, interactions.indices, interactions.data, k),
            (sys.modules[__name__],),
            lambda: strongest_cooccurrences(interactions, k, device),
        )
    if device is not None and device.type == "cuda":
        return cooccurrences_in_dense_blocks(interactions, k, device)
    user_count = interactions.shape[0]
    # Users are numbered in the order of preference, so that the lower of two numbers is preferred.
    preferred = np.argsort(np.diff(interactions.indptr), kind="stable")
    candidates = _Candidates(interactions[preferred], k)
    kept = [_strongest(*candidates.of(block), k, user_count) for block in candidates.blocks()]
    user, other, count = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    places = (preferred[user], preferred[other])
    graph = sp.csr_matrix((count, places), shape=(user_count, user_count))
    graph.sort_indices()
    return graph


def cooccurrences_in_dense_blocks(
    interactions: sp.csr_matrix, k: int, device: torch.device, cells: int = BLOCK_CELLS
) -> sp.csr_matrix:
    """Return `strongest_cooccurrences` by way of dense blocks of counts, as a GPU likes it.

    Args:
        interactions: binary R [U, I].
        k: number of neighbours a user keeps at most.
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


class _Candidates:
    """For every user, others among whom the k strongest are; far fewer than share an item.

    Nearly all pairs share one item, and nearly all because it is popular. Two bounds spare them:

    - Of those who share one item alone, only the first k + 1 of that item's users can be chosen:
      they share it too and are preferred. So whoever comes behind the (k + 1)-th user of any of a
      user's items has to share two.
    - Of those who share popular items alone, only the first k + 1 by the number of popular items
      can be chosen. They depend on the set of popular items that a user has, and there are far
      fewer such sets than users.

    Args:
        interactions: binary R [U, I], the users in the order of preference.
    """

    def __init__(self, interactions: sp.csr_matrix, k: int) -> None:
        self._k = k
        popular = _popular_items(interactions, k)
        self._set = _sets_of(interactions, popular)
        self._of_set, self._group = _strongest_by_sets(self._set, k)
        self._limit = _last_of_single_items(interactions, k)
        others = np.ones(interactions.shape[1], dtype=bool)
        others[popular] = False
        most = int(np.diff(interactions.indptr).max(initial=0))
        # The narrower the counts, the more of them stay in the cache.
        rest = interactions[:, others].astype(np.uint16 if most < 2**16 else np.int32)
        self._rest, self._by_item = sp.csr_matrix(rest), sp.csr_matrix(rest.T)

    def blocks(self) -> Iterator[slice]:
        """Yield ranges of users whose counts are `BLOCK_ENTRIES` at most, or a single user."""
        paths = self._rest.astype(np.int64) @ np.diff(self._by_item.indptr).astype(np.int64)
        entries = np.cumsum(np.minimum(paths, len(paths)) + self._k + 1)
        start = 0
        while start < len(entries):
            most = (entries[start - 1] if start else 0) + BLOCK_ENTRIES
            end = max(start + 1, int(np.searchsorted(entries, most, side="right")))
            yield slice(start, end)
            start = end

    def of(self, block: slice) -> tuple[IntArray, IntArray, IntArray]:
        """Return user, other and count of pairs [P]; of a pair twice the larger count is true."""
        counts = self._rest[block] @ self._by_item
        user = np.repeat(np.arange(block.start, block.stop), np.diff(counts.indptr))
        other = counts.indices
        count = counts.data + SIZE_OF_SET[self._set[user] & self._set[other]]
        wanted = np.flatnonzero((count > 1) | (other <= self._limit[user]))
        by_sets = self._of_set[self._group[block]].tocoo()
        user = np.concatenate([user[wanted], by_sets.row.astype(np.int64) + block.start])
        other = np.concatenate([other[wanted].astype(np.int64), by_sets.col])
        count = np.concatenate([count[wanted].astype(np.int64), by_sets.data])
        apart = user != other
        return user[apart], other[apart], count[apart]


def _popular_items(interactions: sp.csr_matrix, k: int) -> IntArray:
    """Return the most popular items, as many as leave the least to be counted."""
    users_of_item = np.bincount(interactions.indices, minlength=interactions.shape[1])
    by_popularity = np.argsort(-users_of_item, kind="stable")
    pairs = users_of_item[by_popularity].astype(np.int64) ** 2
    costs = {}
    for number in POPULAR:
        sizes = np.unique(_sets_of(interactions, by_popularity[:number]), return_counts=True)[1]
        costs[number] = pairs[number:].sum() + len(sizes) * np.minimum(sizes, k + 1).sum()
    return by_popularity[: min(costs, key=lambda number: costs[number])]


def _sets_of(interactions: sp.csr_matrix, items: IntArray) -> NDArray[np.uint16]:
    """Return which of up to 16 items each user has, as bits [U]."""
    bits = np.zeros(interactions.shape[1], dtype=np.int64)
    bits[items] = 2 ** np.arange(len(items))
    return np.asarray(interactions.astype(np.int64) @ bits).astype(np.uint16)


def _strongest_by_sets(sets: NDArray[np.uint16], k: int) -> tuple[sp.csr_matrix, IntArray]:
    """Return the counts [S, U] of the first k + 1 users for each of S sets, and the users' sets."""
    different, group, sizes = np.unique(sets, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    rank = np.arange(len(sets)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # Users of one set share equally much with everybody: the first k + 1 of them will do.
    users = np.sort(order[rank <= k])
    users = users[sets[users] > 0]
    number, most = len(users), min(k + 1, len(users))
    found = []
    for start in range(0, len(different), max(1, BLOCK_ENTRIES // max(number, 1))):
        block = different[start : start + max(1, BLOCK_ENTRIES // max(number, 1))]
        shared = SIZE_OF_SET[block[:, np.newaxis] & sets[users]].astype(np.int64)
        # Count and preference in one number, whose order is that of the choice.
        key = shared * number + np.arange(number)[::-1]
        found.append(np.partition(key, number - most, axis=1)[:, number - most :])
    best = np.concatenate(found)
    row, column = np.nonzero(best >= number)
    count, place = np.divmod(best[row, column], number)
    places = (row, users[number - 1 - place])
    counts = sp.csr_matrix((count, places), shape=(len(different), len(sets)))
    return counts, group


def _last_of_single_items(interactions: sp.csr_matrix, k: int) -> IntArray:
    """Return [U] the user behind whom nobody can be chosen for a single item that is shared."""
    by_item = sp.csc_matrix(interactions)
    by_item.sort_indices()
    long = np.diff(by_item.indptr) > k
    last = np.full(interactions.shape[1], interactions.shape[0])
    last[long] = by_item.indices[by_item.indptr[:-1][long] + k]
    limit = np.full(interactions.shape[0], interactions.shape[0])
    filled = np.flatnonzero(np.diff(interactions.indptr))
    if len(filled):
        starts = interactions.indptr[filled]
        limit[filled] = np.minimum.reduceat(last[interactions.indices], starts)
    return limit


def _strongest(
    user: IntArray, other: IntArray, count: IntArray, k: int, user_count: int
) -> tuple[IntArray, IntArray, NDArray[np.float32]]:
    """Return the k strongest of the pairs [P] of each user, by count and then by number.

    Of a pair that comes twice the larger count is the true one.
    """
    most = int(count.max(initial=0))
    # Keys in one number: a plain sort is many times faster than one by three keys.
    pair, count = np.divmod(np.sort((user * user_count + other) * (most + 1) + count), most + 1)
    true = np.append(pair[1:] != pair[:-1], True)[: len(pair)]
    user, other = np.divmod(pair[true], user_count)
    key = np.sort((user * (most + 1) + most - count[true]) * user_count + other)
    rest, other = np.divmod(key, user_count)
    user, missing = np.divmod(rest, most + 1)
    begins = np.flatnonzero(np.append(True, user[1:] != user[:-1])[: len(user)])
    rank = np.arange(len(user)) - np.repeat(begins, np.diff(np.append(begins, len(user))))
    kept = rank < k
    return user[kept], other[kept], (most - missing[kept]).astype(np.float32)


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
