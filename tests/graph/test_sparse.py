from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose

from recbole_margo.graph.sparse import SparseMatrix, transposed_by_counting, transposed_by_sorting


def random_matrix(rows: int = 6, columns: int = 4, seed: int = 0) -> np.ndarray:
    """Return a matrix with an empty row and an empty column."""
    random = np.random.default_rng(seed)
    dense = random.normal(size=(rows, columns)) * (random.random((rows, columns)) < 0.6)
    dense[2], dense[:, 1] = 0, 0
    return dense


def product_and_gradient(matrix: SparseMatrix, X: np.ndarray, G: np.ndarray):
    dense = torch.tensor(X, dtype=torch.float32, requires_grad=True)
    product = matrix(dense)
    product.backward(torch.tensor(G, dtype=torch.float32))
    assert dense.grad is not None
    return product.detach().numpy(), dense.grad.numpy()


@pytest.mark.parametrize("layout", ["csr", "coo", "csc"])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_product_and_gradient_equal_the_dense_ones(shape, layout):
    A = random_matrix(*shape)
    random = np.random.default_rng(1)
    X, G = random.normal(size=(shape[1], 3)), random.normal(size=(shape[0], 3))
    product, gradient = product_and_gradient(SparseMatrix(sp.csr_matrix(A).asformat(layout)), X, G)
    assert_allclose(product, A @ X, rtol=1e-5, atol=1e-6)
    assert_allclose(gradient, A.T @ G, rtol=1e-5, atol=1e-6)


def test_a_symmetric_matrix_needs_no_transpose():
    A = random_matrix(5, 5)
    A = A + A.T
    random = np.random.default_rng(1)
    X, G = random.normal(size=(5, 3)), random.normal(size=(5, 3))
    matrix = SparseMatrix(sp.csr_matrix(A), symmetric=True)
    product, gradient = product_and_gradient(matrix, X, G)
    assert_allclose(product, A @ X, rtol=1e-5, atol=1e-6)
    assert_allclose(gradient, A @ G, rtol=1e-5, atol=1e-6)
    values = [name for name, buffer in matrix.named_buffers() if buffer.is_floating_point()]
    assert values == ["value"]


def test_gradient_by_finite_differences(double_precision):
    matrix = SparseMatrix(sp.csr_matrix(random_matrix())).double()
    dense = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(matrix, dense)


def test_gradient_of_a_chain_of_products():
    A = random_matrix(5, 5)
    X = np.random.default_rng(1).normal(size=(5, 2))
    matrix = SparseMatrix(sp.csr_matrix(A))
    dense = torch.tensor(X, dtype=torch.float32, requires_grad=True)
    matrix(matrix(dense)).square().sum().backward()
    assert_allclose(dense.grad, 2 * (A @ A).T @ (A @ A @ X), rtol=1e-4, atol=1e-6)


def test_a_gradient_that_is_not_contiguous_is_taken():
    A = random_matrix(5, 4)
    dense = torch.ones(4, 3, requires_grad=True)
    SparseMatrix(sp.csr_matrix(A))(dense).T[0].sum().backward()
    expected = np.zeros((4, 3))
    expected[:, 0] = A.sum(axis=0)
    assert_allclose(dense.grad, expected, rtol=1e-5, atol=1e-6)


def test_duplicates_add_up():
    twice = sp.coo_matrix(([1.0, 2.0], ([0, 0], [1, 1])), shape=(2, 2))
    assert_allclose(SparseMatrix(twice)(torch.eye(2)), [[0, 3], [0, 0]])


def test_an_empty_matrix_gives_zeros():
    dense = torch.ones(3, 2, requires_grad=True)
    product = SparseMatrix(sp.csr_matrix((4, 3)))(dense)
    product.sum().backward()
    assert_allclose(product.detach(), np.zeros((4, 2)))
    assert_allclose(dense.grad, np.zeros((3, 2)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_also_under_autocast(dtype):
    A = random_matrix()
    dense = torch.randn(4, 3).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        product = SparseMatrix(sp.csr_matrix(A))(dense)
    assert product.dtype == torch.float32
    assert_allclose(product, A @ dense.double().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 3), (4,), (4, 3, 1)])
def test_a_wrong_shape_is_refused(shape):
    matrix = SparseMatrix(sp.csr_matrix(random_matrix()))
    for product in (matrix, matrix.chosen(torch.tensor([0]))):
        with pytest.raises(ValueError, match=r"expected a dense matrix \[4, d\], found"):
            product(torch.ones(shape))


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4, 5], [5, 2, 2, 0, 5], [2], []])
def test_chosen_rows_and_their_gradient_equal_those_of_the_whole_product(rows):
    A = random_matrix()
    random = np.random.default_rng(1)
    X, G = random.normal(size=(4, 3)), random.normal(size=(len(rows), 3))
    dense = torch.tensor(X, dtype=torch.float32, requires_grad=True)
    product = SparseMatrix(sp.csr_matrix(A)).chosen(torch.tensor(rows, dtype=torch.int64))(dense)
    product.backward(torch.tensor(G, dtype=torch.float32))
    assert product.dtype == torch.float32
    assert_allclose(product.detach(), A[rows] @ X, rtol=1e-5, atol=1e-6)
    assert_allclose(dense.grad, A[rows].T @ G, rtol=1e-5, atol=1e-6)


def test_chosen_rows_of_an_empty_matrix_are_zero():
    dense = torch.ones(3, 2, requires_grad=True)
    product = SparseMatrix(sp.csr_matrix((4, 3))).chosen(torch.tensor([3, 1]))(dense)
    product.sum().backward()
    assert_allclose(product.detach(), np.zeros((2, 2)))
    assert_allclose(dense.grad, np.zeros((3, 2)))


def test_the_gradient_of_chosen_rows_by_finite_differences(double_precision):
    matrix = SparseMatrix(sp.csr_matrix(random_matrix())).double()
    dense = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(matrix.chosen(torch.tensor([5, 2, 0, 5])), dense)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])  # noqa: S301
def test_a_copy_multiplies_alike(copied):
    matrix = SparseMatrix(sp.csr_matrix(random_matrix()))
    dense = torch.randn(4, 3)
    assert torch.equal(copied(matrix)(dense), matrix(dense))


def test_the_state_dict_is_free_of_it():
    module = torch.nn.Linear(2, 2)
    module.graph = SparseMatrix(sp.csr_matrix(random_matrix()))
    assert set(module.state_dict()) == {"weight", "bias"}
    assert not list(module.graph.parameters())


def test_it_shows_its_size():
    assert "2 x 3, 1 non-zeros" in repr(SparseMatrix(sp.coo_matrix(([1.0], ([0], [2])), (2, 3))))


@pytest.mark.parametrize("transposed", [transposed_by_counting, transposed_by_sorting])
def test_a_transpose_keeps_entries_that_stand_twice_and_rows_out_of_order(transposed):
    pointer, column = torch.tensor([0, 3, 3, 5]), torch.tensor([3, 0, 3, 1, 0])
    matrix = tuple(part.int() for part in (pointer, column)), torch.arange(1.0, 6.0)
    row_pointer, row, value = transposed((*matrix[0], matrix[1]), 5)
    assert row_pointer.dtype == row.dtype == torch.int32
    assert row_pointer.tolist() == [0, 2, 3, 3, 5, 5]
    assert row.tolist() == [0, 2, 2, 0, 0]
    assert value.tolist() == [2, 5, 4, 1, 3]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_cpu():
    A = random_matrix(40, 30)
    random = np.random.default_rng(1)
    X, G = random.normal(size=(30, 8)), random.normal(size=(40, 8))
    matrix = SparseMatrix(sp.csr_matrix(A)).cuda()
    dense = torch.tensor(X, dtype=torch.float32, device="cuda", requires_grad=True)
    product = matrix(dense)
    product.backward(torch.tensor(G, dtype=torch.float32, device="cuda"))
    assert_allclose(product.detach().cpu(), A @ X, rtol=1e-4, atol=1e-5)
    assert_allclose(dense.grad.cpu(), A.T @ G, rtol=1e-4, atol=1e-5)
