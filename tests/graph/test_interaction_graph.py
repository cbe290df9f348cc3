from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_margo.graph.bipartite import normalized_adjacency
from recbole_margo.graph.interaction_graph import InteractionGraph
from recbole_margo.graph.sparse import SparseMatrix

USERS, ITEMS = 9, 7


def random_interactions() -> sp.csr_matrix:
    """Return R [U, I] whose PAD row and column, one user and one item are empty."""
    R = np.random.default_rng(0).random((USERS, ITEMS)) < 0.4
    R[0], R[:, 0], R[4], R[:, 5] = 0, 0, 0, 0
    return sp.csr_matrix(R, dtype=np.float32)


def dense_powers(layers: int) -> torch.Tensor:
    """Return I + A + ... + A^L [U + I, U + I] in float64."""
    adjacency = normalized_adjacency(random_interactions()).toarray().astype(np.float64)
    powers = [np.linalg.matrix_power(adjacency, layer) for layer in range(layers + 1)]
    return torch.from_numpy(sum(powers))


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_users_items_and_their_gradients_are_those_of_the_dense_adjacency(layers):
    torch.manual_seed(0)
    users = torch.randn(USERS, 3, requires_grad=True)
    items = torch.randn(ITEMS, 3, requires_grad=True)
    of_users, of_items = torch.randn(USERS, 3), torch.randn(ITEMS, 3)
    found = InteractionGraph(random_interactions()).sum_of_layers(users, items, layers)
    torch.autograd.backward(found, (of_users, of_items))
    powers = dense_powers(layers)
    expected = (powers @ torch.cat([users, items]).detach().double()).float()
    gradient = (powers.T @ torch.cat([of_users, of_items]).double()).float()
    torch.testing.assert_close(torch.cat(found).detach(), expected, rtol=1e-5, atol=1e-6)
    given = torch.cat([users.grad, items.grad])
    torch.testing.assert_close(given, gradient, rtol=1e-5, atol=1e-6)


def test_it_is_the_product_with_the_joined_adjacency():
    users, items = torch.randn(USERS, 4), torch.randn(ITEMS, 4)
    joined = SparseMatrix(normalized_adjacency(random_interactions()), symmetric=True)
    expected = joined.sum_of_powers(torch.cat([users, items]), 2)
    found = InteractionGraph(random_interactions()).sum_of_layers(users, items, 2)
    torch.testing.assert_close(torch.cat(found), expected, rtol=1e-6, atol=1e-7)


def test_a_gradient_through_the_users_alone_reaches_the_items():
    users = torch.randn(USERS, 2)
    items = torch.randn(ITEMS, 2, requires_grad=True)
    graph = InteractionGraph(random_interactions())
    graph.sum_of_layers(users, items, 1)[0].sum().backward()
    expected = dense_powers(1)[:USERS, USERS:].sum(dim=0)
    torch.testing.assert_close(items.grad[:, 0], expected.float(), rtol=1e-5, atol=1e-6)


def test_half_precision_is_computed_in_float32():
    users, items = torch.randn(USERS, 2), torch.randn(ITEMS, 2).bfloat16()
    graph = InteractionGraph(random_interactions())
    found = graph.sum_of_layers(users, items, 1)
    expected = graph.sum_of_layers(users, items.float(), 1)
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine, theirs)
    with torch.autocast("cpu"):
        assert graph.sum_of_layers(users, items, 1)[0].dtype == torch.float32


def test_its_parts_are_rebuilt_and_not_stored():
    assert InteractionGraph(random_interactions()).state_dict() == {}
