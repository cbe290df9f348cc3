"""The seam between a backbone and what is built on it, and the plainest one: LightGCN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_margo.graph.bipartite import InteractionGraph, normalized_interactions
from recbole_margo.graph.neighbor_search import NeighborSearch
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.nn.content_path import ContentPath, layer_tables
from recbole_margo.nn.losses import mean_square
from recbole_margo.nn.projection import linear_projection
from recbole_margo.nn.propagation import LinearHistory, light_gcn_history, select_rows


@dataclass(frozen=True)
class BackboneInputs:
    """The data from which a backbone represents users and items.

    Attributes:
        interactions: training interactions R [U, I].
        features: one matrix [I, D_m] per modality, as they are now.
        modalities: names of the modalities [M].
        mask: presence mask [I, M], bool.
    """

    interactions: sp.csr_matrix
    features: Sequence[Tensor]
    modalities: tuple[str, ...]
    mask: Tensor


class LateFusionBackbone(nn.Module):
    """Represents users and items separately in each modality.

    Every backbone has one preference table per modality for the users and projects the raw
    features of the items; how both travel over the graphs is the subclass's own.

    Args:
        parameters: the hyper-parameters of the model that owns the backbone.
        search: how the neighbours in item graphs are found, where there are any.

    Source: MARGO (arXiv 2504.16524), Eq. 1.
    """

    def __init__(self, inputs: BackboneInputs, parameters: Any, search: NeighborSearch) -> None:
        super().__init__()
        self.user_count = inputs.interactions.shape[0]
        self.embedding_size = parameters.embedding_size
        self.user_preference = nn.ParameterList(
            nn.init.xavier_normal_(torch.empty(self.user_count, self.embedding_size))
            for _ in inputs.modalities
        )

    def forward(
        self,
        inputs: BackboneInputs,
        user_weights: Tensor | None = None,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Represent users and items in every modality.

        Args:
            user_weights: factors [U, M] on the users' modalities; none: 1.
            users: ids of the users that are wanted [B], in any order; none: all.
            items: ids of the items that are wanted [C]; none: all.

        Returns:
            Users [U, M, d] and items [I, M, d], or [B, M, d] and [C, M, d] of those wanted.
        """
        raise NotImplementedError

    def content_path(self, inputs: BackboneInputs, raw: Sequence[Tensor]) -> ContentPath:
        """Return how an item's row of all modalities [M * d] follows from its contents.

        Args:
            raw: the features before any training, one matrix [I, D_m] per modality.
        """
        raise NotImplementedError

    def linear_history(
        self, inputs: BackboneInputs, user_weights: Tensor | None
    ) -> LinearHistory | None:
        """Return what user rows of all modalities [M * d] are made of.

        Args:
            user_weights: factors [U, M] on the users' modalities; none: 1.

        Returns:
            None of a backbone that is not linear in the items of a history.
        """
        return None

    def regularization(self, users: Tensor) -> Tensor:
        r"""Return :math:`\sum_m \mathrm{mean}_{b, f} (P_m[u_b]_f)^2`, a scalar.

        Args:
            users: user ids of the batch [B].
        """
        return torch.stack(
            [mean_square(select_rows(table, users)) for table in self.user_preference]
        ).sum()


class LightGCNBackbone(LateFusionBackbone):
    r"""LightGCN over each modality's projected features and a user table of the modality.

    .. math:: [E_u^m ; E_i^m] = \frac{1}{L + 1} \sum_{l=0}^{L} \hat A^l [P_m ; F_m W_m + b_m]

    Args: as in `LateFusionBackbone`; reads `embedding_size` and `interaction_layers`.

    Source: LightGCN (He et al., SIGIR 2020); MARGO (arXiv 2504.16524) calls its backbone
    exchangeable, this one shows that it is.
    """

    def __init__(self, inputs: BackboneInputs, parameters: Any, search: NeighborSearch) -> None:
        super().__init__(inputs, parameters, search)
        self.layers = parameters.interaction_layers
        self.projections = nn.ModuleList(
            linear_projection(matrix.shape[1], self.embedding_size) for matrix in inputs.features
        )
        self.interaction_graph = InteractionGraph(inputs.interactions)

    def forward(
        self,
        inputs: BackboneInputs,
        user_weights: Tensor | None = None,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Represent users and items in every modality; see `LateFusionBackbone`."""
        all_users, all_items = self.interaction_graph.sum_of_layers(
            *self._first_layer(inputs), self.layers
        )
        user_embeddings = self._by_modality(select_rows(all_users, users))
        if user_weights is not None:
            user_embeddings = user_embeddings * select_rows(user_weights, users).unsqueeze(-1)
        return user_embeddings, self._by_modality(select_rows(all_items, items))

    def _first_layer(self, inputs: BackboneInputs) -> tuple[Tensor, Tensor]:
        """Return the tables of users [U, M * d] and items [I, M * d] before any propagation."""
        projected = [
            self.projections[m](matrix) * inputs.mask[:, m : m + 1]
            for m, matrix in enumerate(inputs.features)
        ]
        return torch.cat(list(self.user_preference), dim=1), torch.cat(projected, dim=1)

    def linear_history(self, inputs: BackboneInputs, user_weights: Tensor | None) -> LinearHistory:
        """Return what user rows are made of; see `LateFusionBackbone`."""
        users, items = self._first_layer(inputs)
        _, sources = self.interaction_graph.sum_of_layers(users, items, max(self.layers - 1, 0))
        interactions = normalized_interactions(inputs.interactions)
        return light_gcn_history(interactions, users, sources, self.layers)

    def content_path(self, inputs: BackboneInputs, raw: Sequence[Tensor]) -> ContentPath:
        """Return how an item's row follows from its contents; see `LateFusionBackbone`."""
        tables: dict[str, Any] = {}
        for m, projection in enumerate(self.projections):
            tables |= layer_tables("output", projection, m)
        return ContentPath("lightgcn", inputs.modalities, {"layers": self.layers}, tables)

    def _by_modality(self, total: Tensor) -> Tensor:
        """Take the sums over the layers [N, M * d] apart into their means [N, M, d]."""
        mean: Tensor = total / (self.layers + 1)
        return mean.view(len(total), -1, self.embedding_size)


class LateFusionRecommender(MultimodalRecommender):
    """A model that adds up the scores of the modalities, as a `backbone` represents them.

    A subclass builds the backbone in `__init__`.
    """

    backbone: LateFusionBackbone
    shares_batches = True
    uses_item_ids = False

    @property
    def backbone_inputs(self) -> BackboneInputs:
        """The data for the backbone, with the features as they are now."""
        return BackboneInputs(self.interactions, self.features, self.modalities, self.modality_mask)

    @property
    def user_factors(self) -> Tensor | None:
        """The factors [U, M] on the users' modalities; none: 1."""
        return None

    def embeddings(
        self, users: Tensor | None = None, items: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return users [B, M, d] and items [C, M, d] by id; none: all [U, M, d] and [I, M, d]."""
        users, items = self.backbone(self.backbone_inputs, self.user_factors, users, items)
        return users, items

    def score_blocks(self) -> tuple[tuple[str, int], ...]:
        """Return a block of d columns per modality."""
        width = self.backbone.embedding_size
        return tuple((modality, width) for modality in self.modalities)

    def linear_history(self) -> LinearHistory | None:
        """Return what user rows are made of; see `MultimodalRecommender`."""
        return self.backbone.linear_history(self.backbone_inputs, self.user_factors)

    def content_path(self, raw: Sequence[Tensor]) -> ContentPath:
        """Return how an item's row follows from its contents; see `MultimodalRecommender`."""
        return self.backbone.content_path(self.backbone_inputs, raw)
