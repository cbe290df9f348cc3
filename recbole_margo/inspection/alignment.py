"""Whether the features of a modality belong to the items: content kNN against shuffled rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from recbole_margo.graph.item_knn import nearest_neighbors

CUTOFF = 20
NEIGHBORS = 20
SHUFFLES = 10
SHIFTS = (-1, 1)
SAMPLED_USERS = 5_000
# How many times the noise of shuffled rows, real rows must be above their mean.
CLEARLY = 4.0
# A block of scores takes at most 64 MB.
BLOCK_CELLS = 1 << 24


@dataclass(frozen=True)
class Alignment:
    """Content-kNN Recall@20 on the validation split, with the rows as they are and otherwise.

    Shuffled rows show what chance gives. Items with neighbouring rows are often alike, so that rows
    that are off by one can still beat chance; then a shift by one beats the rows as they are.

    Attributes:
        recall: with the rows as they are.
        shuffled: with the rows of the items permuted, once a seed.
        shifted: number of rows -> with every row given to the item so many rows later.
        users: users with a validation interaction, `SAMPLED_USERS` of them at most.
    """

    recall: float
    shuffled: list[float]
    shifted: dict[int, float]
    users: int

    @property
    def shuffled_mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.shuffled))

    @property
    def shuffled_deviation(self) -> float:
        """Standard deviation over the seeds."""
        return float(np.std(self.shuffled, ddof=1))

    @property
    def noise(self) -> float:
        """Deviation over the seeds, at least that of counting hits of `users` draws: never zero."""
        floor = np.sqrt(max(self.shuffled_mean, 1.0 / self.users) / self.users)
        return float(max(self.shuffled_deviation, floor))

    @property
    def strength(self) -> float:
        """How far above the shuffled mean the real rows are, in units of noise."""
        return (self.recall - self.shuffled_mean) / self.noise

    @property
    def better_shift(self) -> int | None:
        """The shift that is clearly better than the rows as they are, or None."""
        shift = max(self.shifted, key=self.shifted.__getitem__)
        clearly_better = self.shifted[shift] - self.recall >= CLEARLY * self.noise
        return shift if clearly_better else None

    @property
    def is_aligned(self) -> bool:
        """Whether the real rows are clearly better than chance, and no shift is better yet."""
        return self.strength >= CLEARLY and self.better_shift is None

    @classmethod
    def measure(
        cls,
        features: Tensor,
        order: NDArray[np.intp],
        train: sp.csr_matrix,
        valid: sp.csr_matrix,
        label: str | None = None,
    ) -> Alignment | None:
        r"""Recommend by content alone and count the hits.

        .. math:: s_{ui} = \sum_{j \in N_{20}(i),\ j \in I_u} \cos(x_i, x_j)

        Training items are left out; an item with score 0 is not recommended.

        Args:
            features: [I, D], rows of missing items zero.
            order: [n] the items that have the modality, in the order of the file's rows.
            train: training interactions [U, I].
            valid: validation interactions [U, I].
            label: text of a progress bar on a terminal.

        Returns:
            The measurement, or None when there are no validation interactions.
        """
        users = np.flatnonzero(np.diff(valid.indptr))
        if not len(users):
            return None
        if len(users) > SAMPLED_USERS:
            users = np.sort(np.random.default_rng(0).choice(users, SAMPLED_USERS, replace=False))
        seen, wanted = _binary(train)[users], _binary(valid)[users]
        present = torch.zeros(len(features), dtype=torch.bool)
        present[torch.from_numpy(order)] = True
        graph = nearest_neighbors(features, present, NEIGHBORS + 1)
        graph = sp.csr_matrix(graph - sp.diags(graph.diagonal()))
        graph.eliminate_zeros()
        bar = tqdm(total=1 + SHUFFLES + len(SHIFTS), desc=label, leave=False, disable=None)

        def recall_of(rows: NDArray[np.intp]) -> float:
            """Return the recall when the item order[r] has the features of the item rows[r]."""
            owner = np.arange(len(features))
            owner[order] = rows
            bar.update()
            # Other rows mean other neighbours, but no other cosines.
            return knn_recall(graph[owner][:, owner], seen, wanted)

        with bar:
            generators = map(np.random.default_rng, range(SHUFFLES))
            return cls(
                recall=recall_of(order),
                shuffled=[recall_of(generator.permutation(order)) for generator in generators],
                shifted={shift: recall_of(np.roll(order, shift)) for shift in SHIFTS},
                users=len(users),
            )


def knn_recall(graph: sp.csr_matrix, seen: sp.csr_matrix, wanted: sp.csr_matrix) -> float:
    """Return Recall@20 of recommending the items whose neighbours a user has seen.

    Args:
        graph: row i has the similarities of item i to its neighbours [I, I].
        seen: 1 for every training interaction [U, I].
        wanted: 1 for every validation interaction [U, I], no row empty.

    Returns:
        The mean over the users.
    """
    step = max(1, BLOCK_CELLS // graph.shape[0])
    recalls: list[NDArray[np.float64]] = []
    for start in range(0, seen.shape[0], step):
        block, targets = seen[start : start + step], wanted[start : start + step]
        scores = (block @ graph.T).toarray()
        scores[block.nonzero()] = 0.0
        cutoff = min(CUTOFF, scores.shape[1])
        top = np.argpartition(-scores, cutoff - 1, axis=1)[:, :cutoff]
        recommended = np.take_along_axis(scores, top, axis=1) > 0
        hits = np.take_along_axis(targets.toarray(), top, axis=1) * recommended
        recalls.append(hits.sum(axis=1) / np.diff(targets.indptr))
    return float(np.concatenate(recalls).mean())


def _binary(interactions: sp.csr_matrix) -> sp.csr_matrix:
    ones = sp.csr_matrix(interactions, dtype=np.float32)
    ones.sum_duplicates()
    ones.data[:] = 1.0
    return ones
