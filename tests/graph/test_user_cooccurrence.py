from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from recbole_margo.graph import user_cooccurrence
from recbole_margo.graph.user_cooccurrence import (
    cooccurrences_in_dense_blocks,
    softmax_rows,
    strongest_cooccurrences,
)


def random_interactions(seed: int, users: int = 24, items: int = 10) -> np.ndarray:
    """Return R [U, I] with many equal counts, a user without items and one without co-users."""
    R = (np.random.default_rng(seed).random((users, items)) < 0.25).astype(np.float32)
    R[0], R[:, 0] = 0, 0
    R[5], R[9], R[:, 9] = 0, 0, 0
    R[9, 9] = 1
    return R


def double_loop(R: np.ndarray, k: int) -> np.ndarray:
    """Return the counts [U, U] of each user's k strongest co-users, user by user.

    Ties: more shared items, then fewer interactions, then the lower id.
    """
    users = len(R)
    items_of = [set(np.flatnonzero(row)) for row in R]
    kept = np.zeros((users, users))
    for user in range(users):
        candidates = []
        for other in range(users):
            shared = len(items_of[user] & items_of[other])
            if other != user and shared:
                candidates.append((-shared, len(items_of[other]), other))
        for count, _, other in sorted(candidates)[:k]:
            kept[user, other] = -count
    return kept


def strongest_of_all_counts(R: np.ndarray, k: int) -> np.ndarray:
    """Return the same as `double_loop` of all pairs' counts, sorted as a whole."""
    counts = (R @ R.T).astype(int)
    np.fill_diagonal(counts, 0)
    users = np.arange(len(R))
    order = np.lexsort((np.tile(users, (len(R), 1)), np.tile(R.sum(1), (len(R), 1)), -counts))
    kept = np.zeros(counts.shape)
    np.put_along_axis(kept, order[:, :k], np.take_along_axis(counts, order[:, :k], 1), 1)
    return kept


@pytest.mark.parametrize("block_entries", [1, 30, 2**21], ids=["user by user", "blocks", "one"])
@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_a_double_loop(monkeypatch, seed, k, block_entries):
    monkeypatch.setattr(user_cooccurrence, "BLOCK_ENTRIES", block_entries)
    R = random_interactions(seed)
    counts = strongest_cooccurrences(sp.csr_matrix(R), k)
    assert_array_equal(counts.toarray(), double_loop(R, k))


@pytest.mark.parametrize("cells", [1, 100, 2**27], ids=["user by user", "blocks", "one"])
@pytest.mark.parametrize("k", [0, 1, 3, 40])
@pytest.mark.parametrize("seed", range(3))
def test_the_way_of_a_gpu_leads_to_the_same_graph(seed, k, cells):
    R = sp.csr_matrix(random_interactions(seed))
    found = cooccurrences_in_dense_blocks(R, k, torch.device("cpu"), cells)
    assert found.has_sorted_indices
    assert_array_equal(found.toarray(), double_loop(R.toarray(), k))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_finds_the_graph_of_the_cpu():
    R = sp.csr_matrix(random_interactions(1, users=300, items=40))
    found = strongest_cooccurrences(R, 7, torch.device("cuda"))
    expected = strongest_cooccurrences(R, 7)
    assert found.dtype == expected.dtype
    assert_array_equal(found.toarray(), expected.toarray())


def test_the_counts_that_are_held_at_a_time_are_bounded_whoever_is_popular(monkeypatch):
    """Half of the users share one item: a block of many users would hold all their pairs."""
    R = random_interactions(0, users=200)
    R[1:100, 3] = 1
    held = []
    original = user_cooccurrence._Candidates.of

    def remember(self, block):
        held.append(((self._rest[block] @ self._by_item).nnz, block.stop - block.start))
        return original(self, block)

    monkeypatch.setattr(user_cooccurrence._Candidates, "of", remember)
    monkeypatch.setattr(user_cooccurrence, "BLOCK_ENTRIES", 500)
    monkeypatch.setattr(user_cooccurrence, "POPULAR", (0,))
    found = strongest_cooccurrences(sp.csr_matrix(R), 4)

    assert_array_equal(found.toarray(), double_loop(R, 4))
    assert all(entries <= 500 or users == 1 for entries, users in held)
    assert sum(users for _, users in held) == 200
    assert len(held) < 100


@pytest.mark.parametrize("number", user_cooccurrence.POPULAR)
def test_popular_items_counted_by_sets_give_the_same_counts(monkeypatch, number):
    """Degrees of a power law, so that some pairs share popular items alone and some both kinds."""
    random = np.random.default_rng(number)
    R = (random.random((150, 40)) < 1.2 / np.arange(1, 41) ** 0.8).astype(np.float32)
    R[:, 1] = 1
    expected = strongest_of_all_counts(R, 6)
    monkeypatch.setattr(user_cooccurrence, "POPULAR", (number,))
    monkeypatch.setattr(user_cooccurrence, "BLOCK_ENTRIES", 700)
    assert_array_equal(strongest_cooccurrences(sp.csr_matrix(R), 6).toarray(), expected)


def test_few_pairs_are_compared_where_one_item_is_everyones():
    """All 2,000 users share an item, which makes four million pairs."""
    random = np.random.default_rng(0)
    R = sp.random(2000, 3000, 0.002, "csr", np.float32, random, np.ones)
    R = sp.csr_matrix(sp.hstack([R, np.ones((2000, 1), dtype=np.float32)]))
    candidates = user_cooccurrence._Candidates(R, 10)
    pairs = sum(len(candidates.of(block)[0]) for block in candidates.blocks())
    assert pairs < 100_000


@given(
    R=arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 6)), elements=(
        st.sampled_from([0.0, 0.0, 1.0])
    )),
    k=st.integers(0, 13),
    block_entries=st.integers(1, 60),
)  # fmt: skip
def test_any_interactions_and_blocks_give_the_same_counts(R, k, block_entries):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(user_cooccurrence, "BLOCK_ENTRIES", block_entries)
        found = strongest_cooccurrences(sp.csr_matrix(R), k)
    assert found.has_sorted_indices
    assert_array_equal(found.toarray(), double_loop(R, k))


def test_ties_go_to_fewer_interactions_then_to_the_lower_id():
    R = np.zeros((6, 6), dtype=np.float32)
    R[1, [1, 2]] = 1
    R[2, [1, 3, 4]] = 1  # shares one of three
    R[3, [1, 3]] = 1  # shares one of two
    R[4, [2, 5]] = 1  # shares one of two, higher id
    R[5, [1, 2, 3, 4, 5]] = 1  # shares two of five
    chosen = [set(strongest_cooccurrences(sp.csr_matrix(R), k)[1].indices) for k in (1, 2, 3, 4)]
    assert chosen == [{5}, {5, 3}, {5, 3, 4}, {5, 3, 4, 2}]


def test_no_neighbours_are_kept_for_k_zero():
    assert strongest_cooccurrences(sp.csr_matrix(random_interactions(0)), 0).nnz == 0


def test_users_without_co_users_have_an_empty_row():
    graph = softmax_rows(strongest_cooccurrences(sp.csr_matrix(random_interactions(0)), 5))
    for user in (0, 5, 9):
        assert graph[user].nnz == 0
        assert graph[:, user].nnz == 0


def test_softmax_equals_the_dense_formula_over_stored_entries():
    R = random_interactions(1)
    counts = strongest_cooccurrences(sp.csr_matrix(R), 6)
    expected = np.zeros(counts.shape)
    for user, row in enumerate(double_loop(R, 6)):
        stored = np.flatnonzero(row)
        if len(stored):
            expected[user, stored] = np.exp(row[stored]) / np.exp(row[stored]).sum()

    graph = softmax_rows(counts)

    assert graph.dtype == np.float32
    assert_allclose(graph.toarray(), expected, rtol=1e-6)


def test_softmax_is_finite_for_large_counts_and_leaves_its_argument_alone():
    counts = sp.csr_matrix(np.array([[0, 5000.0, 5001.0], [0, 0, 0], [3.0, 0, 0]]))
    before = counts.toarray()
    graph = softmax_rows(counts).toarray()
    assert_allclose(graph[0], [0, 1 / (1 + np.e), np.e / (1 + np.e)], rtol=1e-6)
    assert_array_equal(graph[1:], [[0, 0, 0], [1, 0, 0]])
    assert_array_equal(counts.toarray(), before)


def test_softmax_of_an_empty_graph_is_empty():
    assert softmax_rows(sp.csr_matrix((3, 3))).nnz == 0
