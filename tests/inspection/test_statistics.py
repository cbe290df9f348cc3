from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_margo.inspection import alignment as alignment_module
from recbole_margo.inspection import statistics
from recbole_margo.inspection.alignment import CUTOFF, NEIGHBORS, Alignment, knn_recall
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


def test_noise_is_never_zero() -> None:
    nothing, shifts = [0.0] * 10, {-1: 0.0, 1: 0.0}
    assert not Alignment(0.001, nothing, shifts, users=1000).is_aligned
    assert Alignment(0.05, nothing, shifts, users=1000).is_aligned
    assert Alignment(0.05, nothing, {-1: 0.2, 1: 0.0}, users=1000).better_shift == -1


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
    train, valid = (
        sp.csr_matrix((np.ones(len(rows), np.int64), (rows[:, 0], rows[:, 1])), shape=shape)
        for rows in (table[table[:, 3] == label] for label in (0, 1))
    )
    order = np.arange(len(features))
    found = Alignment.measure(features, order, train, valid)
    assert found is not None
    assert found.is_aligned
    assert 0.25 < found.recall < 0.31
    assert 0.010 < found.shuffled_mean < 0.018
    # Neighbouring ids are alike in this data set: a shift of the rows by one still beats chance.
    late = Alignment.measure(features.roll(1, dims=0), order, train, valid)
    assert late is not None and late.strength > 4
    assert late.better_shift == -1 and not late.is_aligned
    assert late.shifted[-1] == found.recall
