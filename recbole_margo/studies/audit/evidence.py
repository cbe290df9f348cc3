"""What the training interactions say about the reliability of each item's modalities."""

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

from recbole_margo.nn.fusion import modality_scores
from recbole_margo.nn.losses import confidence, reliability_vector
from recbole_margo.studies.audit.negatives import sample_negatives

# Numbers in a block of negative embeddings: some 64 MB.
BLOCK_NUMBERS = 2**24


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
        """Collect the evidence of trained MARGOs, each with the same negatives.

        Args:
            models: MARGOs on the same interactions and items, in their last stage.
            negatives: sampled negatives per pair J.
            seed: of the sampling.

        Returns:
            Sums over the triplets of all models.
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
    tau = model.hyperparameters.tau
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
        of_users = user_table[user]
        positive_scores = modality_scores(of_users, item_table[item]).unsqueeze(1)
        negative_scores = modality_scores(of_users.unsqueeze(1), item_table[negative])
        counted = (negative > 0) & mask[item].any(dim=1, keepdim=True)
        usable = mask[item].unsqueeze(1) & counted.unsqueeze(-1)
        differences = positive_scores - negative_scores
        vector, reliable = reliability_vector(differences, usable)
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
