"""Lengths of rows whose squares float32 cannot hold, and rows of length 1 with a gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

# Lengths between these have squares that float32 holds with all their digits, whatever the number
# of columns; others are measured again.
SAFE_LENGTHS = (1e-15, 1e15)
BLOCK_CELLS = 2**22


class RowNorms(NamedTuple):
    r"""The Euclidean lengths :math:`2^{e_i} n_i` of rows, in two factors that never overflow.

    Attributes:
        power: :math:`2^{e_i}` [I], 1 for a row of ordinary length.
        norm: :math:`n_i` [I], 0 for a row of zeros only.
    """

    power: Tensor
    norm: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> RowNorms:
        """Measure rows, in float32 and without a copy of them.

        Args:
            rows: [I, D] of any float type, finite; taken as a constant.
        """
        norm = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32)
        power = torch.ones_like(norm)
        low, high = SAFE_LENGTHS
        again = torch.nonzero(~((norm >= low) & (norm <= high))).squeeze(1)
        for block in torch.split(again, max(1, BLOCK_CELLS // max(1, rows.shape[1]))):
            extreme = rows[block].to(norm.dtype)
            power[block] = row_powers(extreme).squeeze(1)
            norm[block] = torch.linalg.vector_norm(extreme / power[block].unsqueeze(1), dim=1)
        return cls(power, norm)

    def divide_(self, rows: Tensor) -> Tensor:
        """Give rows [I, D], float32, the length 1 in place; rows of zeros stay as they are."""
        norm = torch.where(self.norm > 0, self.norm, 1.0)
        return rows.div_(self.power.unsqueeze(1)).div_(norm.unsqueeze(1))

    def __getitem__(self, rows: slice | Tensor) -> RowNorms:  # type: ignore[override]
        """Return the lengths of some of the rows, by a range or by positions [n]."""
        return RowNorms(self.power[rows], self.norm[rows])


def row_powers(rows: Tensor) -> Tensor:
    """Return the power of two at or below the largest absolute value of each row.

    To divide by it changes no digit, and leaves numbers whose squares neither overflow nor vanish.

    Args:
        rows: [..., D] of any float type; taken as a constant.

    Returns:
        Powers [..., 1], 1 for a row of zeros.
    """
    largest = rows.detach().abs().amax(dim=-1, keepdim=True)
    if largest.dtype != torch.float64:
        largest = largest.float()
    mantissa, _ = torch.frexp(largest)
    # The mantissa is from 1/2 to 1: to divide by twice of it is exact, where 2 ** exponent might
    # not be, or overflow.
    return torch.where(largest > 0, largest / (2 * mantissa), 1.0).to(rows.dtype)


def rescaled_rows(rows: Tensor) -> Tensor:
    """Return rows [..., D] divided by `row_powers`: the same directions, at ordinary lengths."""
    return rows / row_powers(rows)


SMALLEST_NORM = 1e-12


def normalized_rows(rows: Tensor) -> Tensor:
    r"""Return :math:`Y = X / \max(\lVert X \rVert_2, \epsilon)`, row by row.

    The same as `torch.nn.functional.normalize`, whose gradient is put together from twice as many
    passes over the rows:

    .. math:: \frac{\partial L}{\partial X} = \frac{G - Y \langle G, Y \rangle}
        {\max(\lVert X \rVert_2, \epsilon)}, \qquad G = \frac{\partial L}{\partial Y}

    Args:
        rows: X [N, d]; a row of zeros stays one.

    Returns:
        Y [N, d].
    """
    normalized: Tensor = _NormalizedRows.apply(rows)  # type: ignore[no-untyped-call]
    return normalized


class _NormalizedRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        # Only long rows are scaled: what epsilon is to short ones stays as it is.
        power = row_powers(rows).clamp_(min=1.0)
        scaled: Tensor = rows / power
        norm = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True).clamp_(min=SMALLEST_NORM)
        normalized = scaled.div_(norm)
        ctx.save_for_backward(normalized, norm.mul_(power))
        return normalized

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        normalized, norm = ctx.saved_tensors
        along = torch.linalg.vecdot(gradients[0], normalized).unsqueeze(-1)
        return torch.addcmul(gradients[0], normalized, along, value=-1).div_(norm)
