"""Lengths and directions of rows whose squares float32 cannot hold."""

from __future__ import annotations

from typing import NamedTuple

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


def evened_rows(rows: Tensor) -> Tensor:
    """Return rows [..., D] divided by `row_powers`: the same directions, at ordinary lengths."""
    return rows / row_powers(rows)
