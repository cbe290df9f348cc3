"""Sparse products whose values carry a gradient: attention on edges and learned graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_margo.graph.sparse import csr_tensor, sparse_product


class SparsePattern(nn.Module):
    r"""The places of a sparse matrix [R, C], whose values come and go with the parameters.

    An edge leads from a column to a row: row r receives from its columns. Values are given in the
    order of the edges, row by row. No message [E, d] is ever made: products and inner products run
    in CSR form, forward and backward.

    Args:
        rows: row of each edge [E].
        columns: column of each edge [E].
    """

    row: Tensor
    column: Tensor
    row_pointer: Tensor
    transposed_order: Tensor
    transposed_column: Tensor
    transposed_pointer: Tensor

    def __init__(self, rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape = shape
        order = np.lexsort((columns.cpu().numpy(), rows.cpu().numpy()))
        row, column = rows.cpu().numpy()[order], columns.cpu().numpy()[order]
        transposed = np.lexsort((row, column))
        for name, array in (
            ("row", row),
            ("column", column),
            ("row_pointer", _pointer(row, shape[0])),
            ("transposed_order", transposed),
            ("transposed_column", row[transposed]),
            ("transposed_pointer", _pointer(column, shape[1])),
        ):
            tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
            self.register_buffer(name, tensor.to(rows.device), persistent=False)

    @classmethod
    def of_matrix(cls, matrix: sp.spmatrix) -> SparsePattern:
        """Return the pattern of the stored entries of a scipy matrix [R, C]."""
        places = sp.coo_matrix(matrix)
        rows, columns = (torch.from_numpy(x.astype(np.int64)) for x in (places.row, places.col))
        return cls(rows, columns, (int(matrix.shape[0]), int(matrix.shape[1])))

    def multiply(self, values: Tensor, dense: Tensor) -> Tensor:
        r"""Return :math:`Y_r = \sum_{e: row(e) = r} v_e X_{column(e)}`.

        Args:
            values: v [E].
            dense: X [C, d].

        Returns:
            Y [R, d] in float32, with gradients for the values and for X.
        """
        with torch.autocast(device_type=dense.device.type, enabled=False):
            product: Tensor = _ValuedProduct.apply(  # type: ignore[no-untyped-call]
                values.float(), dense.float(), self
            )
        return product

    def inner_products(self, left: Tensor, right: Tensor) -> Tensor:
        r"""Return :math:`\langle L_{row(e)}, R_{column(e)} \rangle` of every edge.

        Args:
            left: L [R, d].
            right: R [C, d].

        Returns:
            Values [E] in float32, with gradients for both.
        """
        with torch.autocast(device_type=left.device.type, enabled=False):
            values: Tensor = _InnerProducts.apply(  # type: ignore[no-untyped-call]
                left.float(), right.float(), self
            )
        return values

    def softmax(self, logits: Tensor, usable: Tensor | None = None) -> Tensor:
        """Return the softmax over the edges of each row.

        Args:
            logits: [E].
            usable: which edges take part [E], bool; none: all.

        Returns:
            [E]; 0 for edges that take no part. A row sums to 1, or to 0 if none of its edges does.
        """
        logits = logits.float()
        if usable is not None:
            logits = logits.masked_fill(~usable, -torch.inf)
        largest = logits.new_full((self.shape[0],), -torch.inf)
        largest = largest.scatter_reduce(0, self.row, logits.detach(), "amax")
        # A row without a usable edge has no largest value; any finite one leaves exp(-inf) = 0.
        largest = torch.where(largest.isfinite(), largest, 0.0)
        weights = torch.exp(logits - largest[self.row])
        total = self.row_sums(weights)
        return weights / torch.where(total > 0, total, 1.0)[self.row]

    def row_sums(self, values: Tensor) -> Tensor:
        """Return the sum of the values [E] in each row, [R]."""
        return torch.zeros(self.shape[0], device=values.device, dtype=values.dtype).index_add(
            0, self.row, values
        )

    def _product(self, values: Tensor, dense: Tensor) -> Tensor:
        return sparse_product((self.row_pointer, self.column, values), dense)

    def _transposed_product(self, values: Tensor, dense: Tensor) -> Tensor:
        values = values[self.transposed_order]
        return sparse_product((self.transposed_pointer, self.transposed_column, values), dense)

    def _dot(self, left: Tensor, right: Tensor) -> Tensor:
        places = (self.row_pointer, self.column, left.new_zeros(len(self.row)))
        matrix = csr_tensor(places, self.shape)
        values: Tensor = torch.sparse.sampled_addmm(matrix, left, right.T, beta=0.0).values()
        return values

    def extra_repr(self) -> str:
        """Show shape and number of edges when a model is printed."""
        return f"{self.shape[0]} x {self.shape[1]}, {self.row.numel()} edges"


def _pointer(places: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.bincount(places, minlength=size))])


class _ValuedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, dense: Tensor, pattern: SparsePattern) -> Tensor:
        ctx.save_for_backward(values, dense)
        ctx.pattern = pattern
        return pattern._product(values, dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, dense = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        of_values = ctx.pattern._dot(gradient, dense) if ctx.needs_input_grad[0] else None
        of_dense = (
            ctx.pattern._transposed_product(values, gradient) if ctx.needs_input_grad[1] else None
        )
        return of_values, of_dense, None


class _InnerProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, pattern: SparsePattern) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.pattern = pattern
        return pattern._dot(left, right)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        left, right = ctx.saved_tensors
        values = gradients[0].contiguous()
        of_left = ctx.pattern._product(values, right) if ctx.needs_input_grad[0] else None
        of_right = (
            ctx.pattern._transposed_product(values, left) if ctx.needs_input_grad[1] else None
        )
        return of_left, of_right, None
