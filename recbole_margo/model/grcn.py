"""GRCN: an interaction graph refined by the contents of its items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_margo.data.row_norms import rescaled_rows
from recbole_margo.graph.bipartite import normalized_adjacency
from recbole_margo.graph.sparse_pattern import SparsePattern
from recbole_margo.model.base import MultimodalRecommender, StepCapture
from recbole_margo.model.paper import Paper
from recbole_margo.model.parameters import MultimodalParameters, hyperparameter
from recbole_margo.nn.content_path import ContentPath, layer_tables
from recbole_margo.nn.losses import bpr_loss, mean_square
from recbole_margo.nn.projection import linear_projection, xavier_table
from recbole_margo.nn.propagation import select_rows, sum_of_layers

ID_LAYERS = 2


@dataclass(frozen=True, kw_only=True)
class GRCNParameters(MultimodalParameters):
    """Hyper-parameters of GRCN."""

    reg_weight: float = hyperparameter(
        "lambda, weight of the regulariser", low=0.0, search=[1e-1, 1e-2, 1e-3, 1e-4, 1e-5]
    )
    routing: str = hyperparameter(
        "what routing does to the users' preferences: nothing, as in the published numbers, or "
        "what the paper says",
        choices=("original", "paper"),
    )
    routing_iterations: int = hyperparameter("iterations of `routing: paper`", low=0, paper=3)


class GRCN(MultimodalRecommender):
    r"""Weighs every edge by how well the contents of its two ends agree.

    .. math::
        f_i = \mathrm{rownorm}(\mathrm{LeakyReLU}(W_m F_m + b_m)), \quad
        \alpha_{ij}^m = \mathrm{softmax}_{j \in N_i} \langle x_i^m, x_j^m \rangle, \quad
        z_i^m = x_i^m + \sum_j \alpha_{ij}^m x_j^m

        w_{ij} = \mathrm{relu}(\max_m \alpha_{ij}^m c_j^m), \qquad
        y = \sum_{l=0}^{2} A_w^l\, \mathrm{rownorm}(Q), \qquad
        r_{ui} = \langle [y_u \| z_u^1 \| \dots], [y_i \| z_i^1 \| \dots] \rangle

    over both directions of the interactions, x^m being the users' preferences and the items'
    contents, c [U + I, M] the learned confidence of the node that sends.

    The regulariser is the mean square of the batch's rows of Q, of users and both items, plus that
    of the batch's preferences, summed over the modalities.

    Source: Wei, Wang, Nie, He, Chua, "Graph-Refined Convolutional Network for Multimedia
    Recommendation with Implicit Feedback", MM 2020, its prototypical
    network with neighbour routing, graph refining and convolution.

    Departures from the paper:
        - `routing: original` leaves the preferences as they are: in the public code the messages
          of the routing reach items only, so that it does nothing. `routing: paper` adds to each
          preference what the user's items say, weighed by attention, and normalises, as often as
          `routing_iterations` says.
        - Only the strongest modality prunes (the paper's max); an item that misses a modality sends
          nothing in it.
        - Scores at evaluation come from the current parameters, not from the last batch's.
        - The public code's extra penalty on all users' preferences of the first modality alone is
          left out.
    """

    parameters_class = GRCNParameters
    paper = Paper(
        title="Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit "
        "Feedback",
        authors="Yinwei Wei, Xiang Wang, Liqiang Nie, Xiangnan He, Tat-Seng Chua",
        venue="MM",
        year=2020,
        link="https://arxiv.org/abs/2111.02036",
    )
    shares_batches = True
    loss_names = ("recommendation", "regularization")
    step_capture = StepCapture.STAGE

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        width, modalities = self.hyperparameters.embedding_size, len(self.modalities)
        self.user_preference = nn.ParameterList(
            xavier_table(self.n_users, width, nn.init.xavier_normal_) for _ in self.modalities
        )
        self.projections = nn.ModuleList(
            linear_projection(matrix.shape[1], width, nn.init.xavier_normal_)
            for matrix in self.features
        )
        self.user_embedding, self.item_embedding = self._tables_of_nodes(width)
        self.user_confidence, self.item_confidence = self._tables_of_nodes(modalities)
        # The row of an edge receives, its column sends.
        self.edges = SparsePattern.of_matrix(normalized_adjacency(self.interactions))
        self.items_of_users = SparsePattern.of_matrix(self.interactions)

    def _tables_of_nodes(self, columns: int) -> tuple[nn.Parameter, nn.Parameter]:
        """Return tables of users [U, columns] and items [I, columns], drawn as one table."""
        nodes = torch.empty(self.n_users + self.n_items, columns)
        users, items = self.users_and_items(nn.init.xavier_normal_(nodes))
        return nn.Parameter(users.clone()), nn.Parameter(items.clone())

    def node_embeddings(self) -> Tensor:
        """Return users and items [U + I, (1 + M) * d], the ids' part first."""
        confidence = torch.cat([self.user_confidence, self.item_confidence])
        contents, attentions = [], []
        for m, projected in enumerate(self.project_features(self.projections)):
            items = functional.normalize(rescaled_rows(functional.leaky_relu(projected, 0.01)))
            users = self._routed(functional.normalize(self.user_preference[m]), items, m)
            nodes = torch.cat([users, items])
            attention = self.edges.softmax(
                self.edges.inner_products(nodes, nodes), self._sends(m)[self.edges.column]
            )
            contents.append(nodes + self.edges.multiply(attention, nodes))
            attentions.append(attention * confidence[self.edges.column, m])
        weights = functional.relu(torch.stack(attentions).amax(dim=0))
        ids = sum_of_layers(
            lambda nodes: self.edges.multiply(weights, nodes),
            functional.normalize(torch.cat([self.user_embedding, self.item_embedding])),
            ID_LAYERS,
        )
        return torch.cat([ids, *contents], dim=1)

    def _sends(self, m: int) -> Tensor:
        """Return which nodes [U + I] have something to say in a modality."""
        users = self.modality_mask.new_ones(self.n_users)
        return torch.cat([users, self.modality_mask[:, m]])

    def _routed(self, users: Tensor, items: Tensor, m: int) -> Tensor:
        if self.hyperparameters.routing == "original":
            return users
        edges = self.items_of_users
        for _ in range(self.hyperparameters.routing_iterations):
            attention = edges.softmax(
                edges.inner_products(users, items), self.modality_mask[edges.column, m]
            )
            users = functional.normalize(users + edges.multiply(attention, items))
        return users

    def score_blocks(self) -> tuple[tuple[str, int], ...]:
        """Return a block of d columns for the ids and one per modality."""
        width = self.item_embedding.shape[1]
        return tuple((name, width) for name in ("id", *self.modalities))

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """Return the ranking loss and the weighted regulariser, two scalars."""
        user, positive, negative = self.triplets(interaction)
        batch = torch.cat([user, self.n_users + positive, self.n_users + negative])
        users, positives, negatives = select_rows(self.node_embeddings(), batch).chunk(3)
        ranking = bpr_loss((users * positives).sum(dim=1), (users * negatives).sum(dim=1))
        both_items = torch.cat([positive, negative])
        penalty = mean_square(select_rows(self.item_embedding, both_items))
        for table in (self.user_embedding, *self.user_preference):
            penalty = penalty + mean_square(select_rows(table, user))
        return ranking, self.hyperparameters.reg_weight * penalty

    def content_path(self, raw: Sequence[Tensor]) -> ContentPath:
        """Return how an item's row follows from its contents; see `MultimodalRecommender`."""
        tables: dict[str, Any] = {}
        for m, projection in enumerate(self.projections):
            tables |= layer_tables("output", projection, m)
        return ContentPath("grcn", self.modalities, tables=tables)

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return users [U, (1 + M) * d] and items [I, (1 + M) * d]."""
        return self.users_and_items(self.node_embeddings())
