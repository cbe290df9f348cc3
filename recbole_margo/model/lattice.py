"""LATTICE: latent item-item structures mined from the modalities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_margo.graph.bipartite import random_walk_adjacency
from recbole_margo.graph.sparse import SparseMatrix
from recbole_margo.model.base import MultimodalRecommender, StepCapture
from recbole_margo.model.paper import Paper
from recbole_margo.model.parameters import MultimodalParameters, hyperparameter
from recbole_margo.nn.content_path import ContentPath, array, direction_tables, spread_tables
from recbole_margo.nn.latent_item_graphs import REFRESHES, LatentItemGraphs, MixedItemGraph
from recbole_margo.nn.projection import xavier_table
from recbole_margo.nn.propagation import light_gcn, power


@dataclass(frozen=True, kw_only=True)
class LATTICEParameters(MultimodalParameters):
    """Hyper-parameters of LATTICE; MICRO shares them."""

    interaction_layers: int = hyperparameter("products with the interaction graph", low=0, paper=2)
    item_neighbors: int = hyperparameter(
        "neighbours of an item in a kNN graph, itself included", low=1, paper=10
    )
    item_graph_layers: int = hyperparameter("products with the item graph", low=0, paper=1)
    fixed_graph_share: float = hyperparameter(
        "lambda, share of the raw features' graph in the item graph", low=0.0, high=1.0, paper=0.9
    )
    graph_refresh: str = hyperparameter(
        "when the item graph is learned: at the first batch of an epoch, as in the published "
        "numbers, or at every batch, as the paper says",
        choices=REFRESHES,
    )
    momentum_between_refreshes: bool = hyperparameter(
        "whether what builds the graph moves on by the optimiser's momentum between refreshes"
    )
    reg_weight: float = hyperparameter(
        "weight of the squared embeddings of a batch",
        low=0.0,
        search=[0.0, 1e-5, 1e-4, 1e-3],
    )


class LATTICE(MultimodalRecommender):
    r"""LightGCN whose items also hear from neighbours in a learned graph.

    .. math:: G = (1 - \lambda)\, \mathrm{norm}\Big(\sum_m w_m S_m\Big) + \lambda \sum_m w_m N_m,
        \quad w = \mathrm{softmax}(a), \qquad
        r_{ui} = \langle e_u, e_i + \mathrm{rownorm}(G^n Q)_i \rangle

        [E_u ; E_i] = \mathrm{mean}_l (D^{-1}(A + I))^l [P ; Q], \qquad
        L = L_{bpr} + \frac{\lambda_r}{2B} \sum (\lVert e_u \rVert^2 + \lVert e_i \rVert^2 +
        \lVert e_j \rVert^2)

    S holds the cosines of the nearest neighbours by projected features, through which the gradient
    reaches features and projections; N the normalised ones of the raw features.

    Source: Zhang, Zhu, Liu, Wu, Wang, Wang, "Mining Latent Structures for Multimedia
    Recommendation", MM 2021, its latent structure learning on LightGCN.

    Departures from the paper:
        - `graph_refresh: epoch` learns the graph from the first batch of each epoch alone, as the
          public code does; `batch` from every batch.
        - `momentum_between_refreshes: true` lets Adam move features, projections and modality
          weights at every batch by its momentum, which is how torch before 2.0 trained this code;
          `false` leaves them where the refresh put them.
        - The penalty is divided by the batch's own size.
        - An item that misses a modality has no neighbours in it and is nobody's neighbour; its
          fixed part is then the smaller, its learned part is normalised over what there is.
        - Products are sparse: no [I, I] matrix is held. LightGCN is the only collaborative part.
    """

    parameters_class = LATTICEParameters
    paper = Paper(
        title="Mining Latent Structures for Multimedia Recommendation",
        authors="Jinghao Zhang, Yanqiao Zhu, Qiang Liu, Shu Wu, Shuhui Wang, Liang Wang",
        venue="MM",
        year=2021,
        link="https://arxiv.org/abs/2104.09036",
    )
    shares_batches = True
    loss_names = ("recommendation", "regularization")

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        parameters = self.hyperparameters
        self.user_embedding = xavier_table(self.n_users, parameters.embedding_size)
        self.item_embedding = xavier_table(self.n_items, parameters.embedding_size)
        modalities = len(self.modalities)
        self.modality_logits = nn.Parameter(torch.full((modalities,), 1 / modalities))
        self.item_graphs = LatentItemGraphs(
            self.features, self.modality_mask, parameters, self.item_neighbor_search
        )
        self.interaction_graph = SparseMatrix(random_walk_adjacency(self.interactions))

    @property
    def step_capture(self) -> StepCapture:
        """Captured for the batches that keep what the first one of an epoch has learned."""
        each = self.hyperparameters.graph_refresh == "batch"
        return StepCapture.NEVER if each else StepCapture.EPOCH

    @property
    def keeps_zero_gradients(self) -> bool:
        """Whether the graph's parameters move on by momentum in batches that do not build it."""
        return bool(self.hyperparameters.momentum_between_refreshes)

    def begin_epoch(self, epoch: int) -> None:
        """Let the first batch learn the item graph."""
        self.item_graphs.begin_epoch()

    def build_item_graph(self) -> list[MixedItemGraph]:
        """Return the item graph of the current parameters, with a gradient, in a list."""
        projected = self.project_features(self.item_graphs.projections)
        weights = torch.softmax(self.modality_logits, dim=0)
        return self.item_graphs.combined(projected, self.modality_mask, weights)

    def embeddings(self, item_graph: MixedItemGraph) -> tuple[Tensor, Tensor]:
        """Return users [U, d] and items [I, d]."""
        parameters = self.hyperparameters
        users, items = light_gcn(
            self.interaction_graph,
            self.user_embedding,
            self.item_embedding,
            parameters.interaction_layers,
        )
        neighbors = power(item_graph, self.item_embedding, parameters.item_graph_layers)
        return users, items + functional.normalize(neighbors)

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """Return the ranking loss and the weighted penalty, two scalars."""
        (item_graph,) = self.item_graphs.for_training(self.build_item_graph)
        ranking, penalty = self.ranking_and_penalty(interaction, *self.embeddings(item_graph))
        return ranking, self.hyperparameters.reg_weight * penalty

    def content_path(self, raw: Sequence[Tensor]) -> ContentPath:
        """Return how an item's row follows from its contents; see `MultimodalRecommender`."""
        parameters, graphs = self.hyperparameters, self.build_item_graph()
        numbers = {
            name: getattr(parameters, name)
            for name in ("item_neighbors", "item_graph_layers", "fixed_graph_share")
        }
        tables = {
            **direction_tables(raw, self.modality_mask),
            **self.item_graphs.content_tables(
                self.project_features(self.item_graphs.projections), self.modality_mask
            ),
            "modality_weights": array(torch.softmax(self.modality_logits, dim=0)),
            "learned_degrees": array(graphs[0].learned_degrees)[1:],
            **spread_tables(graphs[0], self.item_embedding, parameters.item_graph_layers),
        }
        return ContentPath("lattice", self.modalities, numbers, tables)

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return users [U, d] and items [I, d]; the item graph is built anew."""
        (item_graph,) = self.build_item_graph()
        return self.embeddings(item_graph)
