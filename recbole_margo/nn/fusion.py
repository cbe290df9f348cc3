"""Fusion of modalities: of their scores into one score, and attention of a node over them."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recbole_margo.nn.content_path import array, layer_tables

# Random triplets from which the spread of differences is taken, and how many at a time.
TRIPLETS, BLOCK = 2**15, 2**12


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


def spread_of_differences(users: Tensor, items: Tensor, mask: Tensor) -> Tensor:
    r"""Return how much the scores of two items differ in each modality.

    .. math:: \sigma_m^2 = \mathrm{mean}_{u, i, j} (r_{ui}^m - r_{uj}^m)^2

    over random users and pairs of items that both have the modality, always the same ones.

    Args:
        users: user embeddings [U, M, d]; row 0 is PAD.
        items: item embeddings [I, M, d]; row 0 is PAD.
        mask: presence mask [I, M], bool.

    Returns:
        sigma [M]; 1 where no pair differs.
    """
    random = torch.Generator().manual_seed(0)
    user = torch.randint(1, len(users), (TRIPLETS,), generator=random).to(users.device)
    pairs = torch.randint(1, len(items), (2, TRIPLETS), generator=random).to(users.device)
    squares, counts = torch.zeros((2, users.shape[1]), dtype=torch.float64, device=users.device)
    for block in range(0, TRIPLETS, BLOCK):
        first, second = pairs[:, block : block + BLOCK]
        usable = mask[first] & mask[second]
        differences = modality_scores(
            users[user[block : block + BLOCK]], items[first] - items[second]
        )
        squares += (differences.double().square() * usable).sum(dim=0)
        counts += usable.sum(dim=0)
    spread = (squares / counts.clamp(min=1)).sqrt().float()
    return torch.where(spread > 0, spread, 1.0)


class ModalityAttention(nn.Module):
    r"""Weighs the modalities of every node by one query that all share.

    .. math:: \alpha_n^m = \mathrm{softmax}_m\left(q^\top \tanh(W e_n^m + b)\right)

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

    def tables(self) -> dict[str, NDArray[Any]]:
        """Return the layers as arrays by name, for `ContentPath`."""
        hidden, _, query = self.query
        return {**layer_tables("attention", hidden), "attention_query": array(query.weight).ravel()}
