"""Parts of a test split on which models can differ: rare and popular items, missing modalities."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import RecBoleMargoError
from recbole_margo.evaluation.per_user import PerUserMetrics


@dataclass(frozen=True)
class Slice:
    """Some of the positives of an evaluated split.

    Args:
        kind: `user activity`, `item popularity`, `cold items` or `missing modality`.
        name: such as `1-5 training interactions` or `misses text`.
        pairs: which positives belong to it [P].
    """

    kind: str
    name: str
    pairs: NDArray[np.bool_]


def make_slices(
    results: PerUserMetrics,
    user_counts: Mapping[str, int],
    item_counts: Mapping[str, int],
    missing: Mapping[str, Collection[str]],
) -> list[Slice]:
    """Cut the positives of an evaluated split by what training knew of their users and items.

    User activity has about a third of the evaluated users in each slice, item popularity about a
    third of the positives; users and items of equal counts stay together, so that there may be
    fewer slices. Slices are not empty, and a kind of one slice that holds everything is left out.

    Args:
        user_counts: user token -> training interactions; 0 where there is none.
        item_counts: item token -> training interactions; 0 where there is none.
        missing: modality -> tokens of the items that miss it.

    Returns:
        The slices, kind by kind, the lower counts first.
    """
    activity = _counts_of(results.users, user_counts)
    popularity = _counts_of(results.pair_item, item_counts)
    return [
        *_count_slices("user activity", activity, results.pair_user),
        *_count_slices("item popularity", popularity, np.arange(len(popularity))),
        *_informative([Slice("cold items", "no training interactions", popularity == 0)]),
        *_modality_slices(results.pair_item, missing),
    ]


def slice_recall(results: PerUserMetrics, part: Slice, k: int) -> NDArray[np.float64]:
    """Return Recall@k over the positives of a slice alone, as if a user had no others.

    Returns:
        The recall of the users that have positives in the slice, in the order of `results.users`
        [n].

    Raises:
        RecBoleMargoError: if the slice is not one of these results, or if ranks were not recorded
            up to `k`.
    """
    if part.pairs.shape != results.pair_rank.shape:
        raise RecBoleMargoError(
            f"expected the slice {part.name!r} to say which of the {len(results.pair_rank)} "
            f"positives belong to it, found {len(part.pairs)}: make it from the same evaluation"
        )
    largest = max((int(name.rpartition("@")[2]) for name in results.metrics), default=k)
    if not 1 <= k <= largest:
        raise RecBoleMargoError(
            f"expected a k from 1 to {largest}, the ranks that were recorded, found {k}: evaluate "
            "with a larger `topk`"
        )
    users, ranks = results.pair_user[part.pairs], results.pair_rank[part.pairs]
    hits = (ranks >= 1) & (ranks <= k)
    positives = np.bincount(users, minlength=len(results.users))
    found = np.bincount(users, weights=hits, minlength=len(results.users))
    has_positives = positives > 0
    recall: NDArray[np.float64] = found[has_positives] / positives[has_positives]
    return recall


def _counts_of(tokens: NDArray[np.str_], counts: Mapping[str, int]) -> NDArray[np.int64]:
    return np.array([counts.get(token, 0) for token in tokens.tolist()], dtype=np.int64)


def _count_slices(
    kind: str, counts: NDArray[np.int64], member_of_pair: NDArray[np.int64]
) -> list[Slice]:
    """Return the thirds of what is counted.

    Args:
        counts: training interactions of each member [M].
        member_of_pair: which member each positive belongs to [P].
    """
    thirds = _thirds(counts)
    slices = []
    for third in np.unique(thirds):
        inside = thirds == third
        low, high = counts[inside].min(), counts[inside].max()
        name = f"{low}" if low == high else f"{low}-{high}"
        slices.append(Slice(kind, f"{name} training interactions", inside[member_of_pair]))
    return _informative(slices)


def _thirds(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the third, 0 to 2, that each member falls into, equal counts into the same [M].

    A count goes where the middle of its members is, so that each cut is made at the border between
    two counts that is nearest to a third of the members. Whole numbers leave no doubt about ties.
    """
    _, count_of_member, members = np.unique(counts, return_inverse=True, return_counts=True)
    twice_the_middle = 2 * np.cumsum(members) - members
    third: NDArray[np.int64] = 3 * twice_the_middle // (2 * max(len(counts), 1))
    return third[count_of_member]


def _modality_slices(
    items: NDArray[np.str_], missing: Mapping[str, Collection[str]]
) -> list[Slice]:
    kind = "missing modality"
    slices, complete = [], np.ones(len(items), dtype=bool)
    for modality, tokens in missing.items():
        # A set of its own: looking up a list, item by item, takes long.
        known = set(tokens)
        misses = np.array([item in known for item in items.tolist()], dtype=bool)
        slices.append(Slice(kind, f"misses {modality}", misses))
        complete &= ~misses
    return _informative([*slices, Slice(kind, "has all", complete)])


def _informative(slices: list[Slice]) -> list[Slice]:
    """Return the slices that are not empty, and none if a single one holds everything."""
    found = [part for part in slices if part.pairs.any()]
    return [] if len(found) == 1 and found[0].pairs.all() else found
