"""MGCN: multi-view graph convolution with contents purified by behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recbole_margo.graph.bipartite import InteractionGraph
from recbole_margo.graph.item_knn import similarity_knn_graph
from recbole_margo.graph.sparse import SparseMatrix
from recbole_margo.model.base import MultimodalRecommender, StepCapture
from recbole_margo.model.paper import Paper
from recbole_margo.model.parameters import MultimodalParameters, hyperparameter
from recbole_margo.nn.content_path import (
    ContentPath,
    array,
    degrees,
    direction_tables,
    spread_tables,
)
from recbole_margo.nn.losses import info_nce
from recbole_margo.nn.projection import ModalityAttention, linear_projection, xavier_table
from recbole_margo.nn.propagation import light_gcn, power, select_rows


@dataclass(frozen=True, kw_only=True)
class MGCNParameters(MultimodalParameters):
    """Hyper-parameters of MGCN."""

    interaction_layers: int = hyperparameter("products with the interaction graph", low=0, paper=2)
    item_neighbors: int = hyperparameter(
        "neighbours of an item in a kNN graph, itself included", low=1, paper=10
    )
    item_graph_layers: int = hyperparameter("products with the item graphs", low=0, paper=1)
    contrastive_weight: float = hyperparameter(
        "weight of the contrast between content and behaviour",
        low=0.0,
        search=[0.001, 0.01, 0.1],
    )
    temperature: float = hyperparameter("tau of the contrast", low=1e-3, paper=0.2)
    reg_weight: float = hyperparameter(
        "weight of the squared embeddings of a batch", low=0.0, paper=1e-4
    )


class MGCN(MultimodalRecommender):
    r"""Purifies contents by ids, spreads them over item graphs, and fuses them with behaviour.

    .. math:: \bar E_i^m = N_m^n \big(Q \odot \sigma(V_m(W_m F_m + b_m))\big), \quad
        \bar E_u^m = \hat R \bar E_i^m, \qquad C = \mathrm{mean}_l\, \hat A^l [P ; Q]

        K = \sum_m \alpha^m \bar E^m, \qquad
        H = \frac{1}{M + 1} \Big(K + \sum_m \sigma(U_m C) \odot (\bar E^m - K)\Big), \qquad
        r_{ui} = \langle (C + H)_u, (C + H)_i \rangle

        L = L_{bpr} + \frac{\lambda}{2B} \lVert E_B \rVert^2 +
        \gamma \big(\mathrm{InfoNCE}_B(H_i, C_i) + \mathrm{InfoNCE}_B(H_u, C_u)\big)

    with the attention of `ModalityAttention` and the normalised kNN graphs of the raw features.

    Source: Yu, Tan, Lu, Bao, "Multi-View Graph Convolutional Network for Multimedia
    Recommendation", MM 2023, its behaviour-guided purifier, multi-view encoder, behaviour-aware
    fuser and self-supervised task.

    Departures from the paper:
        - Any number of modalities; an item that misses one has no part of it in K and H, which is
          then the mean over those there are and K. Users have all of them.
        - The penalty is divided by the batch's own size.
    """

    parameters_class = MGCNParameters
    paper = Paper(
        title="Multi-View Graph Convolutional Network for Multimedia Recommendation",
        authors="Penghang Yu, Zhiyi Tan, Guanming Lu, Bing-Kun Bao",
        venue="MM",
        year=2023,
        link="https://arxiv.org/abs/2308.03588",
    )
    loss_names = ("recommendation", "contrast", "regularization")
    step_capture = StepCapture.STAGE

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        parameters = self.hyperparameters
        width = parameters.embedding_size
        self.user_embedding = xavier_table(self.n_users, width)
        self.item_embedding = xavier_table(self.n_items, width)
        self.projections = nn.ModuleList(
            linear_projection(matrix.shape[1], width) for matrix in self.features
        )
        self.purifiers = nn.ModuleList(_gate(width) for _ in self.modalities)
        self.preferences = nn.ModuleList(_gate(width) for _ in self.modalities)
        self.attention = ModalityAttention(width)
        self.item_graphs = nn.ModuleList(
            SparseMatrix(
                similarity_knn_graph(
                    matrix,
                    self.modality_mask[:, m],
                    parameters.item_neighbors,
                    self.item_neighbor_search,
                )
            )
            for m, matrix in enumerate(self.features)
        )
        self.interaction_graph = InteractionGraph(self.interactions)

    def contents(self) -> Tensor:
        """Return the purified and spread contents of all nodes, users first [U + I, M, d]."""
        nodes = []
        for m, items in enumerate(self._purified()):
            items = power(self.item_graphs[m], items, self.hyperparameters.item_graph_layers)
            nodes.append(torch.cat([self.interaction_graph.interactions(items), items]))
        return torch.stack(nodes, dim=1)

    def _purified(self) -> list[Tensor]:
        """Return the ids as each modality's contents let them through, M times [I, d]."""
        return [
            self.item_embedding * self.purifiers[m](projected) * self.modality_mask[:, m : m + 1]
            for m, projected in enumerate(self.project_features(self.projections))
        ]

    def behaviour_and_side(self) -> tuple[Tensor, Tensor]:
        """Return C and H [U + I, d], users first."""
        ids = (self.user_embedding, self.item_embedding)
        layers = self.hyperparameters.interaction_layers
        behaviour = torch.cat(light_gcn(self.interaction_graph, *ids, layers))
        contents = self.contents()
        users_have = self.modality_mask.new_ones(self.n_users, len(self.modalities))
        present = torch.cat([users_have, self.modality_mask])
        common = (self.attention(contents, present).unsqueeze(-1) * contents).sum(dim=1)
        total = common
        for m, gate in enumerate(self.preferences):
            specific = (contents[:, m] - common) * present[:, m : m + 1]
            total = total + gate(behaviour) * specific
        return behaviour, total / (1 + present.sum(dim=1, keepdim=True))

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the ranking loss, the weighted contrast and the weighted penalty."""
        behaviour, side = self.behaviour_and_side()
        users, items = self.users_and_items(behaviour + side)
        ranking, penalty = self.ranking_and_penalty(interaction, users, items)
        contrast = ranking.new_zeros(())
        batch_users, batch_items = interaction[self.USER_ID], interaction[self.ITEM_ID]
        for nodes in (batch_users, self.n_users + batch_items):
            sides = select_rows(side, nodes)
            targets = select_rows(behaviour, nodes)
            temperature = self.hyperparameters.temperature
            contrast = contrast + info_nce(sides, targets, targets, temperature).mean()
        return (
            ranking,
            self.hyperparameters.contrastive_weight * contrast,
            self.hyperparameters.reg_weight * penalty,
        )

    def content_path(self, raw: Sequence[Tensor]) -> ContentPath:
        """Return how an item's row follows from its contents; see `MultimodalRecommender`."""
        parameters = self.hyperparameters
        numbers = {
            name: getattr(parameters, name) for name in ("item_neighbors", "item_graph_layers")
        }
        tables = {**direction_tables(raw, self.modality_mask), **self.attention.tables()}
        for m, items in enumerate(self._purified()):
            graph = self.item_graphs[m]
            tables |= spread_tables(graph, items, parameters.item_graph_layers, m)
            tables[f"degrees_{m}"] = degrees(graph)
            gate: Any = self.preferences[m]
            tables[f"preference_bias_{m}"] = array(gate[0].bias)
        return ContentPath("mgcn", self.modalities, numbers, tables)

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return users [U, d] and items [I, d]."""
        behaviour, side = self.behaviour_and_side()
        return self.users_and_items(behaviour + side)


def _gate(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.Sigmoid())
