"""VBPR: visual Bayesian personalised ranking, with the content of any modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recbole_margo.model.base import MultimodalRecommender, StepCapture
from recbole_margo.model.paper import Paper
from recbole_margo.model.parameters import MultimodalParameters, hyperparameter
from recbole_margo.nn.content_path import ContentPath, layer_tables
from recbole_margo.nn.losses import PENALTIES, bpr_loss, embedding_penalty
from recbole_margo.nn.projection import linear_projection, xavier_table
from recbole_margo.nn.propagation import select_rows


@dataclass(frozen=True, kw_only=True)
class VBPRParameters(MultimodalParameters):
    """Hyper-parameters of VBPR."""

    reg_weight: float = hyperparameter(
        "lambda, weight of the penalty on the embeddings of a batch",
        low=0.0,
        search=[2.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5],
    )
    penalty: str = hyperparameter(
        "norm in the penalty: as the published numbers, or as the paper", choices=PENALTIES
    )


class VBPR(MultimodalRecommender):
    r"""Adds to an item's own embedding a projection of all its raw features.

    .. math:: r_{ui} = \langle p_u, [q_i \,\|\, W [F_1 \| \dots \| F_M]_i + b] \rangle, \qquad
        L = L_{bpr} + \lambda\, \mathrm{penalty}(p_u, e_i, e_j)

    with p_u [2d] and q_i [d].

    Source: He, McAuley, "VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback",
    AAAI 2016, the preference predictor and its BPR training.

    Departures from the paper:
        - All modalities side by side instead of images alone; no item bias and no visual bias, as
          in the implementation behind the published multimodal comparisons.
        - `penalty: frobenius` is that implementation's norm, not squared; `squared` the paper's.
        - An item that misses a modality has zeros in its place, one that misses all has no
          projected part.
    """

    parameters_class = VBPRParameters
    paper = Paper(
        title="VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback",
        authors="Ruining He, Julian McAuley",
        venue="AAAI",
        year=2016,
        link="https://arxiv.org/abs/1510.01784",
    )
    loss_names = ("recommendation", "regularization")
    step_capture = StepCapture.STAGE

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        width = self.hyperparameters.embedding_size
        self.user_embedding = xavier_table(self.n_users, 2 * width)
        self.item_embedding = xavier_table(self.n_items, width)
        feature_size = sum(matrix.shape[1] for matrix in self.features)
        self.projection = linear_projection(feature_size, width, nn.init.xavier_normal_)
        nn.init.zeros_(self.projection.bias)

    def item_embeddings(self, items: Tensor) -> Tensor:
        """Return [q_i || projected content] [B, 2d] of items [B]."""
        present = self.modality_mask[items]
        content = [
            select_rows(matrix, items) * present[:, m : m + 1]
            for m, matrix in enumerate(self.features)
        ]
        projected = self.projection(torch.cat(content, dim=1)) * present.any(dim=1, keepdim=True)
        own = select_rows(self.item_embedding, items)
        return torch.cat([own, projected.to(own.dtype)], dim=1)

    @property
    def shares_batches(self) -> bool:
        """Whether the loss is a mean over the rows of a batch, see `MultimodalRecommender`."""
        return bool(self.hyperparameters.penalty == "squared")

    def score_blocks(self) -> tuple[tuple[str, int], ...]:
        """Return a block of d columns for the ids and one for the contents together."""
        return ("id", self.item_embedding.shape[1]), ("content", self.item_embedding.shape[1])

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """Return the ranking loss and the weighted penalty, two scalars."""
        user, positive, negative = self.triplets(interaction)
        users = select_rows(self.user_embedding, user)
        positives, negatives = self.item_embeddings(positive), self.item_embeddings(negative)
        ranking = bpr_loss((users * positives).sum(dim=1), (users * negatives).sum(dim=1))
        penalty = embedding_penalty(self.hyperparameters.penalty, users, positives, negatives)
        return ranking, self.hyperparameters.reg_weight * penalty

    def content_path(self, raw: Sequence[Tensor]) -> ContentPath:
        """Return how an item's row follows from its contents; see `MultimodalRecommender`."""
        return ContentPath("vbpr", self.modalities, tables=layer_tables("output", self.projection))

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return users [U, 2d] and items [I, 2d]."""
        items = torch.arange(self.n_items, device=self.item_embedding.device)
        return self.user_embedding, self.item_embeddings(items)
