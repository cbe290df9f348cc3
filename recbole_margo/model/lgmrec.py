"""LGMRec: local graphs of ids and modalities, and a global hypergraph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_margo.graph.bipartite import normalized_adjacency, row_mean
from recbole_margo.graph.sparse import SparseMatrix
from recbole_margo.model.base import MultimodalRecommender, StepCapture
from recbole_margo.model.paper import Paper
from recbole_margo.model.parameters import MultimodalParameters, hyperparameter
from recbole_margo.nn.content_path import ContentPath, array
from recbole_margo.nn.losses import PENALTIES, info_nce
from recbole_margo.nn.projection import feature_product, xavier_table
from recbole_margo.nn.propagation import mean_of_layers, power, select_rows

NOISES = ("none", "gumbel")


@dataclass(frozen=True, kw_only=True)
class LGMRecParameters(MultimodalParameters):
    """Hyper-parameters of LGMRec."""

    interaction_layers: int = hyperparameter(
        "products of the ids with the interaction graph", low=0, paper=2
    )
    modality_layers: int = hyperparameter(
        "products of the contents with the interaction graph", low=0, paper=2
    )
    hypergraph_layers: int = hyperparameter(
        "passes over the hypergraph", low=1, search=[1, 2, 3, 4]
    )
    hyperedges: int = hyperparameter("hyperedges of a modality", low=1, search=[4, 8, 16, 32, 64])
    keep_rate: float = hyperparameter(
        "share of the hyperedge assignments that training keeps",
        low=0.01,
        high=1.0,
        search=(0.1, 1.0, "linear"),
    )
    assignment_temperature: float = hyperparameter(
        "temperature of the assignment to hyperedges", low=1e-3, paper=0.2
    )
    evaluation_noise: str = hyperparameter(
        "noise in the assignments at evaluation: none, or as in the public code, whose scores "
        "differ from evaluation to evaluation",
        choices=NOISES,
    )
    global_weight: float = hyperparameter(
        "alpha, weight of the hypergraph's embeddings", low=0.0, search=(0.1, 1.0, "linear")
    )
    contrastive_weight: float = hyperparameter(
        "weight of the contrast between the modalities", low=0.0, search=[1e-5, 1e-4, 1e-3]
    )
    contrastive_temperature: float = hyperparameter("tau of the contrast", low=1e-3, paper=0.2)
    reg_weight: float = hyperparameter(
        "lambda, weight of the penalty on the embeddings of a batch", low=0.0, paper=1e-6
    )
    penalty: str = hyperparameter(
        "norm in the penalty: as the published numbers, or as the paper", choices=PENALTIES
    )


class LGMRec(MultimodalRecommender):
    r"""Adds what a user's interests have in common with everybody's to local embeddings.

    .. math:: C = \mathrm{mean}_l\, \hat A^l [P ; Q], \quad
        Z^m = \hat A^n [D_u^{-1} R\, F_m W_m ; F_m W_m], \quad
        H_i^m = s(F_m V_m), \quad H_u^m = s(R\, F_m V_m)

        x \leftarrow H_i^m (H_i^{m \top} x), \quad y \leftarrow H_u^m (H_i^{m \top} x), \qquad
        E = C + \sum_m \mathrm{rownorm}(Z^m) + \alpha\, \mathrm{rownorm}\Big(\sum_m [y^m ; x^m]\Big)

        L = L_{bpr} + \gamma \sum_{m < m'} \sum_B \big( \mathrm{InfoNCE}(y_u^m, y_u^{m'}) +
        \mathrm{InfoNCE}(x_i^m, x_i^{m'}) \big) + \lambda\, \mathrm{penalty}

    x starts from the items of C; s is a softmax over the hyperedges with a temperature, in training
    with Gumbel noise and dropout. The contrast takes all users, or all items, as candidates, in
    blocks with exact gradients.

    Source: Guo, Li, Li, Wang, Shi, Ruan, "LGMRec: Local and Global Graph Learning for Multimodal
    Recommendation", AAAI 2024.

    Departures from the paper:
        - `evaluation_noise: none` scores by the softmax of the logits; `gumbel` draws noise at
          evaluation too, as the public code does.
        - `penalty: frobenius` is the public code's norm, not squared; `squared` the paper's.
        - An item that misses a modality belongs to none of its hyperedges and enters no user's
          mean; users' means are over the items that have the modality.
        - One modality has no contrast; more than two are contrasted in all pairs, the earlier one
          as the anchor. An item that misses one of the two takes no part in it.
    """

    parameters_class = LGMRecParameters
    paper = Paper(
        title="LGMRec: Local and Global Graph Learning for Multimodal Recommendation",
        authors="Zhiqiang Guo, Jianjun Li, Guohui Li, Chaoyue Wang, Si Shi, Bin Ruan",
        venue="AAAI",
        year=2024,
        link="https://arxiv.org/abs/2312.16400",
    )
    loss_names = ("recommendation", "contrast", "regularization")
    step_capture = StepCapture.STAGE

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        parameters = self.hyperparameters
        self.user_embedding = xavier_table(self.n_users, parameters.embedding_size)
        self.item_embedding = xavier_table(self.n_items, parameters.embedding_size)
        widths = [matrix.shape[1] for matrix in self.features]
        self.projections = nn.ParameterList(
            xavier_table(width, parameters.embedding_size) for width in widths
        )
        self.hyperedges = nn.ParameterList(
            xavier_table(width, parameters.hyperedges) for width in widths
        )
        self.interaction_graph = SparseMatrix(
            normalized_adjacency(self.interactions), symmetric=True
        )
        self.items_of_users = SparseMatrix(self.interactions)
        present = self.modality_mask.cpu().numpy()
        self.item_means = nn.ModuleList(
            SparseMatrix(row_mean(self.interactions.multiply(column).tocsr()))
            for column in present.T
        )

    def embeddings(self, noise: bool) -> tuple[Tensor, list[Tensor]]:
        """Return all nodes E and each modality's hypergraph embeddings [y ; x], all [U + I, d].

        Args:
            noise: whether the assignments are drawn with Gumbel noise.
        """
        parameters = self.hyperparameters
        ids = torch.cat([self.user_embedding, self.item_embedding])
        local = mean_of_layers(self.interaction_graph, ids, parameters.interaction_layers)
        items = local[self.n_users :]
        assignments = self.project_features([_product_with(table) for table in self.hyperedges])
        for m, content in enumerate(
            self.project_features([_product_with(table) for table in self.projections])
        ):
            nodes = torch.cat([self.item_means[m](content), content])
            nodes = power(self.interaction_graph, nodes, parameters.modality_layers)
            local = local + functional.normalize(nodes)
        hypergraphs = [
            self._over_hyperedges(items, logits, m, noise) for m, logits in enumerate(assignments)
        ]
        spread = functional.normalize(torch.stack(hypergraphs).sum(dim=0))
        return local + parameters.global_weight * spread, hypergraphs

    def _over_hyperedges(self, items: Tensor, logits: Tensor, m: int, noise: bool) -> Tensor:
        """Return [y ; x] [U + I, d] of items x [I, d] and assignment logits [I, H]."""
        present = self.modality_mask[:, m : m + 1]
        of_items = self._assignment(logits, noise) * present
        of_users = self._assignment(self.items_of_users(logits), noise)
        for _ in range(self.hyperparameters.hypergraph_layers):
            of_edges = of_items.T @ items
            items, users = of_items @ of_edges, of_users @ of_edges
        return torch.cat([users, items])

    def _assignment(self, logits: Tensor, noise: bool) -> Tensor:
        temperature = self.hyperparameters.assignment_temperature
        if noise:
            shares = functional.gumbel_softmax(logits, temperature, dim=1)
        else:
            shares = torch.softmax(logits / temperature, dim=1)
        dropped = 1 - self.hyperparameters.keep_rate
        return functional.dropout(shares, dropped, training=self.training and noise)

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the ranking loss, the weighted contrast and the weighted penalty."""
        nodes, hypergraphs = self.embeddings(noise=True)
        users, items = self.users_and_items(nodes)
        ranking, penalty = self.ranking_and_penalty(
            interaction, users, items, self.hyperparameters.penalty
        )
        contrast = ranking.new_zeros(())
        for m, n in combinations(range(len(hypergraphs)), 2):
            have_both = self.modality_mask[:, m] & self.modality_mask[:, n]
            contrast = contrast + self._contrast(
                hypergraphs[m], hypergraphs[n], have_both, interaction
            )
        return (
            ranking,
            self.hyperparameters.contrastive_weight * contrast,
            self.hyperparameters.reg_weight * penalty,
        )

    def _contrast(self, one: Tensor, other: Tensor, have_both: Tensor, interaction: Any) -> Tensor:
        """Return the contrast of two modalities, summed over the batch, a scalar.

        Args:
            one: nodes [U + I, d] in one modality, the anchors.
            other: nodes [U + I, d] in the other.
            have_both: which items have both modalities [I], bool.
            interaction: with user ids [B] and item ids [B].
        """
        users_but_pad = torch.arange(self.n_users, device=one.device) > 0
        ids = (interaction[self.USER_ID], interaction[self.ITEM_ID])
        parts = zip(
            ids,
            self.users_and_items(one),
            self.users_and_items(other),
            (users_but_pad, have_both),
            strict=True,
        )
        total = one.new_zeros(())
        for nodes, anchors, targets, counted in parts:
            losses = info_nce(
                select_rows(anchors, nodes),
                select_rows(targets, nodes),
                targets,
                self.hyperparameters.contrastive_temperature,
                counted,
            )
            total = total + torch.where(counted[nodes], losses, 0.0).sum()
        return total

    def content_path(self, raw: Sequence[Tensor]) -> ContentPath:
        """Return how an item's row follows from its contents; see `MultimodalRecommender`."""
        parameters = self.hyperparameters
        names = ("assignment_temperature", "modality_layers", "global_weight")
        ids = torch.cat([self.user_embedding, self.item_embedding])
        local = mean_of_layers(self.interaction_graph, ids, parameters.interaction_layers)
        logits = self.project_features([_product_with(table) for table in self.hyperedges])
        tables = {}
        for m, of_modality in enumerate(logits):
            tables[f"hyperedges_{m}"] = array(self.hyperedges[m])
            tables[f"projections_{m}"] = array(self.projections[m])
            items = local[self.n_users :]
            assignment = self._assignment(of_modality, False) * self.modality_mask[:, m : m + 1]
            for _ in range(parameters.hypergraph_layers):
                edges = assignment.T @ items
                items = assignment @ edges
            tables[f"edges_{m}"] = array(edges)
        numbers = {name: getattr(parameters, name) for name in names}
        return ContentPath("lgmrec", self.modalities, numbers, tables)

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return users [U, d] and items [I, d]."""
        nodes, _ = self.embeddings(self.hyperparameters.evaluation_noise == "gumbel")
        return self.users_and_items(nodes)


def _product_with(table: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda features: feature_product(features, table.T)
