"""Propagation between users and items, without joining them into one table."""

from __future__ import annotations

from typing import Any

import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_margo.graph.bipartite import normalized_interactions
from recbole_margo.graph.sparse import Parts, SparseMatrix, sparse_product


class InteractionGraph(nn.Module):
    r"""The symmetrically normalised bipartite adjacency, applied to users and items side by side.

    .. math:: \hat A = \begin{pmatrix} 0 & \hat R \\ \hat R^\top & 0 \end{pmatrix}, \qquad
        \hat R_{ui} = \frac{R_{ui}}{\sqrt{|N_u| |N_i|}}

    The same products as those with `normalized_adjacency`. Users and items stay the tables that
    they are, where joining and taking them apart would copy both in each direction.

    Args:
        interactions: R [U, I].

    Source: LightGCN (He et al., SIGIR 2020), Eq. 7-8.
    """

    def __init__(self, interactions: sp.csr_matrix) -> None:
        super().__init__()
        self.interactions = SparseMatrix(normalized_interactions(interactions))

    def sum_of_layers(self, users: Tensor, items: Tensor, layers: int) -> tuple[Tensor, Tensor]:
        r"""Return the users and items of :math:`\sum_{l=0}^{L} \hat A^l [X_u ; X_i]`.

        Args:
            users: X_u [U, d]; half precision is computed in float32.
            items: X_i [I, d], likewise.
            layers: L.

        Returns:
            [U, d] and [I, d], float32.
        """
        users, items = users.float(), items.float()
        if layers == 0:
            return users, items
        with torch.autocast(device_type=users.device.type, enabled=False):
            found: tuple[Tensor, Tensor] = _SumOfLayers.apply(  # type: ignore[no-untyped-call]
                users, items, *self.interactions.both(), layers
            )
        return found


class _SumOfLayers(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, by_user: Parts, by_item: Parts, layers: int
    ) -> tuple[Tensor, Tensor]:
        ctx.graph = by_user, by_item, layers
        return _sum_of_layers(users, items, *ctx.graph)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # The adjacency is symmetric, so the gradient is propagated as the embeddings are.
        of_users, of_items = gradients
        return *_sum_of_layers(of_users, of_items, *ctx.graph), None, None, None


def _sum_of_layers(
    users: Tensor, items: Tensor, by_user: Parts, by_item: Parts, layers: int
) -> tuple[Tensor, Tensor]:
    """Return the sum by Horner's rule: I + A + A^2 = I + A (I + A)."""
    all_users, all_items = users, items
    for _ in range(layers):
        all_users, all_items = (
            sparse_product(by_user, all_items, plus=users),
            sparse_product(by_item, all_users, plus=items),
        )
    return all_users, all_items
