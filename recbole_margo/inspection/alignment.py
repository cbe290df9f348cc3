"""Whether the features of a modality belong to the items: content kNN against shuffled rows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

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
PERMUTATIONS = 999
# Permuted rows are as good as the rows as they are with this probability at most.
SIGNIFICANT = 0.01
# From so many times what permuted rows give on, rows fit; below, what they say is weak.
CLEAR_LIFT = 2.0
# How many times the noise of shuffled rows, shifted rows must be above the rows as they are.
CLEARLY = 4.0
# Pairs of items are looked up in a dense table of at most 64 MB, else in a sparse one, for whose
# users at most so many pairs are counted.
DENSE_CELLS, MOST_PAIRS = 1 << 24, 1 << 24
# A block of scores takes at most 64 MB.
BLOCK_CELLS = 1 << 24


class Verdict(Enum):
    """Whether the rows of a modality belong to its items; the value is what reports say."""

    FITS = "fits"
    WEAK = "weak but real"
    NO_SIGN = "no sign that they belong"


@dataclass(frozen=True)
class NeighborTest:
    r"""A permutation test: are later items of a user content neighbours of earlier ones?

    .. math:: \frac{1}{|U|} \sum_u \frac{1}{|W_u| |I_u|} \sum_{i \in W_u} \sum_{j \in I_u}
        [j \in N_{20}(i)]

    with the training items I_u of a user and the validation and test items W_u that are not among
    them. It is a sum over pairs of items, so that a permutation of the rows costs no ranking.

    Attributes:
        rate: of the rows as they are.
        expected: mean over the permutations of the rows.
        deviation: standard deviation over them.
        p_value: probability that permuted rows are as good; at least 1 / (permutations + 1).
    """

    rate: float
    expected: float
    deviation: float
    p_value: float

    @property
    def lift(self) -> float:
        """The effect size: how many times the rate of permuted rows that of the real ones is."""
        return self.rate / self.expected if self.expected > 0 else 1.0

    @classmethod
    def of(
        cls,
        graph: sp.csr_matrix,
        order: NDArray[np.intp],
        seen: sp.csr_matrix,
        later: sp.csr_matrix,
    ) -> NeighborTest:
        """Permute the rows of the items.

        Args:
            graph: row i has the neighbours of item i [I, I], none itself.
            order: [n] the items that have the modality.
            seen: 1 for every training interaction [U, I].
            later: 1 for every validation and test interaction [U, I].
        """
        pairs = _pair_weights(seen, sp.csr_matrix(later - later.multiply(seen)))
        items, neighbors = graph.nonzero()
        owner = np.arange(graph.shape[0])

        def rate_of(rows: NDArray[np.intp]) -> float:
            owner[order] = rows
            return float(pairs[owner[items], owner[neighbors]].sum())

        rate = rate_of(order)
        random = np.random.default_rng(0)
        permuted = np.array([rate_of(random.permutation(order)) for _ in range(PERMUTATIONS)])
        # Sums in another order differ by rounding.
        as_good = int((permuted >= rate * (1 - 1e-6)).sum())
        return cls(
            rate,
            float(permuted.mean()),
            float(permuted.std(ddof=1)),
            (1 + as_good) / (1 + PERMUTATIONS),
        )


def _pair_weights(seen: sp.csr_matrix, later: sp.csr_matrix) -> NDArray[np.float32] | sp.csr_matrix:
    """Return what each pair of a later and an earlier item adds to the rate [I, I]."""
    later.eliminate_zeros()
    sizes = np.diff(later.indptr).astype(np.int64) * np.diff(seen.indptr)
    users = np.random.default_rng(0).permutation(np.flatnonzero(sizes))
    users = np.sort(users[: max(1, np.searchsorted(np.cumsum(sizes[users]), MOST_PAIRS))])
    weights = sp.diags(1.0 / np.maximum(sizes[users], 1) / max(len(users), 1))
    pairs = sp.csr_matrix(later[users].T @ weights @ seen[users])
    pairs.sort_indices()
    return pairs.toarray() if np.prod(pairs.shape, dtype=float) <= DENSE_CELLS else pairs


@dataclass(frozen=True)
class Alignment:
    """Content-kNN Recall@20 of what users did after training, with the rows as they are and not.

    Shuffled rows show what chance gives. Items with neighbouring rows are often alike, so that rows
    that are off by one can still beat chance; then a shift by one beats the rows as they are.

    Attributes:
        recall: with the rows as they are.
        shuffled: with the rows of the items permuted, once a seed.
        shifted: number of rows -> with every row given to the item so many rows later.
        users: users with a validation or test interaction, `SAMPLED_USERS` of them at most.
        neighbors: the test that decides.
    """

    recall: float
    shuffled: list[float]
    shifted: dict[int, float]
    users: int
    neighbors: NeighborTest

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
    def verdict(self) -> Verdict:
        """The verdict on the modality."""
        if self.neighbors.p_value > SIGNIFICANT or self.better_shift is not None:
            return Verdict.NO_SIGN
        return Verdict.FITS if self.neighbors.lift >= CLEAR_LIFT else Verdict.WEAK

    @classmethod
    def measure(
        cls,
        features: Tensor,
        order: NDArray[np.intp],
        train: sp.csr_matrix,
        later: sp.csr_matrix,
        label: str | None = None,
    ) -> Alignment | None:
        r"""Recommend by content alone and count the hits.

        .. math:: s_{ui} = \sum_{j \in N_{20}(i),\ j \in I_u} \cos(x_i, x_j)

        Training items are left out; an item with score 0 is not recommended.

        Args:
            features: [I, D], rows of missing items zero.
            order: [n] the items that have the modality, in the order of the file's rows.
            train: training interactions [U, I].
            later: validation and test interactions [U, I].

        Returns:
            The measurement, or None when there are no validation or test interactions.
        """
        users = np.flatnonzero(np.diff(later.indptr))
        if not len(users):
            return None
        if len(users) > SAMPLED_USERS:
            users = np.sort(np.random.default_rng(0).choice(users, SAMPLED_USERS, replace=False))
        seen, wanted = _binary(train)[users], _binary(later)[users]
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
                neighbors=NeighborTest.of(graph, order, seen, wanted),
            )


def knn_recall(graph: sp.csr_matrix, seen: sp.csr_matrix, wanted: sp.csr_matrix) -> float:
    """Return the mean Recall@20 of recommending the items whose neighbours a user has seen.

    Args:
        graph: row i has the similarities of item i to its neighbours [I, I].
        seen: 1 for every training interaction [U, I].
        wanted: 1 for every validation interaction [U, I], no row empty.
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
