"""DRAGON: dual representation learning on heterogeneous and homogeneous graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recbole_margo.model.backbone import DragonBackbone, LateFusionRecommender
from recbole_margo.model.base import StepCapture
from recbole_margo.model.paper import Paper
from recbole_margo.model.parameters import MultimodalParameters, hyperparameter
from recbole_margo.nn.losses import bpr_loss, mean_square
from recbole_margo.nn.projection import modality_scores


@dataclass(frozen=True, kw_only=True)
class DRAGONParameters(MultimodalParameters):
    """Hyper-parameters of DRAGON and of its backbone."""

    projection_size: int = hyperparameter("hidden width of the projections", low=1, paper=256)
    item_neighbors: int = hyperparameter(
        "neighbours of an item in a kNN graph, itself included", low=1, paper=10, search=[5, 10, 20]
    )
    item_graph_weights: dict[str, float] = hyperparameter(
        "weight of each modality in the item graph; `other` stands for those not named",
        paper={"text": 0.9, "image": 0.1},
    )
    item_graph_layers: int = hyperparameter("products with the item graph", low=1, paper=1)
    user_neighbors: int = hyperparameter(
        "co-users that a user keeps at most", low=0, paper=40, search=[10, 20, 40]
    )
    reg_weight: float = hyperparameter(
        "lambda, weight of the regulariser",
        low=0.0,
        paper=1e-3,
        search=[1e-5, 1e-4, 1e-3, 1e-2, 1e-1],
    )
    score_scale: float = hyperparameter(
        "factor on every score inside the losses, an inverse temperature; ranks stay as they are",
        low=1e-6,
        paper=1.0,
        search=(1 / 32, 4.0, "log"),
    )


class DRAGON(LateFusionRecommender):
    r"""Scores with modalities side by side, the user's weighted by learned factors.

    .. math:: r_{ui} = \sum_m \langle E_u^m, E_i^m \rangle, \qquad
        L = \mathrm{mean}_B \ln(1 + e^{-(r_{ui} - r_{uj})}) + \lambda \Big( \sum_m
        \mathrm{mean}\, P_m[u]^2 + \mathrm{mean}\, W_u^2 \Big)

    with :math:`\rho r` for :math:`r` in L if `score_scale` is :math:`\rho`, which the paper does
    not have. E is the backbone's, given the user weights W_u [U, M]: drawn from a normal
    distribution, passed once through a softmax, and free from then on.

    Source: Zhou, Zhou, Zhang, Shen, "Enhancing Dyadic Relations with Homogeneous Graphs for
    Multimodal Recommendation", ECAI 2023.

    Departures from the paper:
        - Natural logarithm; the public code takes log2, a constant factor of 1.4427 on the
          gradient of the ranking loss.
        - Scores at evaluation come from the current parameters; the public code keeps the tables
          of the last training batch.
        - Any number of modalities. The backbone's departures are listed in `DragonBackbone`.
    """

    parameters_class = DRAGONParameters
    paper = Paper(
        title="Enhancing Dyadic Relations with Homogeneous Graphs for Multimodal Recommendation",
        authors="Hongyu Zhou, Xin Zhou, Lingzi Zhang, Zhiqi Shen",
        venue="ECAI",
        year=2023,
        link="https://arxiv.org/abs/2301.12097",
    )
    loss_names = ("recommendation", "regularization")
    step_capture = StepCapture.STAGE

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.backbone = DragonBackbone(
            self.backbone_inputs, self.hyperparameters, self.item_neighbor_search
        )
        initial = nn.init.xavier_normal_(torch.empty(self.n_users, len(self.modalities), 1))
        self.user_weights = nn.Parameter(torch.softmax(initial.squeeze(-1), dim=1))

    @property
    def user_factors(self) -> Tensor:
        """W_u [U, M]."""
        return self.user_weights

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """Return the ranking loss and the weighted regulariser, two scalars."""
        user = interaction[self.USER_ID]
        both = torch.cat([interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID]])
        users, items = self.embeddings(user, both)
        positives, negatives = items.chunk(2)
        positive = modality_scores(users, positives).sum(dim=-1)
        negative = modality_scores(users, negatives).sum(dim=-1)
        penalty = self.backbone.regularization(user) + mean_square(self.user_weights)
        scale = self.hyperparameters.score_scale
        ranking = bpr_loss(scale * positive, scale * negative)
        return ranking, self.hyperparameters.reg_weight * penalty

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return users [U, M * d] and items [I, M * d]."""
        users, items = self.embeddings()
        return users.flatten(1), items.flatten(1)
