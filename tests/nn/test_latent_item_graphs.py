"""Item graphs mixed from learned and fixed neighbours, against dense formulas."""

import dense_latent as latent
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal

from recbole_margo.graph.item_knn import nearest_neighbors
from recbole_margo.graph.sparse import SparseMatrix
from recbole_margo.graph.sparse_pattern import SparsePattern
from recbole_margo.nn.latent_item_graphs import MixedItemGraph, neighbor_similarities

ITEMS = 7


def random_graph(seed: int, empty: int, low: float = 0.0) -> np.ndarray:
    """Return S [I, I] with one empty row and about half of the places filled."""
    random = np.random.default_rng(seed)
    S = random.uniform(low, 1, (ITEMS, ITEMS)) * (random.random((ITEMS, ITEMS)) < 0.5)
    np.fill_diagonal(S, 1)
    S[empty] = 0
    return S


def as_learned(S: np.ndarray) -> tuple[SparsePattern, torch.Tensor]:
    matrix = sp.csr_matrix(S)
    return SparsePattern.of_matrix(matrix), torch.tensor(S[S.nonzero()], dtype=torch.float32)


def mixed(learned, fixed, weights, share) -> MixedItemGraph:
    graphs = [
        (torch.tensor(w, dtype=torch.float32), SparseMatrix(sp.csr_matrix(N)))
        for w, N in zip(weights, fixed, strict=True)
    ]
    return MixedItemGraph([as_learned(S) for S in learned], graphs, share)


def dense_mix(learned, fixed, weights, share) -> np.ndarray:
    constant = sum(w * N for w, N in zip(weights, fixed, strict=True))
    return (1 - share) * latent.normalized_by_row_sums(sum(learned)) + share * constant


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_product_equals_the_dense_formula(count, share):
    learned = [random_graph(seed, empty=0) for seed in range(count)]
    fixed = [random_graph(10 + seed, empty=seed) for seed in range(count)]
    weights = np.random.default_rng(5).random(count)
    X = torch.randn(ITEMS, 3)
    expected = dense_mix(learned, fixed, weights, share) @ X.double().numpy()
    found = mixed(learned, fixed, weights, share)(X)
    assert found.dtype == torch.float32
    assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_sum_of_the_learned_graphs_is_normalised_not_each_of_them():
    one, other = np.zeros((2, ITEMS, ITEMS))
    one[1, [1, 2]] = 1.0, 0.5
    other[1, [1, 3]] = 0.5, 0.25
    one[2, 2] = 4.0
    graph = mixed([one, other], [np.eye(ITEMS)] * 2, [0.5, 0.5], 0.0)
    found = graph(torch.eye(ITEMS))
    assert found[1, 1].item() == pytest.approx(1.5 / 2.25)
    assert found[1, 2].item() == pytest.approx(0.5 / np.sqrt(2.25 * 4))
    assert found[1, 3].item() == 0, "a neighbour without a row of its own has no normalisation"


def test_a_row_whose_sum_is_not_positive_has_no_weight_and_finite_gradients():
    S = random_graph(0, empty=0)
    S[3] = 0
    S[3, [1, 3]] = -1.5, 1.0
    S[4] = 0
    S[4, [1, 4]] = -1.0, 1.0
    S[1, 3] = S[1, 4] = 0.5
    pattern, values = as_learned(S)
    values.requires_grad_()
    N = SparseMatrix(sp.csr_matrix((ITEMS, ITEMS)))
    found = MixedItemGraph([(pattern, values)], [(torch.ones(()), N)], 0.0)(torch.eye(ITEMS))
    assert not found[[3, 4]].any() and not found[:, [3, 4]].any()
    assert_allclose(found.detach(), latent.normalized_by_row_sums(S), rtol=1e-5, atol=1e-6)
    found.square().sum().backward()
    assert torch.isfinite(values.grad).all()
    assert not values.grad[(pattern.row == 3) | (pattern.row == 4)].any()


def test_gradients_by_finite_differences(double_precision):
    learned = [as_learned(random_graph(seed, empty=0)) for seed in range(2)]
    fixed = [
        SparseMatrix(sp.csr_matrix(random_graph(10 + seed, empty=seed))).double()
        for seed in range(2)
    ]
    patterns = [pattern for pattern, _ in learned]
    values = [value.double().requires_grad_() for _, value in learned]
    weights = torch.rand(2, dtype=torch.float64, requires_grad=True)
    X = torch.randn(ITEMS, 3, dtype=torch.float64, requires_grad=True)

    def product(first, second, weights, X):
        pairs = list(zip(patterns, (first, second), strict=True))
        return MixedItemGraph(pairs, list(zip(weights, fixed, strict=True)), 0.4)(X)

    assert torch.autograd.gradcheck(product, (*values, weights, X))


def test_detached_has_the_same_value_and_passes_a_gradient_to_the_items_alone():
    pattern, values = as_learned(random_graph(0, empty=0))
    weight = torch.tensor(0.7, requires_grad=True)
    values.requires_grad_()
    fixed = SparseMatrix(sp.csr_matrix(random_graph(1, empty=0)))
    graph = MixedItemGraph([(pattern, values)], [(weight, fixed)], 0.4)
    X = torch.randn(ITEMS, 3, requires_grad=True)
    product = graph.detached()(X)
    assert torch.equal(product, graph(X))
    product.sum().backward()
    assert values.grad is None and weight.grad is None
    assert X.grad.any()


# --- neighbours by trained features ---------------------------------------------------------------


def trained(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features [I, d] and presence [I]: PAD and one more are missing, one is all zero."""
    features = torch.randn(9, 4, generator=torch.Generator().manual_seed(seed))
    present = torch.ones(9, dtype=torch.bool)
    present[[0, 5]] = False
    features[3] = 0
    return features, present


@pytest.mark.parametrize("k", [1, 3, 50])
def test_neighbours_and_cosines_are_those_of_the_dense_formula(k):
    features, present = trained()
    pattern, cosines = neighbor_similarities(features, present, k)
    dense = latent.similar_items(features.double().numpy(), present.numpy(), k)
    found = np.zeros((9, 9))
    found[pattern.row, pattern.column] = cosines
    assert_allclose(found, dense, rtol=1e-5, atol=1e-6)
    assert_array_equal(np.stack([pattern.row, pattern.column]), dense.nonzero())
    kept = nearest_neighbors(features, present, k)
    assert pattern.row.numel() == kept.nnz


def test_the_gradient_of_the_cosines_is_that_with_fixed_neighbours():
    features, present = trained()
    features.requires_grad_()
    pattern, cosines = neighbor_similarities(features, present, 3)
    weights = torch.randn(cosines.shape)
    (cosines * weights).sum().backward()

    copied = features.detach().double().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for row, column, weight in zip(pattern.row, pattern.column, weights.double(), strict=True):
        x, y = copied[row], copied[column]
        total = total + weight * (x @ y) / (x.norm() * y.norm())
    total.backward()
    assert_allclose(features.grad, copied.grad, rtol=1e-4, atol=1e-6)
    assert not features.grad[[0, 3, 5]].any()


def test_an_item_alone_passes_no_gradient_of_its_own_cosine():
    """It is 1 whatever the features are."""
    features, present = trained()
    features.requires_grad_()
    _, cosines = neighbor_similarities(features, present, 1)
    assert_allclose(cosines.detach(), 1, rtol=1e-6)
    cosines.sum().backward()
    assert_allclose(features.grad, 0, atol=1e-6)


@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_similarities_of_extreme_features_are_cosines(scale):
    features = torch.randn(9, 4)
    present = torch.arange(9) > 0
    pattern, values = neighbor_similarities(features, present, 3)
    found, at_scale = neighbor_similarities(features * scale, present, 3)
    assert torch.equal(found.column, pattern.column)
    torch.testing.assert_close(at_scale, values, rtol=1e-4, atol=1e-6)
