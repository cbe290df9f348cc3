"""LATTICE: latent item-item structures mined from the modalities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
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
from recbole_margo.nn.propagation import mean_of_layers, power


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
    loss_names: tuple[str, ...] = ("recommendation", "regularization")
    content_kind: ClassVar[str] = "lattice"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        parameters = self.hyperparameters
        self.user_embedding = xavier_table(self.n_users, parameters.embedding_size)
        self.item_embedding = xavier_table(self.n_items, parameters.embedding_size)
        self.item_graphs = LatentItemGraphs(
            self.features, self.modality_mask, parameters, self.item_neighbor_search
        )
        self.interaction_graph = SparseMatrix(random_walk_adjacency(self.interactions))
        self._build_fusion()

    def _build_fusion(self) -> None:
        modalities = len(self.modalities)
        self.modality_logits = nn.Parameter(torch.full((modalities,), 1 / modalities))

    @property
    def step_capture(self) -> StepCapture:
        """Captured for the batches that keep what the first one of an epoch has learned."""
        each = self.hyperparameters.graph_refresh == "batch"
        return StepCapture.NEVER if each else StepCapture.EPOCH

    @property
    def keeps_zero_gradients(self) -> bool:
        """Whether the parameters of item graphs move on in batches that do not build them."""
        return bool(self.hyperparameters.momentum_between_refreshes)

    def begin_epoch(self, epoch: int) -> None:
        """Let the first batch learn the item graphs."""
        self.item_graphs.begin_epoch()

    def build_item_graphs(self) -> list[MixedItemGraph]:
        """Return the item graphs of the current parameters, with a gradient: here one."""
        projected = self.project_features(self.item_graphs.projections)
        weights = torch.softmax(self.modality_logits, dim=0)
        return self.item_graphs.combined(projected, self.modality_mask, weights)

    def embeddings(self, neighbors: Tensor) -> tuple[Tensor, Tensor]:
        """Return users [U, d] and items [I, d].

        Args:
            neighbors: what items hear over the item graphs [I, d].
        """
        nodes = torch.cat([self.user_embedding, self.item_embedding])
        layers = self.hyperparameters.interaction_layers
        users, items = self.users_and_items(mean_of_layers(self.interaction_graph, nodes, layers))
        return users, items + functional.normalize(neighbors)

    def _spread(self, graph: MixedItemGraph) -> Tensor:
        """Return G^n Q [I, d]."""
        return power(graph, self.item_embedding, self.hyperparameters.item_graph_layers)

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """Return the ranking loss and the weighted penalty, two scalars."""
        (graph,) = self.item_graphs.for_training(self.build_item_graphs)
        embeddings = self.embeddings(self._spread(graph))
        ranking, penalty = self.ranking_and_penalty(interaction, *embeddings)
        return ranking, self.hyperparameters.reg_weight * penalty

    def content_path(self, raw: Sequence[Tensor]) -> ContentPath:
        """Return how an item's row follows from its contents; see `MultimodalRecommender`."""
        names = ("item_neighbors", "item_graph_layers", "fixed_graph_share")
        numbers = {name: getattr(self.hyperparameters, name) for name in names}
        tables = {
            **direction_tables(raw, self.modality_mask),
            **self.item_graphs.content_tables(
                self.project_features(self.item_graphs.projections), self.modality_mask
            ),
            **self._fusion_tables(),
        }
        return ContentPath(self.content_kind, self.modalities, numbers, tables)

    def _fusion_tables(self) -> dict[str, NDArray[Any]]:
        (graph,), layers = self.build_item_graphs(), self.hyperparameters.item_graph_layers
        return {
            "modality_weights": array(torch.softmax(self.modality_logits, dim=0)),
            "learned_degrees": array(graph.learned_degrees)[1:],
            **spread_tables(graph, self.item_embedding, layers),
        }

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return users [U, d] and items [I, d]; the item graph is built anew."""
        (graph,) = self.build_item_graphs()
        return self.embeddings(self._spread(graph))
