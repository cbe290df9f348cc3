"""LightGCN in each modality as a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_margo.graph.bipartite import normalized_adjacency
from recbole_margo.graph.neighbor_search import EXACT, NeighborSearch
from recbole_margo.graph.sparse import SparseMatrix
from recbole_margo.model.backbone.base import LateFusionBackbone
from recbole_margo.nn.projection import linear_projection
from recbole_margo.nn.propagation import chosen_rows, mean_of_layers


class LightGCNBackbone(LateFusionBackbone):
    r"""LightGCN over each modality's projected features and a user table of the modality.

    .. math:: [E_u^m ; E_i^m] = \frac{1}{L + 1} \sum_{l=0}^{L} \hat A^l [P_m ; F_m W_m + b_m]

    Args: as in `LateFusionBackbone`; reads `embedding_size` and `interaction_layers`.

    Source: LightGCN (He et al., SIGIR 2020); MARGO (arXiv 2504.16524) calls its backbone
    exchangeable, this one shows that it is.
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
        self.layers = parameters.interaction_layers
        self.projections = nn.ModuleList(
            linear_projection(matrix.shape[1], self.embedding_size) for matrix in features
        )
        self.interaction_graph = SparseMatrix(normalized_adjacency(interactions), symmetric=True)

    def forward(
        self,
        features: Sequence[Tensor],
        mask: Tensor,
        user_weights: Tensor | None = None,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Represent users and items in every modality; see `LateFusionBackbone`."""
        user_columns = torch.cat(list(self.user_preference), dim=1)
        item_columns = torch.cat(
            [self.projections[m](matrix) * mask[:, m : m + 1] for m, matrix in enumerate(features)],
            dim=1,
        )
        nodes = mean_of_layers(
            self.interaction_graph,
            torch.cat([user_columns, item_columns.to(user_columns.dtype)]),
            self.layers,
        )
        all_users, all_items = torch.split(nodes, [self.user_count, self.item_count])
        user_embeddings = self._by_modality(chosen_rows(all_users, users))
        if user_weights is not None:
            user_embeddings = user_embeddings * chosen_rows(user_weights, users).unsqueeze(-1)
        return user_embeddings, self._by_modality(chosen_rows(all_items, items))

    def _by_modality(self, nodes: Tensor) -> Tensor:
        """Take [N, M * d] apart into [N, M, d]."""
        return nodes.view(len(nodes), -1, self.embedding_size)
