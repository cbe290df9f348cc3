"""SLMRec: self-supervised learning across modalities, with in-batch negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_margo.data.row_norms import rescaled_rows
from recbole_margo.graph.bipartite import InteractionGraph
from recbole_margo.model.base import MultimodalRecommender, StepCapture
from recbole_margo.model.paper import Paper
from recbole_margo.model.parameters import MultimodalParameters, hyperparameter
from recbole_margo.nn.content_path import ContentPath, layer_tables
from recbole_margo.nn.losses import info_nce, log_sum_exp_of_products, mean_over
from recbole_margo.nn.projection import linear_projection, xavier_table
from recbole_margo.nn.propagation import light_gcn


@dataclass(frozen=True, kw_only=True)
class SLMRecParameters(MultimodalParameters):
    """Hyper-parameters of SLMRec."""

    interaction_layers: int = hyperparameter("products with the interaction graph", low=0, paper=3)
    temperature: float = hyperparameter(
        "temperature of the ranking loss over the batch", low=1e-3, paper=0.2
    )
    ssl_temperature: float = hyperparameter(
        "tau, temperature of the self-supervised losses", low=1e-3, search=[0.1, 0.2, 0.5, 1.0]
    )
    ssl_weight: float = hyperparameter(
        "alpha, weight of the self-supervised losses",
        low=0.0,
        search=[0.01, 0.05, 0.1, 0.5, 1.0],
    )
    weight_decay: float = hyperparameter("weight decay of the optimiser", low=0.0, paper=1e-4)


class SLMRec(MultimodalRecommender):
    r"""LightGCN in every modality, and agreement of the modalities with the items' ids.

    .. math:: [E_u^v ; E_i^v] = \mathrm{mean}_l\, \hat A^l [P ; X_v], \quad
        X_v \in \{Q, W_1 \hat F_1 + b_1, \dots\}, \qquad
        r_{ui} = \langle L_U [e_u^0 \| \dots \| e_u^M], L_I [e_i^0 \| \dots \| e_i^M] \rangle

        L = \mathrm{InfoNCE}_B(u, i) + \alpha \Big( \mathrm{CE}_\tau(g_1 e^0, g_2 e^1) +
        \sum_{m > 1} \mathrm{CE}_\tau(g_4^m g_3^m g_1 e^0, g_5^m e^m) \Big)

    The ranking loss takes the other items of the batch as negatives, by cosine; CE is the
    cross-entropy of products over the items of the batch. Features are scaled to length 1 at the
    start.

    Source: Tao, Liu, Xia, Wang, Yang, Huang, Chua, "Self-supervised Learning for Multimedia
    Recommendation", IEEE TMM 2022; its feature fine and coarse spaces (FAC), the task behind the
    published comparisons.

    Departures from the paper:
        - The fusion layers start as torch's linear layers do; the public code draws them from
          Xavier's uniform distribution.
        - The feature dropout and feature masking tasks are left out.
        - The third and any further modality is aligned as the second is, with heads of its own.
        - An item that misses a modality takes no part in its alignment.
        - Scores are products without a sigmoid, which ranks the same, of the current parameters.
    """

    parameters_class = SLMRecParameters
    paper = Paper(
        title="Self-supervised Learning for Multimedia Recommendation",
        authors="Zhulin Tao, Xiaohao Liu, Yewei Xia, Xiang Wang, Lifang Yang, Xianglin Huang, "
        "Tat-Seng Chua",
        venue="IEEE TMM",
        year=2022,
        link="https://doi.org/10.1109/TMM.2022.3187556",
    )
    uses_negatives = False
    loss_names = ("recommendation", "alignment")
    step_capture = StepCapture.STAGE

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        width = self.hyperparameters.embedding_size
        for matrix in self.features:
            matrix.data = functional.normalize(rescaled_rows(matrix.data))
        self.user_embedding = xavier_table(self.n_users, width)
        self.item_embedding = xavier_table(self.n_items, width)
        self.projections = nn.ModuleList(_layer(matrix.shape[1], width) for matrix in self.features)
        views = 1 + len(self.modalities)
        self.user_fusion = nn.Linear(views * width, width)
        self.item_fusion = nn.Linear(views * width, width)
        half = max(width // 2, 1)
        self.id_head = _layer(width, width)
        self.first_head = _layer(width, width)
        later = self.modalities[1:]
        self.coarse_heads = nn.ModuleList(
            nn.Sequential(_layer(width, width), _layer(width, half)) for _ in later
        )
        self.later_heads = nn.ModuleList(_layer(width, half) for _ in later)
        self.interaction_graph = InteractionGraph(self.interactions)

    def views(self) -> tuple[Tensor, Tensor]:
        """Return users [U, 1 + M, d] and items [I, 1 + M, d]: the ids' view, then the modalities'.

        All views share the users' table; they travel side by side in one product.
        """
        inputs = [self.item_embedding, *self.project_features(self.projections)]
        items = torch.cat(inputs, dim=1)
        users = self.user_embedding.repeat(1, len(inputs))
        layers = self.hyperparameters.interaction_layers
        users, items = light_gcn(self.interaction_graph, users, items, layers)
        return users.view(len(users), len(inputs), -1), items.view(len(items), len(inputs), -1)

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """Return the ranking loss and the weighted alignment, two scalars."""
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        all_users, all_items = self.views()
        item_views = all_items[item]
        users = self.user_fusion(all_users[user].flatten(1))
        items = self.item_fusion(item_views.flatten(1))
        ranking = info_nce(users, items, items, self.hyperparameters.temperature).mean()
        alignment = self._alignment(item_views, self.modality_mask[item])
        return ranking, self.hyperparameters.ssl_weight * alignment

    def _alignment(self, views: Tensor, present: Tensor) -> Tensor:
        """Return the alignment of the batch's views [B, 1 + M, d] with the presence [B, M]."""
        anchors = self.id_head(views[:, 0])
        total = self._cross_entropy(anchors, self.first_head(views[:, 1]), present[:, 0])
        heads = zip(self.coarse_heads, self.later_heads, strict=True)
        for m, (coarse_head, head) in enumerate(heads, start=1):
            total = total + self._cross_entropy(
                coarse_head(anchors), head(views[:, 1 + m]), present[:, m]
            )
        return total

    def _cross_entropy(self, anchors: Tensor, targets: Tensor, present: Tensor) -> Tensor:
        anchors = anchors / self.hyperparameters.ssl_temperature
        agreement = (anchors * targets).sum(dim=1)
        return mean_over(log_sum_exp_of_products(anchors, targets, present) - agreement, present)

    def content_path(self, raw: Sequence[Tensor]) -> ContentPath:
        """Return how an item's row follows from its contents; see `MultimodalRecommender`."""
        tables = layer_tables("fusion", self.item_fusion)
        for m, projection in enumerate(self.projections):
            tables |= layer_tables("output", projection, m)
        layers = self.hyperparameters.interaction_layers
        return ContentPath("slmrec", self.modalities, {"layers": layers}, tables)

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return users [U, d] and items [I, d]."""
        users, items = self.views()
        return self.user_fusion(users.flatten(1)), self.item_fusion(items.flatten(1))


def _layer(inputs: int, outputs: int) -> nn.Linear:
    return linear_projection(inputs, outputs, nn.init.xavier_uniform_)
