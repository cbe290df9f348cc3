"""FREEDOM: a frozen item graph and a denoised interaction graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbole_margo.graph.bipartite import (
    InteractionGraph,
    normalized_interactions,
    sample_interactions,
)
from recbole_margo.graph.item_knn import binary_knn_graph, combined_graph, modality_shares
from recbole_margo.graph.sparse import SparseMatrix
from recbole_margo.model.base import MultimodalRecommender, StepCapture
from recbole_margo.model.paper import Paper
from recbole_margo.model.parameters import MultimodalParameters, hyperparameter
from recbole_margo.nn.content_path import ContentPath, direction_tables, spread_tables
from recbole_margo.nn.losses import bpr_loss
from recbole_margo.nn.projection import linear_projection, xavier_table
from recbole_margo.nn.propagation import (
    LinearHistory,
    light_gcn,
    light_gcn_history,
    power,
    select_rows,
)


@dataclass(frozen=True, kw_only=True)
class FREEDOMParameters(MultimodalParameters):
    """Hyper-parameters of FREEDOM."""

    interaction_layers: int = hyperparameter("products with the interaction graph", low=0, paper=2)
    item_neighbors: int = hyperparameter(
        "neighbours of an item in a kNN graph, itself included", low=1, paper=10
    )
    item_graph_weights: dict[str, float] = hyperparameter(
        "weight of each modality in the item graph; `other` stands for those not named",
        paper={"text": 0.9, "image": 0.1},
    )
    item_graph_layers: int = hyperparameter("products with the item graph", low=0, paper=1)
    dropped_interactions: float = hyperparameter(
        "rho, share of the interactions that an epoch leaves out of the graph",
        low=0.0,
        high=0.99,
        search=[0.8, 0.9],
    )
    reg_weight: float = hyperparameter(
        "lambda, weight of the ranking losses of the single modalities",
        low=0.0,
        search=[0.0, 1e-5, 1e-4, 1e-3],
    )


class FREEDOM(MultimodalRecommender):
    r"""LightGCN on a sample of the interactions, and item neighbours frozen before training.

    .. math:: [E_u ; E_i] = \mathrm{mean}_l\, \hat A^l [P ; Q], \qquad
        r_{ui} = \langle e_u, e_i + (S^n Q)_i \rangle

        L = L_{bpr}(r) + \lambda \sum_m L_{bpr}(\langle e_u, W_m F_m \rangle)

    Each epoch trains on interactions drawn anew, popular users' and items' less often
    (`recbole_margo.graph.bipartite.sample_interactions`); scores use all of them. S is the
    weighted sum of the modalities' binary kNN graphs.

    Args:
        config: RecBole's `Config`; its `seed` decides which interactions an epoch draws.

    Source: Zhou, Shen, "A Tale of Two Graphs: Freezing and Denoising Graph Structures for
    Multimodal Recommendation", MM 2023, its frozen item graph and
    degree-sensitive edge pruning.

    Departures from the paper:
        - Every edge of S weighs 1/k, as in the public code: row counts are equal, so the
          symmetric normalisation of the paper is a constant.
        - The projections have no bias: it would cancel between the two items of a triplet.
        - A triplet in which an item misses a modality is left out of that modality's ranking loss;
          a missing modality enters no kNN list and its weight in S goes to the others.
        - Any number of interactions; the public code's sampling ends at 2^24.
    """

    parameters_class = FREEDOMParameters
    paper = Paper(
        title="A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal "
        "Recommendation",
        authors="Xin Zhou, Zhiqi Shen",
        venue="MM",
        year=2023,
        link="https://arxiv.org/abs/2211.06924",
    )
    loss_names = ("recommendation", "modalities")
    step_capture = StepCapture.EPOCH

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        parameters = self.hyperparameters
        width = parameters.embedding_size
        self.seed = int(config["seed"])
        self.user_embedding = xavier_table(self.n_users, width)
        self.item_embedding = xavier_table(self.n_items, width)
        self.projections = nn.ModuleList(
            linear_projection(matrix.shape[1], width, bias=False) for matrix in self.features
        )
        self.interaction_graph = InteractionGraph(self.interactions)
        graphs = [
            binary_knn_graph(
                matrix,
                self.modality_mask[:, m],
                parameters.item_neighbors,
                self.item_neighbor_search,
            )
            for m, matrix in enumerate(self.features)
        ]
        shares = modality_shares(parameters.item_graph_weights, self.modalities)
        self.item_graph = SparseMatrix(combined_graph(graphs, shares, self.modality_mask))
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Draw the interactions that the epoch trains on."""
        random = np.random.default_rng([self.seed, epoch])
        sample = sample_interactions(
            self.interactions, self.hyperparameters.dropped_interactions, random
        )
        self.training_graph = InteractionGraph(sample).to(self.item_embedding.device)

    def embeddings(self, interaction_graph: InteractionGraph) -> tuple[Tensor, Tensor]:
        """Return users [U, d] and items [I, d] over a graph of interactions."""
        parameters = self.hyperparameters
        users, items = light_gcn(
            interaction_graph,
            self.user_embedding,
            self.item_embedding,
            parameters.interaction_layers,
        )
        return users, items + power(
            self.item_graph, self.item_embedding, parameters.item_graph_layers
        )

    @property
    def shares_batches(self) -> bool:
        """Whether the loss is a mean over the rows of a batch, see `MultimodalRecommender`."""
        return self.nothing_missing

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """Return the ranking loss and the weighted ones of the modalities, two scalars."""
        user, positive, negative = self.triplets(interaction)
        user_table, item_table = self.embeddings(self.training_graph)
        users = select_rows(user_table, user)
        margin = select_rows(item_table, positive) - select_rows(item_table, negative)
        ranking = bpr_loss((users * margin).sum(dim=1), margin.new_zeros(()))
        both = self.modality_mask[positive] & self.modality_mask[negative]
        of_positives = self.project_features(self.projections, positive)
        of_negatives = self.project_features(self.projections, negative)
        single = [
            bpr_loss((users * good).sum(dim=1), (users * bad).sum(dim=1), both[:, m])
            for m, (good, bad) in enumerate(zip(of_positives, of_negatives, strict=True))
        ]
        return ranking, self.hyperparameters.reg_weight * torch.stack(single).sum()

    def linear_history(self) -> LinearHistory | None:
        """Return what user rows are made of; see `MultimodalRecommender`."""
        layers = self.hyperparameters.interaction_layers
        _, sources = self.interaction_graph.sum_of_layers(
            self.user_embedding, self.item_embedding, max(layers - 1, 0)
        )
        return light_gcn_history(
            normalized_interactions(self.interactions),
            self.user_embedding,
            sources,
            layers,
        )

    def content_path(self, raw: Sequence[Tensor]) -> ContentPath:
        """Return how an item's row follows from its contents; see `MultimodalRecommender`."""
        parameters = self.hyperparameters
        numbers = {
            name: getattr(parameters, name) for name in ("item_neighbors", "item_graph_layers")
        }
        shares = modality_shares(parameters.item_graph_weights, self.modalities)
        tables = {
            "shares": np.array(shares),
            **direction_tables(raw, self.modality_mask),
            **spread_tables(self.item_graph, self.item_embedding, parameters.item_graph_layers),
        }
        return ContentPath("freedom", self.modalities, numbers, tables)

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return users [U, d] and items [I, d] over all interactions."""
        return self.embeddings(self.interaction_graph)
