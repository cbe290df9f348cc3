"""DRAGON's dual graphs as a backbone, without its user-side weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_margo.graph.interaction_graph import InteractionGraph
from recbole_margo.graph.item_knn import binary_knn_graph, combined_graph, modality_shares
from recbole_margo.graph.neighbor_search import EXACT, NeighborSearch
from recbole_margo.graph.sparse import SparseMatrix
from recbole_margo.graph.user_cooccurrence import softmax_rows, strongest_cooccurrences
from recbole_margo.model.backbone.base import LateFusionBackbone
from recbole_margo.nn.normalized_rows import normalized_rows
from recbole_margo.nn.projection import mlp_projection
from recbole_margo.nn.propagation import chosen_rows, power

LAYERS_ON_INTERACTIONS = 2


class DragonBackbone(LateFusionBackbone):
    r"""Users and items per modality from the interaction graph and two homogeneous graphs.

    .. math::
        X_m = \mathrm{rownorm}([P_m ; \mathrm{MLP}_m(F_m)]), \quad
        Z_m = X_m + \hat A X_m + \hat A^2 X_m

        E_u^m = (I + C)(w_u^m Z_u^m), \qquad E_i^m = Z_i^m + S^n Z_i^m

    C is the softmax of co-occurrence counts over the k strongest co-users, S the weighted sum of
    the modalities' binary kNN graphs.

    Args: as in `LateFusionBackbone`; reads `embedding_size`, `projection_size`, `item_neighbors`,
        `item_graph_weights`, `item_graph_layers` and `user_neighbors` of the parameters.

    Source: DRAGON (Zhou, Zhou, Zhang, Shen, ECAI 2023), section 3.

    Departures from the paper:
        - A user with fewer than k co-users takes the softmax over those there are. The public code
          fills up with random repetitions anew each epoch, the same in expectation.
        - A missing modality is a zero row after the projection and enters no kNN list; the item
          graph's weight of that modality goes to the others.
        - Ties among co-users are broken as `strongest_cooccurrences` says; the public code leaves
          them to the sorting routine.
    """

    def __init__(
        self,
        interactions: sp.csr_matrix,
        features: Sequence[Tensor],
        modalities: Sequence[str],
        mask: Tensor,
        parameters: Any,
        search: NeighborSearch = EXACT,
    ) -> None:
        super().__init__(interactions, features, modalities, mask, parameters, search)
        self.projections = nn.ModuleList(
            mlp_projection(matrix.shape[1], parameters.projection_size, self.embedding_size)
            for matrix in features
        )
        self.item_graph_layers = parameters.item_graph_layers
        self.interaction_graph = InteractionGraph(interactions)
        co_users = strongest_cooccurrences(interactions, parameters.user_neighbors)
        # I + C: one product gives a user and the co-users together.
        self.user_graph = SparseMatrix(sp.identity(self.user_count) + softmax_rows(co_users))
        self.item_graph = SparseMatrix(
            combined_graph(
                [
                    binary_knn_graph(matrix, mask[:, m], parameters.item_neighbors, search)
                    for m, matrix in enumerate(features)
                ],
                modality_shares(parameters.item_graph_weights, modalities),
                mask,
            )
        )

    def forward(
        self,
        features: Sequence[Tensor],
        mask: Tensor,
        user_weights: Tensor | None = None,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Represent users and items in every modality; see `LateFusionBackbone`."""
        # One modality after the other: a table as narrow as that stays in a CPU's cache.
        user_neighbors = self.user_graph if users is None else self.user_graph.chosen(users)
        item_neighbors = self.item_graph if items is None else self.item_graph.chosen(items)
        user_parts, item_parts = [], []
        for m, (matrix, table) in enumerate(zip(features, self.user_preference, strict=True)):
            projected = self.projections[m](matrix) * mask[:, m : m + 1]
            all_users, all_items = self.interaction_graph.sum_of_layers(
                normalized_rows(table),
                normalized_rows(projected.to(table.dtype)),
                LAYERS_ON_INTERACTIONS,
            )
            if user_weights is not None:
                all_users = all_users * user_weights[:, m : m + 1]
            smoothed = power(self.item_graph, all_items, self.item_graph_layers - 1)
            user_parts.append(user_neighbors(all_users))
            item_parts.append(chosen_rows(all_items, items) + item_neighbors(smoothed))
        return torch.stack(user_parts, dim=1), torch.stack(item_parts, dim=1)
