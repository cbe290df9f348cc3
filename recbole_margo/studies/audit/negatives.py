"""Items that users do not know, to compare with those they do."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

# Draws before the candidates of a pair are listed one by one.
ROUNDS = 32


def sample_negatives(
    interactions: sp.csr_matrix,
    mask: NDArray[np.bool_],
    users: NDArray[np.intp],
    items: NDArray[np.intp],
    count: int,
    seed: int,
) -> NDArray[np.intp]:
    """Draw negatives for pairs of user and item, so that the modalities can be compared.

    A negative is drawn uniformly, with replacement, among the items that the user does not know
    and that have every modality which the item of the pair has: of a modality that the negative
    misses, the triplet would say nothing.

    Args:
        interactions: training interactions R [U, I]; row 0 and column 0 are PAD.
        mask: presence mask [I, M]; false for PAD.
        users: user ids [P].
        items: item ids [P].
        count: negatives per pair J.
        seed: of the draw.

    Returns:
        Item ids [P, J]; 0 where a pair has no candidate.
    """
    random = np.random.default_rng(seed)
    known = np.unique(_keys(interactions.nonzero()[0], interactions.nonzero()[1], len(mask)))
    negatives = np.zeros((len(items), count), dtype=np.intp)
    patterns, pattern_of = np.unique(mask[items], axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        candidates = np.flatnonzero((mask >= pattern).all(axis=1))
        # PAD has no modality, so it is a candidate only where the item has none either.
        candidates = candidates[candidates > 0]
        pairs = np.flatnonzero(pattern_of.reshape(-1) == number)
        drawn = _draw(random, candidates, known, users[pairs], count, len(mask))
        negatives[pairs] = drawn
    return negatives


def _draw(
    random: np.random.Generator,
    candidates: NDArray[np.intp],
    known: NDArray[np.int64],
    users: NDArray[np.intp],
    count: int,
    n_items: int,
) -> NDArray[np.intp]:
    """Return candidates that each user does not know [P, J], 0 where there is none."""
    drawn = np.zeros((len(users), count), dtype=np.intp)
    row, column = (index.reshape(-1) for index in np.indices(drawn.shape))
    for _ in range(ROUNDS):
        if not len(row) or not len(candidates):
            return drawn
        drawn[row, column] = candidates[random.integers(0, len(candidates), len(row))]
        keys = _keys(users[row], drawn[row, column], n_items)
        again = _contains(known, keys)
        row, column = row[again], column[again]
    for pair in np.unique(row):
        places = column[row == pair]
        keys = _keys(np.full(len(candidates), users[pair]), candidates, n_items)
        free = candidates[~_contains(known, keys)]
        drawn[pair, places] = random.choice(free, len(places)) if len(free) else 0
    return drawn


def _keys(users: NDArray[np.intp], items: NDArray[np.intp], n_items: int) -> NDArray[np.int64]:
    return users.astype(np.int64) * n_items + items


def _contains(known: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which keys are among the sorted ones."""
    if not len(known):
        return np.zeros(len(keys), dtype=bool)
    place = np.searchsorted(known, keys).clip(max=len(known) - 1)
    found: NDArray[np.bool_] = known[place] == keys
    return found
