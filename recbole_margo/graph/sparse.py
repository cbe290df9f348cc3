"""One sparse matrix product with a correct gradient, used by every model."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn import functional

# torch may warn unless somebody has said whether sparse tensors are checked, for which the host
# waits for the device. Whoever has asked for it gets it.
_checks: Any = torch.sparse.check_sparse_tensor_invariants
if not _checks.is_enabled():
    _checks.disable()

# So many times the entries of the rows that are asked for may all rows of a matrix have, for a GPU.
WORTH_ALL = 16

Sum = TypeVar("Sum")
# Row pointer [R + 1], column [E] and value [E] of a matrix in CSR form.
Parts = tuple[Tensor, Tensor, Tensor]


def csr_tensor(matrix: Parts, shape: tuple[int, ...]) -> Tensor:
    """Return a torch CSR tensor of parts that are known to be valid."""
    with warnings.catch_warnings():
        # torch calls the layout a beta, once a process; the products here are tested.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(*matrix, size=shape, check_invariants=False)


def sparse_product(matrix: Parts, dense: Tensor, plus: Tensor | None = None) -> Tensor:
    r"""Return :math:`Y_r = \sum_{e \in \mathrm{row}(r)} v_e X_{\mathrm{column}(e)}`, no gradient.

    Args:
        matrix: the parts; row pointer and columns of the same integer type.
        dense: X [C, d].
        plus: what is added [R, d].

    Returns:
        Y [R, d].
    """
    row_pointer, column, value = matrix
    # Detached, because the kernel notes more where it might be asked for a gradient.
    dense = dense.detach().contiguous()
    if dense.device.type != "cpu":
        sparse = csr_tensor(matrix, (len(row_pointer) - 1, len(dense)))
        return sparse @ dense if plus is None else torch.addmm(plus.detach(), sparse, dense)
    # The weighted sum of table rows is the same product. Its kernel on the CPU is several times as
    # fast as the sparse matrix product (docs/performance.md).
    product = functional.embedding_bag(
        column, dense, row_pointer, mode="sum", per_sample_weights=value, include_last_offset=True
    )
    return product if plus is None else product.add_(plus)


class SparseMatrix(nn.Module):
    r"""A constant sparse matrix A [R, C] in CSR form that multiplies dense matrices.

    .. math:: Y = A X, \qquad \partial L / \partial X = A^\top \, \partial L / \partial Y

    The transpose is stored too (once, if A is symmetric), so that the backward pass is the same
    fast row-wise product as the forward pass. The parts are plain buffers and not part of the
    state dict: the matrix is rebuilt from the data, never loaded.

    Args:
        matrix: the matrix, any scipy sparse format [R, C].
        symmetric: whether A equals its transpose; saves half of the memory.
    """

    def __init__(self, matrix: sp.spmatrix, symmetric: bool = False) -> None:
        super().__init__()
        self.shape = tuple(int(size) for size in matrix.shape)
        self.symmetric = symmetric
        self._store("", matrix)
        self.longest_row = int(self.get_buffer("row_pointer").diff().max()) if self.shape[0] else 0
        if not symmetric:
            self._store("transposed_", matrix.T)

    def _store(self, prefix: str, matrix: sp.spmatrix) -> None:
        csr = sp.csr_matrix(matrix, dtype=np.float32)
        csr.sum_duplicates()
        index = torch.int32 if max(csr.nnz, *csr.shape) < 2**31 else torch.int64
        for name, array, dtype in (
            ("row_pointer", csr.indptr, index),
            ("column", csr.indices, index),
            ("value", csr.data, torch.float32),
        ):
            self.register_buffer(prefix + name, torch.tensor(array, dtype=dtype), persistent=False)

    def _parts(self, prefix: str) -> Parts:
        return (
            self.get_buffer(prefix + "row_pointer"),
            self.get_buffer(prefix + "column"),
            self.get_buffer(prefix + "value"),
        )

    def both(self) -> tuple[Parts, Parts]:
        """Return the parts of A and of its transpose."""
        matrix = self._parts("")
        return matrix, matrix if self.symmetric else self._parts("transposed_")

    def as_scipy(self) -> sp.csr_matrix:
        """Return A [R, C] in scipy's form."""
        starts, columns, values = (part.cpu().numpy() for part in self._parts(""))
        return sp.csr_matrix((values, columns, starts), self.shape)

    def forward(self, dense: Tensor) -> Tensor:
        """Multiply A with a dense matrix.

        Args:
            dense: X [C, d]; half precision is computed in float32.

        Returns:
            A X [R, d] in float32.

        Raises:
            ValueError: if the number of rows of X is not the number of columns of A.
        """
        self._check(dense)
        return _product(dense, *self.both())

    def sum_of_powers(self, dense: Tensor, layers: int) -> Tensor:
        r"""Return :math:`\sum_{l=0}^{L} A^l X` of a square A, by Horner's rule.

        Args:
            dense: X [N, d]; half precision is computed in float32.

        Returns:
            [N, d] in float32.

        Raises:
            ValueError: if the number of rows of X is not the number of columns of A.
        """
        self._check(dense)
        return _product(dense, *self.both(), layers) if layers > 0 else dense.float()

    def chosen(self, rows: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the product with some rows of A, which costs what these rows cost.

        Every row is filled up to the longest one, so A should have rows of about equal length, as
        the graphs of k nearest neighbours have. On a GPU all rows are multiplied where they are not
        many times as many: that takes less time than to sort the chosen ones for the gradient.

        Args:
            rows: which rows, in any order and as often as wanted [B].

        Returns:
            The product X [C, d] -> A[rows] X [B, d] in float32.
        """
        row_pointer, column, value = self._parts("")
        if rows.device.type != "cpu" and len(value) <= WORTH_ALL * len(rows) * self.longest_row:
            return lambda dense: self(dense).index_select(0, rows)
        places = torch.arange(self.longest_row, device=rows.device, dtype=column.dtype)
        places = row_pointer[rows].unsqueeze(1) + places
        inside = (places < row_pointer[rows + 1].unsqueeze(1)).flatten()
        places = places.clamp(max=max(len(column) - 1, 0)).flatten()
        pointer = torch.arange(len(rows) + 1, device=rows.device, dtype=column.dtype)
        matrix = (
            pointer * self.longest_row,
            column.index_select(0, places),
            value.index_select(0, places) * inside,
        )
        transposed = _transposed(matrix, self.shape[1]) if torch.is_grad_enabled() else None

        def product(dense: Tensor) -> Tensor:
            self._check(dense)
            return _product(dense, matrix, transposed)

        return product

    def _check(self, dense: Tensor) -> None:
        if dense.ndim != 2 or dense.shape[0] != self.shape[1]:
            raise ValueError(
                f"expected a dense matrix [{self.shape[1]}, d], found {tuple(dense.shape)}"
            )

    def extra_repr(self) -> str:
        """Show shape and number of non-zeros when a model is printed."""
        non_zeros = self.get_buffer("value").numel()
        return f"{self.shape[0]} x {self.shape[1]}, {non_zeros} non-zeros"


def _transposed(matrix: Parts, columns: int) -> Parts:
    on_cpu = matrix[0].device.type == "cpu"
    return (
        transposed_by_counting(matrix, columns)
        if on_cpu
        else transposed_by_sorting(matrix, columns)
    )


def transposed_by_counting(matrix: Parts, columns: int) -> Parts:
    """Return the parts of the transpose; on the CPU, where sorting takes far longer.

    Args:
        matrix: the parts of a matrix [R, C].
    """
    row_pointer, column, value = (part.numpy() for part in matrix)
    shape = (len(row_pointer) - 1, columns)
    transposed = sp.csr_matrix((value, column, row_pointer), shape=shape).tocsc()
    parts = (transposed.indptr, transposed.indices, transposed.data)
    pointer, row, value_of_row = map(torch.from_numpy, parts)
    return pointer, row, value_of_row


def transposed_by_sorting(matrix: Parts, columns: int) -> Parts:
    """Return the parts of the transpose without leaving the device; arguments as above."""
    row_pointer, column, value = matrix
    ordered, order = torch.sort(column, stable=True)
    row = torch.searchsorted(row_pointer, order.to(row_pointer.dtype), right=True) - 1
    every_column = torch.arange(columns + 1, device=column.device, dtype=column.dtype)
    pointer = torch.searchsorted(ordered, every_column)
    return pointer.to(column.dtype), row.to(column.dtype), value[order]


def _product(dense: Tensor, matrix: Parts, transposed: Parts | None, layers: int = 0) -> Tensor:
    """Return A X with its gradient, or with layers the sum of the powers up to that one."""
    with torch.autocast(device_type=dense.device.type, enabled=False):
        product: Tensor = _SparseMatrixProduct.apply(  # type: ignore[no-untyped-call]
            dense.float(), matrix, transposed, layers
        )
    return product


class _SparseMatrixProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, dense: Tensor, matrix: Parts, transposed: Parts | None, layers: int
    ) -> Tensor:
        ctx.transposed, ctx.layers = transposed, layers
        return _product_or_sum(matrix, dense, layers)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return _product_or_sum(ctx.transposed, gradients[0], ctx.layers), None, None, None


def _product_or_sum(matrix: Parts, dense: Tensor, layers: int) -> Tensor:
    if not layers:
        return sparse_product(matrix, dense)
    return horner(lambda total: sparse_product(matrix, total, plus=dense), dense, layers)


def horner(next_sum: Callable[[Sum], Sum], start: Sum, layers: int) -> Sum:
    r"""Return :math:`\sum_{l=0}^{L} A^l X` by Horner's rule, :math:`I + A + A^2 = I + A (I + A)`.

    Args:
        next_sum: T -> A T + X.
    """
    for _ in range(layers):
        start = next_sum(start)
    return start
