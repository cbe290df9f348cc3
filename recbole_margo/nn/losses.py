"""Losses of ranking and modality reliability, and contrastive ones over many candidates."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

PENALTIES = ("frobenius", "squared")
# Bounds a block of similarities at about 32 MB in float32.
BLOCK_CELLS = 2**23


def bpr_loss(positive: Tensor, negative: Tensor, counted: Tensor | None = None) -> Tensor:
    r"""Return the pairwise ranking loss, mean softplus of the negative margin.

    .. math:: L = \frac{1}{B} \sum_b \ln(1 + e^{-(r_{ui} - r_{uj})})

    Args:
        positive: scores r_ui [B].
        negative: scores r_uj [B].
        counted: which triplets take part [B], bool; none: all.

    Returns:
        The loss, a scalar; 0 if no triplet takes part. Finite for any finite margin.

    Source: BPR (Rendle et al., UAI 2009).
    """
    return mean_over(functional.softplus(negative - positive), counted)


def mean_over(losses: Tensor, counted: Tensor | None) -> Tensor:
    """Return the mean of the losses [N] that count [N], a scalar; 0 if none does."""
    if counted is None:
        return losses.mean()
    return torch.where(counted, losses, 0.0).sum() / counted.sum().clamp(min=1)


def embedding_penalty(kind: str, *embeddings: Tensor) -> Tensor:
    r"""Return the penalty on the embeddings of a batch.

    .. math:: \frac{1}{B} \sum_x \lVert X_x \rVert_F \text{ (frobenius)}, \qquad
        \frac{1}{2B} \sum_x \lVert X_x \rVert_F^2 \text{ (squared)}

    Args:
        kind: `frobenius`, the norm that much public code takes, not squared; or `squared`, the
            usual L2 penalty of the papers.
        embeddings: matrices [B, *]; B is the number of rows of the first.
    """
    norms = torch.stack([torch.linalg.vector_norm(matrix.float()) for matrix in embeddings])
    total = norms.sum() if kind == "frobenius" else 0.5 * norms.square().sum()
    return total / len(embeddings[0])


def mean_square(embeddings: Tensor) -> Tensor:
    """Return the mean of the squared entries, a scalar, of embeddings [B, ...]."""
    return embeddings.square().mean()


def reliability_vector(differences: Tensor, usable: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return how far each modality supports that the positive item ranks first.

    .. math:: z = \mathrm{softmax}_m(g(d)), \qquad g(x) = x \text{ if } x \ge 0 \text{ else }
        -\infty

    A modality that contradicts the pair gets exactly 0, and so does one that either item misses.

    Args:
        differences: d^m = r_ui^m - r_uj^m [B, M].
        usable: which modalities both items have [B, M], bool.

    Returns:
        z [B, M], rows summing to 1, or all 0 where no modality is reliable; and whether any
        modality is reliable [B], bool.

    Source: MARGO (arXiv 2504.16524), Eq. 5-6.
    """
    supporting = usable & (differences >= 0)
    reliable = supporting.any(dim=-1)
    # Rows without a supporting modality take part with finite values and are zeroed afterwards:
    # a softmax over nothing but minus infinity would put NaN into the gradient.
    open_entries = supporting | ~reliable.unsqueeze(-1)
    vector = torch.softmax(differences.masked_fill(~open_entries, -torch.inf), dim=-1)
    return vector.masked_fill(~supporting, 0.0), reliable


def confidence(positive: Tensor, negative: Tensor, reliable: Tensor, sensitivity: float) -> Tensor:
    r"""Return how far a triplet is trusted to teach the weights.

    .. math:: c = \tanh((r_{ui} - r_{uj}) / \tau) \text{ if } r_{ui} > r_{uj} \text{ else } 0

    Args:
        positive: weighted scores r_ui [B].
        negative: weighted scores r_uj [B].
        reliable: whether any modality supports the pair [B], bool; c = 0 where none does.
        sensitivity: tau > 0.

    Returns:
        c [B] in [0, 1].

    Source: MARGO (arXiv 2504.16524), Eq. 7. The case of no reliable modality is ours: the paper
    leaves z undefined there, and c = 0 makes its non-conflict argument hold for every triplet.
    """
    margin = (positive - negative).masked_fill(~reliable, 0.0)
    return torch.tanh(margin.clamp(min=0.0) / sensitivity)


def calibration_loss(
    vector: Tensor, weight: Tensor, positive_log_weights: Tensor, negative_log_weights: Tensor
) -> Tensor:
    r"""Return the confidence-weighted divergence between reliability and learned weights.

    .. math:: L_{cal} = \frac{1}{B} \sum_b c_b \, \mathrm{KL}\left(z_b \,\|\,
        \tfrac{1}{2}(w_i + w_j)\right)

    The paper writes w_i + w_j, which sums to 2; halving it shifts the loss by a constant c ln 2,
    so that the value is a true divergence: not negative, and 0 exactly when the weights agree.

    Args:
        vector: z [B, M].
        weight: c [B].
        positive_log_weights: log w_i [B, M].
        negative_log_weights: log w_j [B, M].

    Returns:
        The loss, a scalar in float32; entries with z = 0 count 0, whatever the weights.

    Source: MARGO (arXiv 2504.16524), Eq. 8.
    """
    active = vector > 0
    # log(0) and logaddexp(-inf, -inf) have no gradient: put in harmless values where z = 0.
    log_sum = torch.logaddexp(
        positive_log_weights.masked_fill(~active, 0.0),
        negative_log_weights.masked_fill(~active, 0.0),
    )
    log_mean_weights = log_sum - math.log(2.0)
    log_vector = torch.log(vector.masked_fill(~active, 1.0))
    divergence = (vector * (log_vector - log_mean_weights)).sum(dim=-1)
    return (weight * divergence).mean()


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
