"""Late fusion: how the scores of the modalities become one score."""

from __future__ import annotations

import torch
from torch import Tensor


def modality_scores(users: Tensor, items: Tensor) -> Tensor:
    r"""Return the score of each modality, :math:`r_{ui}^m = \langle e_u^m, e_i^m \rangle`.

    Args:
        users: user embeddings [B, M, d].
        items: item embeddings [B, M, d].

    Returns:
        Scores [B, M] in float32.

    Source: MARGO (arXiv 2504.16524), Eq. 2.
    """
    return (users.float() * items.float()).sum(dim=-1)


def log_modality_weights(logits: Tensor, mask: Tensor) -> Tensor:
    r"""Return the logarithm of the items' modality weights.

    .. math:: \log w_i = \log \mathrm{softmax}_m(W_i), \qquad w_i^m = 0
        \text{ where item i misses m}

    An item that misses every modality has uniform weights, which nothing trains.

    Args:
        logits: W [B, M].
        mask: presence mask [B, M], bool.

    Returns:
        Log-weights [B, M] in float32, minus infinity at missing modalities. Finite for present
        ones, however large the logits.

    Source: MARGO (arXiv 2504.16524), Eq. 3.
    """
    nothing = ~mask.any(dim=-1, keepdim=True)
    usable = logits.float().masked_fill(nothing, 0.0)
    return torch.log_softmax(usable.masked_fill(~(mask | nothing), -torch.inf), dim=-1)
