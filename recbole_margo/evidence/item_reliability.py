"""How far each modality of an item can be trusted, by evidence that its rows could not buy."""

from __future__ import annotations

from collections.abc import Sequence

import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_margo.evidence.item_evidence import item_evidence
from recbole_margo.evidence.item_targets import item_targets


class ItemReliability(nn.Module):
    r"""The modality reliability vector of each item, fixed before any training.

    .. math:: z_i = \mathrm{softmax}_m(e_i^m / \theta)

    over the modalities that the item has, with the score :math:`e_i^m` of `item_evidence` and a
    temperature :math:`\theta`: :math:`1 / \theta` is the shift of a score by which rows that fit
    differ from random ones in a likelihood ratio.

    Args:
        interactions: binary training interactions R [U, I].
        features: raw features, per modality [I, D_m].
        mask: which items have which modality [I, M], bool.
        temperature: theta > 0.

    Attributes:
        vectors: z [I, M]; uniform over what the item has where nothing is known.
        known: of which items all that they have is known [I], bool; where some is not, the rest
            would take it all.
    """

    vectors: Tensor
    known: Tensor

    def __init__(
        self,
        interactions: sp.csr_matrix,
        features: Sequence[Tensor],
        mask: Tensor,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        mask, targets = mask.cpu(), item_targets(interactions)
        scores, known = torch.zeros(mask.shape), torch.zeros_like(mask)
        for m, matrix in enumerate(features):
            rows = matrix.detach().float().cpu().numpy()
            found = item_evidence(interactions, rows, mask[:, m].numpy(), targets)
            scores[:, m] = torch.from_numpy(found.scores)
            known[:, m] = torch.from_numpy(found.content.known)
        complete = mask.any(dim=1) & (known | ~mask).all(dim=1)
        scores[~complete] = 0.0
        anything = mask | ~mask.any(dim=1, keepdim=True)
        vectors = torch.softmax((scores / temperature).masked_fill(~anything, -torch.inf), dim=1)
        self.register_buffer("vectors", vectors, persistent=False)
        self.register_buffer("known", complete, persistent=False)

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return z [..., M] and whether it is known [...] of items by id [...]."""
        return self.vectors[items], self.known[items]
