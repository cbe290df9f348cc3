"""Rows of length 1, with a gradient that passes over them fewer times than the composed one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_margo.data.row_norms import row_powers

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
