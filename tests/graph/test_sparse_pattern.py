from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from recbole_margo.graph.sparse_pattern import SparsePattern

# Unsorted; row 2 and column 1 are empty, and so are the last ones; one edge comes twice.
ROWS, COLUMNS = (4, 0, 3, 0, 1, 0, 3, 4), (0, 4, 2, 0, 3, 2, 2, 4)
SHAPE = (6, 7)
EDGES = len(ROWS)


def pattern(rows=ROWS, columns=COLUMNS, shape=SHAPE) -> SparsePattern:
    return SparsePattern(torch.tensor(rows), torch.tensor(columns), shape)


def variables(*arrays: np.ndarray, dtype=torch.float32) -> list[torch.Tensor]:
    return [torch.tensor(array, dtype=dtype, requires_grad=True) for array in arrays]


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def sorted_edges(rows=ROWS, columns=COLUMNS) -> list[tuple[int, int]]:
    return sorted(zip(rows, columns, strict=True))


# --- the edges ------------------------------------------------------------------------------------


def test_edges_are_kept_row_by_row_whatever_their_order():
    edges = pattern()
    assert list(zip(edges.row.tolist(), edges.column.tolist(), strict=True)) == sorted_edges()


@pytest.mark.parametrize("layout", ["csr", "csc", "coo"])
def test_the_pattern_of_a_matrix_is_of_its_stored_entries(layout):
    matrix = sp.coo_matrix(([1.0, 2.0, 3.0], ([2, 0, 0], [0, 2, 1])), shape=(3, 4))
    edges = SparsePattern.of_matrix(matrix.asformat(layout))
    assert edges.shape == (3, 4)
    assert edges.row.tolist() == [0, 0, 2]
    assert edges.column.tolist() == [1, 2, 0]


def test_it_shows_its_size():
    assert "6 x 7, 8 edges" in repr(pattern())


def test_the_state_dict_is_free_of_it():
    module = torch.nn.Linear(2, 2)
    module.edges = pattern()
    assert set(module.state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])  # noqa: S301
def test_a_copy_computes_alike(copied):
    edges = pattern()
    values, dense = torch.randn(EDGES), torch.randn(7, 3)
    assert torch.equal(copied(edges).multiply(values, dense), edges.multiply(values, dense))


# --- the product with values ----------------------------------------------------------------------


def test_multiply_and_its_gradients_equal_the_dense_ones():
    v, X, G = numbers(EDGES), numbers(7, 3), numbers(6, 3, seed=1)
    Y, of_values, of_dense = np.zeros((6, 3)), np.zeros(EDGES), np.zeros((7, 3))
    for edge, (row, column) in enumerate(sorted_edges()):
        Y[row] += v[edge] * X[column]
        of_values[edge] = G[row] @ X[column]
        of_dense[column] += v[edge] * G[row]

    values, dense = variables(v, X)
    product = pattern().multiply(values, dense)
    product.backward(torch.tensor(G, dtype=torch.float32))

    assert_allclose(product.detach(), Y, rtol=1e-5, atol=1e-6)
    assert_allclose(values.grad, of_values, rtol=1e-5, atol=1e-6)
    assert_allclose(dense.grad, of_dense, rtol=1e-5, atol=1e-6)


def test_inner_products_and_their_gradients_equal_the_dense_ones():
    L, R, g = numbers(6, 3), numbers(7, 3), numbers(EDGES, seed=1)
    of_left, of_right = np.zeros((6, 3)), np.zeros((7, 3))
    for edge, (row, column) in enumerate(sorted_edges()):
        of_left[row] += g[edge] * R[column]
        of_right[column] += g[edge] * L[row]

    left, right = variables(L, R)
    products = pattern().inner_products(left, right)
    products.backward(torch.tensor(g, dtype=torch.float32))

    expected = [L[row] @ R[column] for row, column in sorted_edges()]
    assert_allclose(products.detach(), expected, rtol=1e-5, atol=1e-6)
    assert_allclose(left.grad, of_left, rtol=1e-5, atol=1e-6)
    assert_allclose(right.grad, of_right, rtol=1e-5, atol=1e-6)


def test_gradients_by_finite_differences(double_precision):
    edges = pattern()
    values, dense, left = variables(
        numbers(EDGES), numbers(7, 3), numbers(6, 3), dtype=torch.float64
    )
    assert torch.autograd.gradcheck(edges.multiply, (values, dense))
    assert torch.autograd.gradcheck(edges.inner_products, (left, dense))
    assert torch.autograd.gradcheck(edges.softmax, (values,))
    usable = torch.tensor([True, False] * 4)
    assert torch.autograd.gradcheck(lambda logits: edges.softmax(logits, usable), (values,))


def test_gradients_of_what_a_model_chains_by_finite_differences(double_precision):
    """One matrix is sender and receiver, as nodes are, and its products weigh its own rows."""
    edges = pattern(shape=(7, 7))
    (nodes,) = variables(numbers(7, 3), dtype=torch.float64)

    def chained(nodes: torch.Tensor) -> torch.Tensor:
        attention = edges.softmax(edges.inner_products(nodes, nodes))
        return edges.multiply(attention, edges.multiply(attention, nodes))

    assert torch.autograd.gradcheck(chained, (nodes,))


@pytest.mark.parametrize("wanted", [0, 1])
def test_a_gradient_is_only_computed_where_it_is_wanted(wanted):
    arguments = [torch.randn(EDGES), torch.randn(7, 3)]
    arguments[wanted].requires_grad_()
    pattern().multiply(*arguments).sum().backward()
    assert arguments[wanted].grad is not None and arguments[1 - wanted].grad is None


def test_a_gradient_that_is_not_contiguous_is_taken():
    v, X = numbers(EDGES), numbers(7, 3)
    values, dense = variables(v, X)
    pattern().multiply(values, dense).T[0].sum().backward()
    expected = [X[column, 0] for _, column in sorted_edges()]
    assert_allclose(values.grad, expected, rtol=1e-5, atol=1e-6)


def test_inner_products_take_what_is_not_contiguous():
    L, R = numbers(3, 6), numbers(3, 7)
    left, right = variables(L, R)
    products = pattern().inner_products(left.T, right.T)
    products.sum().backward()
    assert_allclose(
        products.detach(), [L[:, r] @ R[:, c] for r, c in sorted_edges()], rtol=1e-5, atol=1e-6
    )
    of_left = np.zeros((3, 6))
    for row, column in sorted_edges():
        of_left[:, row] += R[:, column]
    assert_allclose(left.grad, of_left, rtol=1e-5, atol=1e-6)


@st.composite
def graphs(draw):
    """Draw a pattern of any size, possibly without edges or with edges that come twice."""
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    places = st.tuples(st.integers(0, shape[0] - 1), st.integers(0, shape[1] - 1))
    # torch refuses more edges than there are places.
    drawn = draw(st.lists(places, max_size=min(12, shape[0] * shape[1])))
    rows = torch.tensor([row for row, _ in drawn], dtype=torch.int64)
    columns = torch.tensor([column for _, column in drawn], dtype=torch.int64)
    return SparsePattern(rows, columns, shape), draw(st.integers(1, 4)), draw(st.integers(0, 99))


@given(graphs())
def test_multiply_and_inner_products_are_adjoint(drawn):
    """sum_e g_e <L_row(e), R_column(e)> = sum(L * multiply(g, R))."""
    edges, width, seed = drawn
    g, L, R = (
        torch.tensor(numbers(*shape, seed=seed), dtype=torch.float32)
        for shape in ((len(edges.row),), (edges.shape[0], width), (edges.shape[1], width))
    )
    one = (g * edges.inner_products(L, R)).sum().item()
    other = (L * edges.multiply(g, R)).sum().item()
    assert one == pytest.approx(other, rel=1e-4, abs=1e-4)


@given(graphs())
def test_products_equal_the_dense_ones_on_any_graph(drawn):
    edges, width, seed = drawn
    v, X = numbers(len(edges.row), seed=seed), numbers(edges.shape[1], width, seed=seed)
    A = np.zeros(edges.shape)
    np.add.at(A, (edges.row.numpy(), edges.column.numpy()), v)
    values, dense = variables(v, X)
    product = edges.multiply(values, dense)
    product.square().sum().backward()
    assert_allclose(product.detach(), A @ X, rtol=1e-4, atol=1e-5)
    assert_allclose(dense.grad, 2 * A.T @ A @ X, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_also_under_autocast(dtype):
    edges = pattern()
    values, dense, left = (
        torch.tensor(array).to(dtype) for array in (numbers(EDGES), numbers(7, 3), numbers(6, 3))
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        product = edges.multiply(values, dense)
        products = edges.inner_products(left, dense)
        shares = edges.softmax(values)
    for found, expected in (
        (product, edges.multiply(values.float(), dense.float())),
        (products, edges.inner_products(left.float(), dense.float())),
        (shares, edges.softmax(values.float())),
    ):
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


# --- sums and softmax over the rows ---------------------------------------------------------------


def test_row_sums():
    (values,) = variables(numbers(EDGES))
    edges = pattern()
    sums = edges.row_sums(values)
    weights = torch.arange(6.0)
    (sums * weights).sum().backward()
    expected = np.zeros(6)
    for edge, (row, _) in enumerate(sorted_edges()):
        expected[row] += values[edge].item()
    assert_allclose(sums.detach(), expected, rtol=1e-6)
    assert_array_equal(values.grad, weights[edges.row])


def dense_softmax(logits: np.ndarray, usable: np.ndarray) -> np.ndarray:
    shares = np.zeros(len(logits))
    rows = np.array([row for row, _ in sorted_edges()])
    for row in range(SHAPE[0]):
        own = usable & (rows == row)
        if own.any():
            powers = np.exp(logits[own] - logits[own].max())
            shares[own] = powers / powers.sum()
    return shares


@pytest.mark.parametrize(
    "usable",
    [None, [True, False] * 4, [False] * 3 + [True] * 5, [False] * 8, [True] * 8],
    ids=["not given", "every other", "a row without any", "none", "all"],
)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_softmax_over_the_usable_edges_of_each_row(usable, scale):
    logits = scale * numbers(EDGES).astype(np.float32)
    mask = None if usable is None else torch.tensor(usable)
    (variable,) = variables(logits)
    shares = pattern().softmax(variable, mask)
    taking_part = np.ones(EDGES, dtype=bool) if usable is None else np.array(usable)
    expected = dense_softmax(logits.astype(np.float64), taking_part)
    assert_allclose(shares.detach(), expected, rtol=1e-5, atol=1e-30)
    assert (shares.detach().numpy()[~taking_part] == 0).all()

    weights = numbers(EDGES, seed=1)
    (shares * torch.tensor(weights, dtype=torch.float32)).sum().backward()
    rows = np.array([row for row, _ in sorted_edges()])
    means = np.bincount(rows, expected * weights, minlength=6)[rows]
    assert_allclose(variable.grad, expected * (weights - means), rtol=1e-4, atol=1e-6)


def test_rows_of_a_softmax_sum_to_one_or_to_zero():
    edges = pattern()
    usable = edges.row != 3
    assert_allclose(
        edges.row_sums(edges.softmax(torch.randn(EDGES), usable)), [1, 1, 0, 0, 1, 0], rtol=1e-6
    )


# --- nothing at all -------------------------------------------------------------------------------


def test_a_pattern_without_edges_gives_zeros():
    edges = SparsePattern.of_matrix(sp.csr_matrix((4, 3)))
    values = torch.zeros(0, requires_grad=True)
    left, dense = torch.ones(4, 2, requires_grad=True), torch.ones(3, 2, requires_grad=True)
    product = edges.multiply(edges.softmax(values * edges.inner_products(left, dense)), dense)
    product.sum().backward()
    assert_array_equal(product.detach(), np.zeros((4, 2)))
    assert values.grad.shape == (0,)
    assert_array_equal(dense.grad, np.zeros((3, 2)))
    assert_array_equal(left.grad, np.zeros((4, 2)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_cpu():
    v, X, L = numbers(EDGES), numbers(7, 3), numbers(6, 3)
    found = []
    for device in ("cpu", "cuda"):
        edges = pattern().to(device)
        values, dense, left = (
            torch.tensor(array, dtype=torch.float32, device=device, requires_grad=True)
            for array in (v, X, L)
        )
        attention = edges.softmax(values * edges.inner_products(left, dense))
        product = edges.multiply(attention, dense)
        product.square().sum().backward()
        found.append([product.detach(), values.grad, dense.grad, left.grad])
    for cpu, cuda in zip(*found, strict=True):
        assert_allclose(cuda.cpu(), cpu, rtol=1e-4, atol=1e-5)
