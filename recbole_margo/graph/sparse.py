"""One sparse matrix product with a correct gradient, used by every model."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn


def csr_tensor(
    row_pointer: Tensor, column: Tensor, value: Tensor, shape: tuple[int, ...]
) -> Tensor:
    """Return a torch CSR tensor of parts that are known to be valid.

    Args:
        row_pointer: where each row begins [R + 1].
        column: column of each entry [E].
        value: value of each entry [E].
        shape: R and C.
    """
    with warnings.catch_warnings():
        # torch calls the layout a beta, once a process; the products here are tested.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            row_pointer, column, value, size=shape, check_invariants=False
        )


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
        if not symmetric:
            self._store("transposed_", matrix.T)

    def _store(self, prefix: str, matrix: sp.spmatrix) -> None:
        csr = sp.csr_matrix(matrix, dtype=np.float32)
        csr.sum_duplicates()
        for name, array, dtype in (
            ("row_pointer", csr.indptr, torch.int64),
            ("column", csr.indices, torch.int64),
            ("value", csr.data, torch.float32),
        ):
            self.register_buffer(prefix + name, torch.tensor(array, dtype=dtype), persistent=False)

    def _csr(self, prefix: str, shape: tuple[int, ...]) -> Tensor:
        return csr_tensor(
            getattr(self, prefix + "row_pointer"),
            getattr(self, prefix + "column"),
            getattr(self, prefix + "value"),
            shape,
        )

    def forward(self, dense: Tensor) -> Tensor:
        """Multiply A with a dense matrix.

        Args:
            dense: X [C, d]; half precision is computed in float32.

        Returns:
            A X [R, d] in float32.

        Raises:
            ValueError: if the number of rows of X is not the number of columns of A.
        """
        if dense.ndim != 2 or dense.shape[0] != self.shape[1]:
            raise ValueError(
                f"expected a dense matrix [{self.shape[1]}, d], found {tuple(dense.shape)}"
            )
        matrix = self._csr("", self.shape)
        if self.symmetric:
            transposed = matrix
        else:
            transposed = self._csr("transposed_", (self.shape[1], self.shape[0]))
        with torch.autocast(device_type=dense.device.type, enabled=False):
            product: Tensor = _SparseMatrixProduct.apply(  # type: ignore[no-untyped-call]
                dense.float(), matrix, transposed
            )
        return product

    def extra_repr(self) -> str:
        """Show shape and number of non-zeros when a model is printed."""
        non_zeros = self.get_buffer("value").numel()
        return f"{self.shape[0]} x {self.shape[1]}, {non_zeros} non-zeros"


class _SparseMatrixProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transposed @ gradients[0].contiguous(), None, None
