from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.stats
import torch

from recbole_margo.inspection import alignment as alignment_module
from recbole_margo.inspection import statistics
from recbole_margo.inspection.alignment import (
    CUTOFF,
    NEIGHBORS,
    Alignment,
    NeighborTest,
    Verdict,
    knn_recall,
)
from recbole_margo.inspection.statistics import DuplicateItems, InteractionStatistics, ranks


def random_interactions(generator: np.random.Generator, users: int, items: int, share: float):
    chosen = generator.random((users, items)) < share
    chosen[0], chosen[:, 0] = False, False
    return chosen


def recall_by_hand(features, present, train, valid) -> float:
    """Recall@20 of content kNN, one user and one item at a time."""
    items = np.flatnonzero(present)
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-30)
    cosine = unit @ unit.T
    recalls = []
    for user in np.flatnonzero(valid.any(axis=1)):
        scores = {}
        for item in items:
            if train[user, item]:
                continue
            others = [other for other in items if other != item]
            nearest = sorted(others, key=lambda other: -cosine[item, other])[:NEIGHBORS]
            score = sum(cosine[item, other] for other in nearest if train[user, other])
            if score > 0:
                scores[item] = score
        best = sorted(scores, key=lambda item: -scores[item])[:CUTOFF]
        recalls.append(valid[user, best].sum() / valid[user].sum())
    return float(np.mean(recalls))


@pytest.mark.parametrize("block_cells", [1 << 24, 90])
def test_recall_equals_a_loop_over_users_and_items(
    monkeypatch: pytest.MonkeyPatch, block_cells: int
) -> None:
    monkeypatch.setattr(alignment_module, "BLOCK_CELLS", block_cells)
    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 5)).astype(np.float32)
    present = generator.random(60) < 0.8
    present[0] = False
    features[~present] = 0.0
    train = random_interactions(generator, 15, 60, 0.1)
    valid = random_interactions(generator, 15, 60, 0.1) & ~train
    order = generator.permutation(np.flatnonzero(present))
    found = Alignment.measure(
        torch.from_numpy(features),
        order,
        sp.csr_matrix(train.astype(np.int64)),
        sp.csr_matrix(valid.astype(np.int64)),
    )
    assert found is not None
    expected = recall_by_hand(features, present, train, valid)
    assert expected > 0
    assert found.recall == pytest.approx(expected, abs=1e-12)
    shuffled = features.copy()
    shuffled[order] = features[np.random.default_rng(0).permutation(order)]
    expected = recall_by_hand(shuffled, present, train, valid)
    assert found.shuffled[0] == pytest.approx(expected, abs=1e-12)
    shifted = features.copy()
    for row, item in enumerate(order[:-1]):
        shifted[order[row + 1]] = features[item]
    shifted[order[0]] = features[order[-1]]
    expected = recall_by_hand(shifted, present, train, valid)
    assert found.shifted[1] == pytest.approx(expected, abs=1e-12)


def test_without_validation_there_is_no_alignment() -> None:
    empty = sp.csr_matrix((3, 4), dtype=np.int64)
    assert Alignment.measure(torch.ones(4, 2), np.array([1, 2, 3]), empty, empty) is None


def test_items_that_nobody_is_near_to_are_not_recommended() -> None:
    nothing = sp.csr_matrix((5, 5), dtype=np.float32)
    ones = sp.csr_matrix(np.ones((2, 5), dtype=np.float32))
    assert knn_recall(nothing, ones, ones) == 0.0


@pytest.mark.parametrize(
    ("rate", "p_value", "shifted", "verdict"),
    [
        (0.04, 0.001, 0.0, Verdict.FITS),
        (0.013, 0.001, 0.0, Verdict.WEAK),
        (0.013, 0.02, 0.0, Verdict.NO_SIGN),
        (0.04, 0.001, 0.2, Verdict.NO_SIGN),
    ],
)
def test_the_three_verdicts(rate: float, p_value: float, shifted: float, verdict: Verdict) -> None:
    neighbors = NeighborTest(rate, 0.01, 0.001, p_value)
    found = Alignment(0.05, [0.0] * 10, {-1: shifted, 1: 0.0}, 1000, neighbors)
    assert found.verdict is verdict
    assert found.noise > 0
    assert found.better_shift == (-1 if shifted else None)


def world_of_neighbors() -> tuple[sp.csr_matrix, sp.csr_matrix, sp.csr_matrix]:
    """Return a neighbour graph and the earlier and later interactions of 30 users [30, 12]."""
    random = np.random.default_rng(4)
    earlier = sp.csr_matrix((random.random((30, 12)) < 0.3).astype(np.float32))
    later = sp.csr_matrix((random.random((30, 12)) < 0.2).astype(np.float32))
    graph = (random.random((12, 12)) < 0.25) * random.random((12, 12)) * (1 - np.eye(12))
    return sp.csr_matrix(graph), earlier, later


@pytest.mark.parametrize("dense", [True, False])
def test_the_rate_of_neighbors_by_hand(monkeypatch: pytest.MonkeyPatch, dense: bool) -> None:
    graph, earlier, later = world_of_neighbors()
    monkeypatch.setattr(alignment_module, "DENSE_CELLS", 144 if dense else 0)
    found = NeighborTest.of(graph, np.arange(12), earlier, later)
    near, shares = graph.toarray() > 0, []
    for had, took in zip(earlier.toarray() > 0, later.toarray() > 0, strict=True):
        new = np.flatnonzero(took & ~had)
        if len(new) and had.any():
            shares.append(np.mean([near[item, had].mean() for item in new]))
    assert found.rate == pytest.approx(np.mean(shares), rel=1e-5)
    # The mean over all permutations: how full the graph is off its diagonal.
    assert found.expected == pytest.approx(near.sum() / (12 * 11), rel=0.02)


def test_p_values_of_unrelated_rows_are_uniform() -> None:
    random = np.random.default_rng(1)
    earlier = sp.csr_matrix((random.random((60, 40)) < 0.2).astype(np.float32))
    later = sp.csr_matrix((random.random((60, 40)) < 0.1).astype(np.float32))
    p_values = []
    for seed in range(40):
        drawn = np.random.default_rng(seed).random((40, 40))
        np.fill_diagonal(drawn, 0.0)
        graph = sp.csr_matrix((drawn > 0.8).astype(np.float32))
        p_values.append(NeighborTest.of(graph, np.arange(40), earlier, later).p_value)
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01
    assert min(p_values) >= 1 / 1000


def test_a_weak_modality_that_is_right_is_told_from_a_wrong_one() -> None:
    random = np.random.default_rng(7)
    group = np.arange(400) % 8
    liked = np.concatenate([np.eye(8)[group % 8].T * 0.12 + 0.02] * 40)
    earlier, later = (
        sp.csr_matrix((random.random(liked.shape) < liked).astype(np.int64)) for _ in range(2)
    )
    weak = np.eye(8)[group] * 0.9 + random.standard_normal((400, 8))
    order, verdicts = np.arange(400), []
    for rows in (order, random.permutation(400)):
        features = torch.from_numpy(weak[rows].astype(np.float32))
        found = Alignment.measure(features, order, earlier, later)
        assert found is not None
        verdicts.append(found.verdict)
    assert verdicts == [Verdict.WEAK, Verdict.NO_SIGN]


def test_counts_of_interactions_by_hand() -> None:
    train = sp.csr_matrix(np.array([[0, 0, 0, 0], [0, 2, 1, 0], [0, 0, 1, 0]]))
    valid = sp.csr_matrix(np.array([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]))
    found = InteractionStatistics.of({"train": train, "valid": valid})
    assert (found.users, found.items) == (2, 3)
    assert found.interactions == {"train": 4, "valid": 2}
    assert found.density == 1.0
    assert found.user_degrees["maximum"] == 3
    assert found.item_degrees["mean"] == pytest.approx(4 / 3)
    assert (found.cold_items, found.cold_users, found.repeated) == (1, 0, 1)


@pytest.mark.parametrize("largest", [10_000, 4])
def test_duplicates_by_hand(monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    monkeypatch.setattr(statistics, "LARGEST_EXACT", largest)
    monkeypatch.setattr(statistics, "SAMPLED_ITEMS", 7)
    monkeypatch.setattr(statistics, "BLOCK_CELLS", 14)
    rows = torch.tensor(
        [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [1.0, 1.0], [1.0, 1.01], [1.0, -0.0]]
    )
    found = DuplicateItems.of(rows, np.array(list("abcdefg")))
    assert (found.exact_items, found.exact_groups, found.largest_group) == (3, 1, 3)
    assert (found.near_items, found.compared_items) == (6, 7)
    assert ("e", "f") in found.examples


def test_ranks_of_planted_matrices() -> None:
    generator = np.random.default_rng(0)
    low = generator.normal(size=(50, 3)) @ generator.normal(size=(3, 20))
    rank, principal = ranks(torch.from_numpy(low.astype(np.float32)))
    assert rank == 3 and principal <= 3
    assert ranks(torch.ones(10, 4)) == (1, 0)
    spread = torch.zeros(4, 2)
    spread[:, 0] = torch.tensor([10.0, -10.0, 10.0, -10.0])
    spread[:, 1] = torch.tensor([1.0, 1.0, -1.0, -1.0])
    assert ranks(spread) == (2, 1)


def test_real_features_belong_to_their_items(shared_data: Path) -> None:
    folder = shared_data / "lfm2k"
    table = np.loadtxt(folder / "lfm2k.inter", skiprows=1, dtype=np.int64, delimiter="\t")
    features = torch.from_numpy(np.load(folder / "text_feat.npy").astype(np.float32))
    shape = (int(table[:, 0].max()) + 1, len(features))
    train, later = (
        sp.csr_matrix((np.ones(len(rows), np.int64), (rows[:, 0], rows[:, 1])), shape=shape)
        for rows in (table[(table[:, 3] > 0) == late] for late in (False, True))
    )
    order = np.arange(len(features))
    found = Alignment.measure(features, order, train, later)
    assert found is not None
    assert found.verdict is Verdict.FITS
    assert 0.25 < found.recall < 0.31
    assert 0.010 < found.shuffled_mean < 0.018
    # Neighbouring ids are alike in this data set: a shift of the rows by one still beats chance.
    late = Alignment.measure(features.roll(1, dims=0), order, train, later)
    assert late is not None and late.strength > 4
    assert late.better_shift == -1 and late.verdict is Verdict.NO_SIGN
    assert late.shifted[-1] == found.recall
