from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import dense_collaborative as dense
import dense_latent as latent
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import chisquare

from recbole_margo.graph.bipartite import (
    InteractionGraph,
    interaction_matrix,
    normalized_adjacency,
    normalized_interactions,
    random_walk_adjacency,
    row_mean,
    sample_interactions,
)
from recbole_margo.graph.sparse import SparseMatrix
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


# Row and column 0 are PAD. Degrees of the users 3 and 1, of the items 2, 1 and 1.
EDGES = ((1, 1), (1, 2), (1, 3), (2, 1))
DRAWS = 4000


def matrix(edges=EDGES, shape=(3, 4)) -> sp.csr_matrix:
    rows, columns = zip(*edges, strict=True)
    return sp.csr_matrix((np.ones(len(edges), dtype=np.float32), (rows, columns)), shape=shape)


def many_edges(count: int) -> sp.csr_matrix:
    random = np.random.default_rng(count)
    places = random.choice(40 * 30, size=count, replace=False)
    return matrix([(place // 30, place % 30) for place in places], shape=(40, 30))


def edges_of(sample: sp.csr_matrix) -> frozenset[int]:
    rows, columns = sample.nonzero()
    return frozenset(EDGES.index(edge) for edge in zip(rows, columns, strict=True))


def counts_of_draws(kept: int, seed: int) -> dict[frozenset[int], int]:
    random, counts = np.random.default_rng(seed), {}
    for _ in range(DRAWS):
        drawn = edges_of(sample_interactions(matrix(), 1 - kept / 4, random))
        counts[drawn] = counts.get(drawn, 0) + 1
    return counts


def rarity(power: float) -> list[float]:
    R = matrix().toarray()
    return [float((R[u].sum() * R[:, i].sum()) ** -power) for u, i in EDGES]


def p_value(counts: dict[frozenset[int], int], weights: list[float], kept: int) -> float:
    """Return how likely counts at least as uneven are if the weights are those drawn with."""
    probabilities = dense.successive_sampling(weights, kept)
    assert set(counts) <= set(probabilities)
    found = [counts.get(edges, 0) for edges in probabilities]
    return float(chisquare(found, [DRAWS * p for p in probabilities.values()]).pvalue)


def test_successive_sampling_by_hand():
    found = dense.successive_sampling([1.0, 2.0, 3.0], 2)
    assert sum(found.values()) == pytest.approx(1)
    assert found[frozenset({0, 1})] == pytest.approx(1 / 6 * 2 / 5 + 2 / 6 * 1 / 4)


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_sets_are_drawn_as_one_edge_after_another_with_the_inverse_root_of_the_degrees(kept):
    counts = counts_of_draws(kept, seed=kept)
    assert sum(counts.values()) == DRAWS
    assert p_value(counts, rarity(0.5), kept) > 0.05
    # The same draws refute what is easily mistaken for it.
    for power in (0.0, 0.25, 1.0, -0.5):
        assert p_value(counts, rarity(power), kept) < 1e-4


@pytest.mark.parametrize("share", [0.0, 0.1, 0.33, 0.7, 0.8, 0.9, 0.99])
@pytest.mark.parametrize("count", [1, 4, 10, 80, 100, 137])
def test_the_floor_of_the_share_is_kept_whatever_floating_point_makes_of_it(count, share):
    interactions = many_edges(count)
    sample = sample_interactions(interactions, share, np.random.default_rng(0))
    assert sample.nnz == int(count * (1 - Fraction(str(share))))
    assert sample.shape == interactions.shape
    dense_sample = sample.toarray()
    assert set(np.unique(dense_sample)) <= {0, 1}  # no edge twice
    assert (dense_sample <= interactions.toarray()).all()


def test_an_odd_share_takes_a_known_number_of_the_edges_of_baby():
    users, items = np.divmod(np.arange(118_551), 7_050)
    interactions = sp.csr_matrix((np.ones(118_551, dtype=np.float32), (users, items)))
    assert sample_interactions(interactions, 0.8, np.random.default_rng(0)).nnz == 23_710


def test_without_a_share_all_are_kept_and_the_input_is_left_alone():
    interactions = many_edges(50)
    before = interactions.toarray()
    whole = sample_interactions(interactions, 0.0, np.random.default_rng(0))
    sample_interactions(interactions, 0.5, np.random.default_rng(0))
    assert_array_equal(whole.toarray(), before)
    assert_array_equal(interactions.toarray(), before)


def test_the_generator_alone_decides():
    interactions = many_edges(100)
    one, same, other = (
        sample_interactions(interactions, 0.5, np.random.default_rng(seed)).toarray()
        for seed in (1, 1, 2)
    )
    assert_array_equal(one, same)
    assert (one != other).any()


USERS, ITEMS = 9, 7


def sparse_interactions() -> sp.csr_matrix:
    """Return R [U, I] whose PAD row and column, one user and one item are empty."""
    R = np.random.default_rng(0).random((USERS, ITEMS)) < 0.4
    R[0], R[:, 0], R[4], R[:, 5] = 0, 0, 0, 0
    return sp.csr_matrix(R, dtype=np.float32)


def dense_powers(layers: int) -> torch.Tensor:
    """Return I + A + ... + A^L [U + I, U + I] in float64."""
    adjacency = normalized_adjacency(sparse_interactions()).toarray().astype(np.float64)
    powers = [np.linalg.matrix_power(adjacency, layer) for layer in range(layers + 1)]
    return torch.from_numpy(sum(powers))


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_users_items_and_their_gradients_are_those_of_the_dense_adjacency(layers):
    torch.manual_seed(0)
    users = torch.randn(USERS, 3, requires_grad=True)
    items = torch.randn(ITEMS, 3, requires_grad=True)
    of_users, of_items = torch.randn(USERS, 3), torch.randn(ITEMS, 3)
    found = InteractionGraph(sparse_interactions()).sum_of_layers(users, items, layers)
    torch.autograd.backward(found, (of_users, of_items))
    powers = dense_powers(layers)
    expected = (powers @ torch.cat([users, items]).detach().double()).float()
    gradient = (powers.T @ torch.cat([of_users, of_items]).double()).float()
    torch.testing.assert_close(torch.cat(found).detach(), expected, rtol=1e-5, atol=1e-6)
    given = torch.cat([users.grad, items.grad])
    torch.testing.assert_close(given, gradient, rtol=1e-5, atol=1e-6)


def test_it_is_the_product_with_the_joined_adjacency():
    users, items = torch.randn(USERS, 4), torch.randn(ITEMS, 4)
    joined = SparseMatrix(normalized_adjacency(sparse_interactions()), symmetric=True)
    expected = joined.sum_of_powers(torch.cat([users, items]), 2)
    found = InteractionGraph(sparse_interactions()).sum_of_layers(users, items, 2)
    torch.testing.assert_close(torch.cat(found), expected, rtol=1e-6, atol=1e-7)


def test_a_gradient_through_the_users_alone_reaches_the_items():
    users = torch.randn(USERS, 2)
    items = torch.randn(ITEMS, 2, requires_grad=True)
    graph = InteractionGraph(sparse_interactions())
    graph.sum_of_layers(users, items, 1)[0].sum().backward()
    expected = dense_powers(1)[:USERS, USERS:].sum(dim=0)
    torch.testing.assert_close(items.grad[:, 0], expected.float(), rtol=1e-5, atol=1e-6)


def test_half_precision_is_computed_in_float32():
    users, items = torch.randn(USERS, 2), torch.randn(ITEMS, 2).bfloat16()
    graph = InteractionGraph(sparse_interactions())
    found = graph.sum_of_layers(users, items, 1)
    expected = graph.sum_of_layers(users, items.float(), 1)
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine, theirs)
    with torch.autocast("cpu"):
        assert graph.sum_of_layers(users, items, 1)[0].dtype == torch.float32


def test_its_parts_are_rebuilt_and_not_stored():
    assert InteractionGraph(sparse_interactions()).state_dict() == {}
