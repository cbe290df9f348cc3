"""DRAGON's dual graphs as a backbone, without its user-side weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_margo.data.row_norms import normalized_rows
from recbole_margo.graph.bipartite import InteractionGraph, normalized_interactions
from recbole_margo.graph.item_knn import binary_knn_graph, combined_graph, modality_shares
from recbole_margo.graph.neighbor_search import NeighborSearch
from recbole_margo.graph.sparse import SparseMatrix
from recbole_margo.graph.user_cooccurrence import softmax_rows, strongest_cooccurrences
from recbole_margo.model.backbone.base import BackboneInputs, LateFusionBackbone
from recbole_margo.nn.content_path import (
    ContentPath,
    array,
    direction_tables,
    layer_tables,
    spread_tables,
)
from recbole_margo.nn.projection import mlp_projection
from recbole_margo.nn.propagation import LinearHistory, power, select_rows, shared_weights

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
        - A user with fewer than k co-users takes the softmax over those there are, exactly. The
          public code fills the list with random repetitions anew each epoch, whose softmax gives
          other weights, on average too.
        - A missing modality is a zero row after the projection and enters no kNN list; the item
          graph's weight of that modality goes to the others.
        - Ties among co-users are broken as `strongest_cooccurrences` says; the public code leaves
          them to the sorting routine.
    """

    def __init__(self, inputs: BackboneInputs, parameters: Any, search: NeighborSearch) -> None:
        super().__init__(inputs, parameters, search)
        self.projections = nn.ModuleList(
            mlp_projection(matrix.shape[1], parameters.projection_size, self.embedding_size)
            for matrix in inputs.features
        )
        self.item_graph_layers = parameters.item_graph_layers
        self.item_neighbors = parameters.item_neighbors
        self.item_graph_shares = modality_shares(parameters.item_graph_weights, inputs.modalities)
        self.interaction_graph = InteractionGraph(inputs.interactions)
        co_users = strongest_cooccurrences(
            inputs.interactions, parameters.user_neighbors, inputs.mask.device, search.cache
        )
        # I + C: one product gives a user and the co-users together.
        self.user_graph = SparseMatrix(sp.identity(self.user_count) + softmax_rows(co_users))
        self.item_graph = SparseMatrix(
            combined_graph(
                [
                    binary_knn_graph(matrix, inputs.mask[:, m], parameters.item_neighbors, search)
                    for m, matrix in enumerate(inputs.features)
                ],
                self.item_graph_shares,
                inputs.mask,
            )
        )

    def forward(
        self,
        inputs: BackboneInputs,
        user_weights: Tensor | None = None,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Represent users and items in every modality; see `LateFusionBackbone`."""
        # One modality after the other on a processor: a table as narrow as that stays in its cache.
        # All side by side on a GPU: that is half the kernels.
        alone = [[m] for m in range(len(inputs.features))]
        groups = alone if inputs.mask.device.type == "cpu" else [[m for (m,) in alone]]
        user_neighbors = self.user_graph if users is None else self.user_graph.chosen(users)
        item_neighbors = self.item_graph if items is None else self.item_graph.chosen(items)
        user_parts, item_parts = [], []
        for group in groups:
            all_users, all_items = self.interaction_graph.sum_of_layers(
                *self._first_layer(inputs, group), LAYERS_ON_INTERACTIONS
            )
            if user_weights is not None:
                weights = user_weights[:, group[0] : group[-1] + 1]
                all_users = (_apart(all_users, group) * weights.unsqueeze(-1)).flatten(1)
            smoothed = power(self.item_graph, all_items, self.item_graph_layers - 1)
            user_parts.append(_apart(user_neighbors(all_users), group))
            item_parts.append(
                _apart(select_rows(all_items, items) + item_neighbors(smoothed), group)
            )
        return _joined(user_parts), _joined(item_parts)

    def _first_layer(self, inputs: BackboneInputs, group: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return X [U, M * d] and [I, M * d] of a group of M modalities."""
        projected = [
            self.projections[m](inputs.features[m]) * inputs.mask[:, m : m + 1] for m in group
        ]
        tables = [self.user_preference[m] for m in group]
        return (
            normalized_rows(_side_by_side(tables)).flatten(1),
            normalized_rows(_side_by_side(projected).to(tables[0].dtype)).flatten(1),
        )

    def linear_history(self, inputs: BackboneInputs, user_weights: Tensor | None) -> LinearHistory:
        """Return what user rows are made of; see `LateFusionBackbone`."""
        modalities = len(inputs.features)
        users, items = self._first_layer(inputs, range(modalities))
        _, sources = self.interaction_graph.sum_of_layers(users, items, LAYERS_ON_INTERACTIONS - 1)
        factors = None if user_weights is None else array(user_weights)
        own = array(users)
        if factors is not None:
            own = (own.reshape(*factors.shape, -1) * factors[:, :, None]).reshape(own.shape)
        normalized = normalized_interactions(inputs.interactions)
        weights = shared_weights(normalized, self.user_graph.as_scipy(), factors, modalities)
        return LinearHistory(own, array(sources), weights)

    def content_path(self, inputs: BackboneInputs, raw: Sequence[Tensor]) -> ContentPath:
        """Return how an item's row follows from its contents; see `LateFusionBackbone`."""
        first = self._first_layer(inputs, range(len(inputs.features)))
        _, items = self.interaction_graph.sum_of_layers(*first, LAYERS_ON_INTERACTIONS)
        tables = {
            "shares": np.array(self.item_graph_shares),
            **direction_tables(raw, inputs.mask),
            **spread_tables(self.item_graph, items, self.item_graph_layers),
        }
        for m, projection in enumerate(self.projections):
            layers: Any = projection
            hidden, activation, output = layers
            tables |= layer_tables("hidden", hidden, m) | layer_tables("output", output, m)
        numbers = {
            "item_neighbors": self.item_neighbors,
            "item_graph_layers": self.item_graph_layers,
            "slope": activation.negative_slope,
        }
        return ContentPath("dragon", inputs.modalities, numbers, tables)


def _side_by_side(tables: Sequence[Tensor]) -> Tensor:
    """Return tables [N, d] of some modalities as one [N, M, d]; a single one is not copied."""
    return tables[0].unsqueeze(1) if len(tables) == 1 else torch.stack(list(tables), dim=1)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _apart(columns: Tensor, group: Sequence[int]) -> Tensor:
    """Return columns [N, M * d] of a group of M modalities as [N, M, d]."""
    return columns.view(len(columns), len(group), -1)
