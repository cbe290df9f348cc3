"""Contrastive losses, exact and in blocks however many candidates there are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# Bounds a block of similarities at about 32 MB in float32.
BLOCK_CELLS = 2**23


def log_sum_exp_of_products(
    anchors: Tensor, candidates: Tensor, usable: Tensor | None = None, skip: Tensor | None = None
) -> Tensor:
    r"""Return :math:`\ln \sum_j e^{\langle a_n, b_j \rangle}` of every anchor, block by block.

    No more than `BLOCK_CELLS` of the matrix [N, J] are ever held: larger ones are computed block by
    block, and again for the gradient, which is exact.

    Args:
        anchors: a [N, d].
        candidates: b [J, d].
        usable: which candidates count [J], bool; none: all.
        skip: a candidate [N] that does not count for its anchor, -1 for none; none: nothing.

    Returns:
        [N] in float32; minus infinity where no candidate counts.
    """
    with torch.autocast(device_type=anchors.device.type, enabled=False):
        result: Tensor = _LogSumExp.apply(  # type: ignore[no-untyped-call]
            anchors.float(), candidates.float(), usable, skip
        )
    return result


def info_nce(
    anchors: Tensor,
    positives: Tensor,
    candidates: Tensor,
    temperature: float,
    usable: Tensor | None = None,
) -> Tensor:
    r"""Return the contrastive loss of each anchor by cosine similarity.

    .. math:: \ell_n = -\frac{\cos(a_n, p_n)}{\tau} + \ln \sum_j e^{\cos(a_n, b_j) / \tau}

    Args:
        anchors: a [N, d].
        positives: p [N, d].
        candidates: b [J, d], the positives among them.
        temperature: tau > 0.
        usable: which candidates count [J], bool; none: all.

    Returns:
        Losses [N] in float32.

    Source: InfoNCE (van den Oord et al., 2018).
    """
    anchors = functional.normalize(anchors.float(), dim=1) / temperature
    positives = functional.normalize(positives.float(), dim=1)
    candidates = functional.normalize(candidates.float(), dim=1)
    agreement = (anchors * positives).sum(dim=1)
    return log_sum_exp_of_products(anchors, candidates, usable) - agreement


def _similarities(
    block: Tensor, start: int, candidates: Tensor, usable: Tensor | None, skip: Tensor | None
) -> Tensor:
    if usable is None:
        similarities = block @ candidates.T
    else:
        closed = block.new_zeros(len(usable)).masked_fill_(~usable, -torch.inf)
        similarities = torch.addmm(closed, block, candidates.T)
    if skip is not None:
        # No boolean index: the host would wait for the device to know its size.
        skipping = skip[start : start + len(block)].unsqueeze(1)
        columns = skipping.clamp(min=0)
        kept = similarities.gather(1, columns)
        similarities.scatter_(1, columns, torch.where(skipping >= 0, -torch.inf, kept))
    return similarities


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, anchors: Tensor, candidates: Tensor, usable: Tensor | None, skip: Tensor | None
    ) -> Tensor:
        size = max(1, BLOCK_CELLS // max(len(candidates), 1))
        result = anchors.new_empty(len(anchors))
        kept = None
        for start in range(0, len(anchors), size):
            block = anchors[start : start + size]
            shares = _similarities(block, start, candidates, usable, skip)
            largest = _finite(shares.amax(dim=1))
            shares.sub_(largest.unsqueeze(1)).exp_()
            total = shares.sum(dim=1)
            result[start : start + size] = total.log().add_(largest)
            if len(anchors) <= size:
                # What fits into one block is kept, which spares the gradient half of its work.
                kept = shares.div_(torch.where(total > 0, total, 1.0).unsqueeze(1))
        ctx.save_for_backward(anchors, candidates, usable, skip, _finite(result), kept)
        ctx.size = size
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        anchors, candidates, usable, skip, result, kept = ctx.saved_tensors
        of_anchors, of_candidates = torch.empty_like(anchors), torch.zeros_like(candidates)
        for start in range(0, len(anchors), ctx.size):
            part = slice(start, start + ctx.size)
            block, of_block = anchors[part], gradients[0][part].unsqueeze(1)
            if kept is None:
                shares = _similarities(block, start, candidates, usable, skip)
                shares.sub_(result[part].unsqueeze(1)).exp_().mul_(of_block)
            else:
                shares = kept * of_block
            torch.mm(shares, candidates, out=of_anchors[part])
            of_candidates.addmm_(shares.T, block)
        return of_anchors, of_candidates, None, None


def _finite(values: Tensor) -> Tensor:
    """Return 0 for the minus infinity of an anchor without candidates: -inf + inf would be NaN."""
    return torch.where(values.isfinite(), values, 0.0)
