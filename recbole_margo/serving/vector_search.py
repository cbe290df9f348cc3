"""Recommendations through an index of faiss, and how many of the exact ones it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.graph.neighbor_search import NeighborSearch, train_index, untrained_index
from recbole_margo.serving.bundle import Bundle
from recbole_margo.serving.recommender import Recommender, largest

# Items that are added to an index at once.
ROWS = 2**16
# How many times as many items are asked for at first, and when too many of them are known.
OVER_FETCHED, MORE = 2, 4
# Scores in float32 that differ by less, relative to the largest, are equal.
TOLERANCE = 1e-5
SAMPLED_USERS = 1000

Ranked = tuple[NDArray[np.intp], NDArray[np.float32]]


class VectorSearch:
    """Ranks items by the inner product of a user's and an item's vector, through an index.

    Args:
        index: of faiss, or another one whose `search(vectors, k)` returns scores and rows, [B, k],
            the best first and -1 for nothing.
        items: the vectors that it holds [I, K].
    """

    def __init__(self, index: Any, items: NDArray[np.float32]) -> None:
        self.index = index
        self.items = items

    def rank(
        self, users: NDArray[np.float32], n: int, excluded: Sequence[NDArray[np.integer]]
    ) -> list[Ranked]:
        """Return rows and scores of the n best items of each user, without those excluded.

        More are fetched than asked for. Where all that the index finds are excluded, it is asked
        for more, and at last the user's scores are computed: fewer than n come back only where
        there are no more items.

        Args:
            users: vectors [B, K].
            excluded: rows of items that a user does not get, by user [B].
        """
        count = len(self.items)
        users = np.ascontiguousarray(users, np.float32)
        wanted = [min(n, count - len(np.unique(rows))) for rows in excluded]
        found: list[Ranked] = [(np.empty(0, np.intp), np.empty(0, np.float32))] * len(users)
        left, fetched = list(range(len(users))), min(OVER_FETCHED * n, count)
        while left:
            scores, rows = self.index.search(users[left], fetched)
            for place, user in enumerate(left):
                kept = (rows[place] >= 0) & ~np.isin(rows[place], excluded[user])
                found[user] = rows[place][kept][:n], scores[place][kept][:n]
            left = [user for user in left if len(found[user][0]) < wanted[user]]
            if fetched == count:
                break
            fetched = min(MORE * fetched, count)
        for user in left:
            allowed = np.ones(count, bool)
            allowed[excluded[user]] = False
            found[user] = largest(self.items @ users[user], allowed, n)
        return found


@dataclass(frozen=True)
class SearchQuality:
    """How an index compares with computing all scores.

    Attributes:
        users: real users whose lists were compared.
        recall: mean share of an exact list that was found; an item as good as the last one counts.
        milliseconds: time of a user's list through the index, asked for many users at once.
        exact_milliseconds: the same with all scores.
        bytes: size of the index in a file.
    """

    search: str
    n: int
    users: int
    recall: float
    build_seconds: float
    milliseconds: float
    exact_milliseconds: float
    bytes: int = 0


def built_index(items: NDArray[np.float32], search: NeighborSearch) -> Any:
    """Return an index of faiss that holds the vectors of all items [I, K]."""
    index = untrained_index(search, items.shape[1], len(items))
    train_index(index, len(items), lambda rows: np.ascontiguousarray(items[rows]))
    for first in range(0, len(items), ROWS):
        index.add(np.ascontiguousarray(items[first : first + ROWS]))
    return index


def measured(bundle: Bundle, search: NeighborSearch, n: int = 20) -> tuple[Any, SearchQuality]:
    """Build an index of a bundle's items and compare it with the exact lists of real users.

    A `ConfigError` says that faiss is not installed, or that there are fewer items than lists.
    """
    recommender, count = Recommender(bundle), len(bundle.user_ids)
    sample = np.random.default_rng(0).permutation(count)[:SAMPLED_USERS]
    begun = perf_counter()
    through = VectorSearch(built_index(bundle.items, search), bundle.items)
    built = perf_counter()
    exact = list(recommender.rank(sample, n))
    computed = perf_counter()
    found = through.rank(bundle.users[sample], n, [recommender.seen(user) for user in sample])
    searched = perf_counter()
    recalls = [
        _recall(scores, best)
        for (_, scores), (_, best) in zip(found, exact, strict=True)
        if len(best)
    ]
    return through.index, SearchQuality(
        search=str(search),
        n=n,
        users=len(sample),
        recall=float(np.mean(recalls)) if recalls else 1.0,
        build_seconds=built - begun,
        milliseconds=1000 * (searched - computed) / len(sample),
        exact_milliseconds=1000 * (computed - built) / len(sample),
    )


def _recall(scores: NDArray[np.float32], best: NDArray[np.float32]) -> float:
    limit = best[-1] - TOLERANCE * np.abs(best).max()
    return float((scores >= limit).sum() / len(best))
