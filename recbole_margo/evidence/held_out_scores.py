"""What the features of items say of users and items, by fits that never saw the item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_margo.evidence.content_score import content_score
from recbole_margo.evidence.item_targets import item_targets

# Random triplets from which the scale of each modality's differences is taken.
TRIPLETS = 2**16


class HeldOutScores(nn.Module):
    r"""Scores of user-item pairs by modality, in units of their own spread.

    .. math:: s_{ui}^m = \langle \bar T_u, \hat T_i^m \rangle, \qquad
        d^m = \frac{s_{ui}^m - s_{uj}^m}{\sigma_m \theta}

    :math:`\bar T_u` is the mean target (`item_targets`) of the user's training items, :math:`\hat
    T_i^m` what a regression on the other items predicts from the item's row (`content_score`),
    :math:`\sigma_m` the standard deviation of the difference over random triplets and
    :math:`\theta` a temperature. Nothing of it is trained. It keeps (U + M I) K numbers, K = 384.

    Args:
        interactions: binary training interactions R [U, I].
        features: raw features, per modality [I, D_m].
        mask: which items have which modality [I, M], bool.
        temperature: theta > 0.
    """

    users: Tensor
    items: Tensor
    known: Tensor

    def __init__(
        self,
        interactions: sp.csr_matrix,
        features: Sequence[Tensor],
        mask: Tensor,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        mask = mask.cpu()
        targets = item_targets(interactions)
        degree = np.maximum(np.asarray(interactions.sum(axis=1)), 1)
        users = torch.from_numpy(np.asarray(interactions @ targets / degree, dtype=np.float32))
        predicted, known = [], []
        for matrix, present in zip(features, mask.T, strict=True):
            rows = matrix.detach().float().cpu().numpy()
            found = content_score(rows, present.cpu().numpy(), targets)
            predicted.append(torch.from_numpy(found.predicted))
            known.append(torch.from_numpy(found.known))
        items = torch.stack(predicted, dim=1)
        items /= (_spread(users, items) * temperature).unsqueeze(-1)
        # An item counts where all of what it has is known: else what is known would take all.
        complete = (torch.stack(known, dim=1) | ~mask.cpu()).all(dim=1)
        self.register_buffer("users", users, persistent=False)
        self.register_buffer("items", items, persistent=False)
        self.register_buffer("known", complete, persistent=False)

    def differences(self, user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Return d [B, M] of triplets.

        Args:
            user: ids [B].
            positive: item ids [B].
            negative: item ids [B].
        """
        leaning = self.items[positive] - self.items[negative]
        return torch.einsum("bmk,bk->bm", leaning, self.users[user])

    def usable(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return whether there is evidence about both items of triplets [B], bool."""
        return self.known[positive] & self.known[negative]


def _spread(users: Tensor, items: Tensor) -> Tensor:
    """Return sigma [M], 1 where nothing differs."""
    random = torch.Generator().manual_seed(0)
    user = torch.randint(len(users), (TRIPLETS,), generator=random)
    pairs = torch.randint(len(items), (2, TRIPLETS), generator=random)
    sums = torch.zeros(items.shape[1], dtype=torch.float64)
    for block in torch.split(torch.arange(TRIPLETS), 4096):
        leaning = items[pairs[0, block]] - items[pairs[1, block]]
        sums += torch.einsum("bmk,bk->bm", leaning, users[user[block]]).double().square().sum(0)
    spread = (sums / TRIPLETS).sqrt().float()
    return torch.where(spread > 0, spread, 1.0)
