"""The evidence of training pairs, compared with sampled negatives, for each item's modalities."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from recbole_margo.nn.losses import confidence, reliability_vector
from recbole_margo.nn.projection import modality_scores

# Numbers in a block of negative embeddings: some 64 MB.
BLOCK_NUMBERS = 2**24
# Draws before the candidates of a pair are listed one by one.
ROUNDS = 32


@dataclass(frozen=True)
class PairEvidence:
    r"""Sums over the triplets of each training pair of user and item, sorted by item.

    A triplet compares the pair with a sampled negative item j. With d, z and c of the paper's
    Eq. 5-7 it counts as contradicting a modality where :math:`d^m = r_{ui}^m - r_{uj}^m < 0`.

    Args:
        users: user ids [P].
        items: item ids [P], ascending; PAD is not among them.
        triplets: number of triplets of the pair [P]; 0 where there is nothing to compare with.
        confidence: sum of c over the triplets [P].
        reliability: sum of c z [P, M].
        contradictions: number of triplets that contradict [P, M]; 0 for what the item misses.
    """

    users: NDArray[np.intp]
    items: NDArray[np.intp]
    triplets: NDArray[np.float64]
    confidence: NDArray[np.float64]
    reliability: NDArray[np.float64]
    contradictions: NDArray[np.float64]

    @classmethod
    def of_models(cls, models: Sequence[Any], negatives: int, seed: int) -> PairEvidence:
        """Return sums over the triplets of all models, each with the same negatives per pair.

        Args:
            models: MARGOs on the same interactions and items, in their last stage.
        """
        interactions, mask = models[0].interactions, models[0].modality_mask.cpu().numpy()
        users, items = _pairs_by_item(interactions)
        sampled = sample_negatives(interactions, mask, users, items, negatives, seed)
        sums = [_sums(model, users, items, sampled) for model in models]
        return cls(users, items, *(np.sum(part, axis=0) for part in zip(*sums, strict=True)))


def _pairs_by_item(interactions: sp.csr_matrix) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    by_item = interactions.tocsc().tocoo()
    return by_item.row.astype(np.intp), by_item.col.astype(np.intp)


@torch.no_grad()
def _sums(
    model: Any, users: NDArray[np.intp], items: NDArray[np.intp], negatives: NDArray[np.intp]
) -> tuple[NDArray[np.float64], ...]:
    """Return the sums of `PairEvidence` for one model, a block of pairs at a time."""
    user_table, item_table = model.embeddings()
    weights, mask = model.item_weights(), model.modality_mask
    unit = model.evidence_unit(user_table, item_table)
    tau, scale = model.hyperparameters.tau, model.hyperparameters.score_scale
    count = negatives.shape[1]
    rows = max(1, BLOCK_NUMBERS // (count * item_table[0].numel()))
    parts: list[tuple[Tensor, ...]] = []
    starts = tqdm(
        range(0, len(users), rows),
        "comparing with negatives",
        disable=not sys.stderr.isatty(),
        leave=False,
    )
    for start in starts:
        block = slice(start, start + rows)
        user, item, negative = (
            torch.as_tensor(ids[block], device=item_table.device)
            for ids in (users, items, negatives)
        )
        of_users = scale * user_table[user]
        positive_scores = modality_scores(of_users, item_table[item]).unsqueeze(1)
        negative_scores = modality_scores(of_users.unsqueeze(1), item_table[negative])
        counted = (negative > 0) & mask[item].any(dim=1, keepdim=True)
        usable = mask[item].unsqueeze(1) & counted.unsqueeze(-1)
        differences = positive_scores - negative_scores
        vector, reliable = reliability_vector(differences / unit, usable)
        trust = confidence(
            (weights[item].unsqueeze(1) * positive_scores).sum(dim=-1),
            (weights[negative] * negative_scores).sum(dim=-1),
            reliable,
            tau,
        )
        sums = (
            counted.double().sum(dim=1),
            trust.double().sum(dim=1),
            (trust.unsqueeze(-1) * vector).double().sum(dim=1),
            (usable & (differences < 0)).double().sum(dim=1),
        )
        parts.append(tuple(part.cpu() for part in sums))
    return tuple(torch.cat(part).numpy() for part in zip(*parts, strict=True))


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
