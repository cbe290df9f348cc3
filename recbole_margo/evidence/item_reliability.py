"""How far each modality of an item can be trusted, by evidence that its rows could not buy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recbole_margo.evidence.item_evidence import ItemEvidence, item_evidence
from recbole_margo.evidence.item_targets import item_targets

# No modality is believed or disbelieved as a whole beyond this share of its rows.
LEAST_FITTING = 0.05


class ItemReliability(nn.Module):
    r"""The modality reliability vector of each item, fixed before any training.

    .. math:: z_i = \mathrm{softmax}_m(e_i^m / \theta), \qquad e_i^m =
        \log \frac{\pi_m}{1 - \pi_m} + \mu_m (s_i^m - \mu_m / 2), \qquad
        \mu_m = \max(\mathrm{mean}_i s_i^m, 0)

    over the modalities that the item has, with the score s of `item_evidence`: e is the log odds
    that a row fits. The share of the modality's rows that do, :math:`\pi` (not trusted below .05
    or above .95), is the prior; the rest is the likelihood ratio of a score that is shifted as
    the modality's are on average against one around 0, both of deviation 1. So scores count less
    in a modality where they say less.

    Args:
        interactions: binary training interactions R [U, I].
        features: raw features, per modality [I, D_m].
        mask: which items have which modality [I, M], bool.
        temperature: theta > 0; the larger, the closer the vectors are to uniform.

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
        evidence, known = torch.zeros(mask.shape), torch.zeros_like(mask)
        for m, matrix in enumerate(features):
            rows = matrix.detach().float().cpu().numpy()
            found = item_evidence(interactions, rows, mask[:, m].numpy(), targets)
            known[:, m] = torch.from_numpy(found.content.known)
            evidence[:, m] = torch.from_numpy(_log_odds(found))
        complete = mask.any(dim=1) & (known | ~mask).all(dim=1)
        evidence[~complete] = 0.0
        anything = mask | ~mask.any(dim=1, keepdim=True)
        vectors = torch.softmax((evidence / temperature).masked_fill(~anything, -torch.inf), dim=1)
        self.register_buffer("vectors", vectors, persistent=False)
        self.register_buffer("known", complete, persistent=False)

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return z [..., M] and whether it is known [...] of items by id [...]."""
        return self.vectors[items], self.known[items]


def _log_odds(found: ItemEvidence) -> NDArray[np.float64]:
    """Return e of one modality [I], 0 where nothing is known."""
    known, odds = found.content.known, np.zeros(len(found.scores))
    if known.any():
        shift = max(found.scores[known].mean(), 0.0)
        fitting = np.clip(found.fitting.estimate, LEAST_FITTING, 1 - LEAST_FITTING)
        odds[known] = shift * (found.scores[known] - shift / 2) + np.log(fitting / (1 - fitting))
    return odds
