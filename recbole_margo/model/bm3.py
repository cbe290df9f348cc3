"""BM3: bootstrapped latent representations, without negative samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_margo.graph.bipartite import InteractionGraph
from recbole_margo.model.base import MultimodalRecommender, StepCapture
from recbole_margo.model.paper import Paper
from recbole_margo.model.parameters import MultimodalParameters, hyperparameter
from recbole_margo.nn.losses import PENALTIES, embedding_penalty, mean_over
from recbole_margo.nn.projection import linear_projection, xavier_table
from recbole_margo.nn.propagation import light_gcn, select_rows


@dataclass(frozen=True, kw_only=True)
class BM3Parameters(MultimodalParameters):
    """Hyper-parameters of BM3."""

    interaction_layers: int = hyperparameter(
        "products with the interaction graph", low=0, search=[1, 2]
    )
    dropout: float = hyperparameter(
        "share of a target's entries that are left out", low=0.0, high=0.99, search=[0.3, 0.5]
    )
    reg_weight: float = hyperparameter(
        "lambda, weight of the penalty on all nodes", low=0.0, search=[0.1, 0.01]
    )
    modality_loss_weight: float = hyperparameter(
        "weight of the alignments with and within the modalities", low=0.0, paper=2.0
    )
    penalty: str = hyperparameter(
        "norm in the penalty: as the published numbers, or as the paper", choices=PENALTIES
    )


class BM3(MultimodalRecommender):
    r"""Aligns users, items and modalities with perturbed copies of each other.

    .. math:: r_{ui} = \langle h(e_u), h(e_i) \rangle, \qquad
        [E_u ; E_i] = \mathrm{mean}_l\, \hat A^l [P ; Q] + [0 ; Q]

        L = C(h(e_u), \dot e_i) + C(h(e_i), \dot e_u) + \gamma \sum_m \big( C(h(f_i^m), \dot e_i) +
        C(h(f_i^m), \dot f_i^m) \big) + \lambda\, \mathrm{penalty}

    where h is one linear layer, f the projected features, C(x, y) = 1 - cos(x, y), and a dot marks
    a target: a constant, with dropout.

    Source: Zhou, Zhou, Liu, Zeng, Miao, Wang, You, Jiang, "Bootstrap Latent Representations for
    Multi-modal Recommendation", WWW 2023, its multi-modal contrastive loss.

    Departures from the paper:
        - `penalty: frobenius` is the public code's norm of all users and of all items, not squared,
          divided by the number of items; `squared` takes half the squared norms instead.
        - A pair whose item misses a modality is left out of that modality's alignments.
    """

    parameters_class = BM3Parameters
    paper = Paper(
        title="Bootstrap Latent Representations for Multi-modal Recommendation",
        authors="Xin Zhou, Hongyu Zhou, Yong Liu, Zhiwei Zeng, Chunyan Miao, Pengwei Wang, "
        "Yuan You, Feijun Jiang",
        venue="WWW",
        year=2023,
        link="https://arxiv.org/abs/2207.05969",
    )
    uses_negatives = False
    loss_names = ("recommendation", "modalities", "regularization")
    step_capture = StepCapture.STAGE

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        width = self.hyperparameters.embedding_size
        self.user_embedding = xavier_table(self.n_users, width)
        self.item_embedding = xavier_table(self.n_items, width)
        self.projections = nn.ModuleList(
            linear_projection(matrix.shape[1], width, nn.init.xavier_normal_)
            for matrix in self.features
        )
        self.predictor = linear_projection(width, width, nn.init.xavier_normal_)
        self.interaction_graph = InteractionGraph(self.interactions)

    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Return users [U, d] and items [I, d], before the predictor."""
        users, items = light_gcn(
            self.interaction_graph,
            self.user_embedding,
            self.item_embedding,
            self.hyperparameters.interaction_layers,
        )
        return users, items + self.item_embedding

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the alignment of users with items, those of the modalities and the penalty."""
        user, item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        user_table, item_table = self.embeddings()
        users = select_rows(user_table, user)
        items = select_rows(item_table, item)
        item_target = self._target(items)
        alignment = (
            _distance(self.predictor(users), item_target).mean()
            + _distance(self.predictor(items), self._target(users)).mean()
        )
        terms = []
        for m, content in enumerate(self.project_features(self.projections, item)):
            online, present = self.predictor(content), self.modality_mask[item, m]
            terms.append(mean_over(_distance(online, item_target), present))
            terms.append(mean_over(_distance(online, self._target(content)), present))
        # PAD is no item; the penalty is per item, not per row of the batch.
        penalty = embedding_penalty(self.hyperparameters.penalty, item_table[1:], user_table[1:])
        return (
            alignment,
            self.hyperparameters.modality_loss_weight * torch.stack(terms).sum(),
            self.hyperparameters.reg_weight * penalty,
        )

    def _target(self, embeddings: Tensor) -> Tensor:
        return functional.dropout(
            embeddings.detach(), self.hyperparameters.dropout, training=self.training
        )

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return users [U, d] and items [I, d], after the predictor."""
        users, items = self.embeddings()
        return self.predictor(users), self.predictor(items)


def _distance(online: Tensor, target: Tensor) -> Tensor:
    return 1 - functional.cosine_similarity(online.float(), target.float(), dim=-1)
