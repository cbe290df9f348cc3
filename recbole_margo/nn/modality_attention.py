"""Attention of each node over its modalities."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ModalityAttention(nn.Module):
    r"""Weighs the modalities of every node by one query that all share.

    .. math:: \alpha_n^m = \mathrm{softmax}_m\left(q^\top \tanh(W e_n^m + b)\right)

    Args:
        embedding_size: width d of the embeddings.

    Source: the attention of MICRO (Zhang et al., TKDE 2022) and MGCN (Yu et al., MM 2023).
    """

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        self.query = nn.Sequential(
            nn.Linear(embedding_size, embedding_size),
            nn.Tanh(),
            nn.Linear(embedding_size, 1, bias=False),
        )

    def forward(self, embeddings: Tensor, usable: Tensor) -> Tensor:
        """Return the weights of the modalities.

        Args:
            embeddings: e [N, M, d].
            usable: which modality a node has [N, M], bool.

        Returns:
            Weights [N, M]; 0 where the node misses the modality, rows sum to 1, or to 0 for a node
            that misses all.
        """
        logits = self.query(embeddings).squeeze(-1).float()
        nothing = ~usable.any(dim=1, keepdim=True)
        weights = torch.softmax(logits.masked_fill(~(usable | nothing), -torch.inf), dim=1)
        return weights.masked_fill(~usable, 0.0)
