from __future__ import annotations

from types import SimpleNamespace

import dense_latent as latent
import numpy as np
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

from recbole_margo.graph.bipartite import (
    interaction_matrix,
    normalized_adjacency,
    normalized_interactions,
    random_walk_adjacency,
    row_mean,
)
from recbole_margo.testing import prepare, random_world


def random_interactions(users: int = 9, items: int = 7, seed: int = 0) -> np.ndarray:
    """Return R [U, I] whose PAD row and column, one user and one item are empty."""
    R = (np.random.default_rng(seed).random((users, items)) < 0.4).astype(np.float64)
    R[0], R[:, 0], R[4], R[:, 5] = 0, 0, 0, 0
    return R


def test_adjacency_equals_the_dense_formula():
    R = random_interactions()
    users, items = R.shape
    A = np.block([[np.zeros((users, users)), R], [R.T, np.zeros((items, items))]])
    degree = A.sum(axis=1)
    expected = np.zeros_like(A)
    for row in range(len(A)):
        for column in range(len(A)):
            if A[row, column]:
                expected[row, column] = 1 / np.sqrt(degree[row] * degree[column])

    adjacency = normalized_adjacency(sp.csr_matrix(R, dtype=np.float32))

    assert adjacency.dtype == np.float32
    assert_allclose(adjacency.toarray(), expected, rtol=1e-6)
    assert adjacency.nnz == 2 * R.sum()


def test_adjacency_has_no_self_loops_and_leaves_isolated_nodes_empty():
    R = random_interactions()
    adjacency = normalized_adjacency(sp.csr_matrix(R, dtype=np.float32)).toarray()
    isolated = [0, 4, len(R), len(R) + 5]
    assert not adjacency.diagonal().any()
    assert not adjacency[isolated].any() and not adjacency[:, isolated].any()


def test_normalized_interactions_are_the_users_part_of_the_adjacency():
    R = random_interactions()
    users = len(R)
    found = normalized_interactions(sp.csr_matrix(R, dtype=np.float32))
    assert found.shape == R.shape and found.dtype == np.float32 and found.nnz == R.sum()
    expected = R / np.sqrt(np.outer(R.sum(axis=1), R.sum(axis=0)).clip(min=1))
    assert_allclose(found.toarray(), expected, rtol=1e-6)
    adjacency = normalized_adjacency(sp.csr_matrix(R, dtype=np.float32)).toarray()
    assert_array_equal(found.toarray(), adjacency[:users, users:])


def test_adjacency_of_one_pair_is_one():
    adjacency = normalized_adjacency(sp.csr_matrix(np.array([[0, 0], [0, 1.0]])))
    assert_array_equal(adjacency.toarray().nonzero(), [[1, 3], [3, 1]])
    assert_array_equal(adjacency.data, [1, 1])


def test_interactions_are_those_of_training(tmp_path):
    world = random_world()
    experiment = prepare(world.write(tmp_path), "MARGO")
    users, items = zip(*world.splits["train"], strict=True)
    expected = np.zeros((21, 16))
    expected[experiment.user_ids(users), experiment.item_ids(items)] = 1

    matrix = interaction_matrix(experiment.loaders[0]._dataset)

    assert_array_equal(matrix.toarray(), expected)
    assert matrix.dtype == np.float32


def test_repeated_interactions_count_once():
    repeated = sp.coo_matrix(([1, 1, 1], ([1, 1, 2], [2, 2, 1])), shape=(3, 3))
    dataset = SimpleNamespace(inter_matrix=lambda form: repeated.asformat(form))
    assert_array_equal(interaction_matrix(dataset).toarray(), [[0, 0, 0], [0, 0, 1], [0, 1, 0]])


# --- row-normalised graphs ------------------------------------------------------------------------


def test_random_walk_equals_the_dense_formula_and_keeps_isolated_nodes_to_themselves():
    R = random_interactions()
    matrix = random_walk_adjacency(sp.csr_matrix(R, dtype=np.float32))
    assert matrix.dtype == np.float32
    assert_allclose(matrix.toarray(), latent.random_walk(R), rtol=1e-6)
    assert matrix.nnz == 2 * R.sum() + sum(R.shape)
    isolated = [0, 4, len(R), len(R) + 5]
    assert_array_equal(matrix.toarray()[isolated], np.eye(sum(R.shape))[isolated])


def test_random_walk_rows_sum_to_one_and_it_is_not_symmetric():
    """A user of two items gives each a third; an item of one user gives that user a half."""
    matrix = random_walk_adjacency(sp.csr_matrix(np.array([[1.0, 1.0]]))).toarray()
    third, half = 1 / 3, 1 / 2
    assert_allclose(matrix, [[third, third, third], [half, half, 0], [half, 0, half]], rtol=1e-6)


def test_row_mean_divides_each_row_by_its_sum_and_leaves_empty_rows_empty():
    matrix = sp.csr_matrix(np.array([[1.0, 3.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.5]]))
    found = row_mean(matrix)
    assert found.dtype == np.float32
    assert_allclose(found.toarray(), [[0.25, 0.75, 0], [0, 0, 0], [0, 0, 1]], rtol=1e-6)
    assert_array_equal(matrix.toarray()[0], [1, 3, 0])
