"""MARGO: modality reliability guided multimodal recommendation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from recbole_margo.errors import CheckpointError
from recbole_margo.evidence.item_reliability import ItemReliability
from recbole_margo.model.backbone import BACKBONES, LateFusionRecommender
from recbole_margo.model.base import FROZEN_EPOCHS, StepCapture
from recbole_margo.model.margo_parameters import MARGOParameters
from recbole_margo.model.paper import Paper
from recbole_margo.model.reliability_statistics import ReliabilityStatistics
from recbole_margo.nn.losses import (
    bpr_loss,
    calibration_loss,
    confidence,
    mean_square,
    reliability_vector,
)
from recbole_margo.nn.projection import log_modality_weights, modality_scores, spread_of_differences
from recbole_margo.nn.propagation import select_rows

BACKBONE_STAGE = "stage1"
RELIABILITY_STAGE = "stage2"


class MARGO(LateFusionRecommender):
    r"""Weighs each item's modalities by how far they can be trusted.

    .. math:: r_{ui} = \sum_m w_i^m \langle e_u^m, e_i^m \rangle, \qquad
        w_i = \mathrm{softmax}_m(W_i)

    Stage 1 trains the backbone with the plain sum of the modality scores,
    :math:`L_1 = L_{bpr} + \lambda R`. Stage 2 starts from its best epoch, with new W and a new
    optimiser, and trains everything with

    .. math:: L_2 = L_{bpr} + \alpha L_{cal} + \lambda R + \beta\, \mathrm{mean}(W^2)

    The calibration loss (`recbole_margo.nn.losses.calibration_loss`) supervises the weights with
    the modality reliability vector; no gradient flows into that vector or its confidence.

    With `score_scale` :math:`\rho`, which the paper does not have, the losses of both stages see
    :math:`\rho r_{ui}^m` wherever the paper has :math:`r_{ui}^m`: in the ranking loss, in the
    reliability vector and in its confidence. Rankings do not see it.

    A trainer that knows no stages (RecBole's plain `Trainer`) trains stage 2's objective from the
    first epoch, the ablation "w/o two-stage"; a warning says so.

    Source: Dong, Song, Zheng, Zhao, Ding, "Modality Reliability Guided Multimodal Recommendation",
    arXiv 2504.16524, 2025; Eq. 1-10 and Algorithm 1.

    Departures from the paper:
        - L_cal compares with (w_i + w_j) / 2, a distribution: the value shifts by c ln 2, the
          gradient does not change.
        - A triplet in which no modality supports the pair has confidence 0; the paper leaves its
          reliability vector undefined. With it the gradients of the ranking and the calibration
          loss on the weights never conflict (section III-D), for every triplet.
        - An item that misses a modality has weight 0 for it, and the modality is left out of the
          reliability vector of every pair with that item. An item that misses every modality has
          uniform weights.
        - `beta`, the weight of W's penalty, has its own value, 0 by default. The text after Eq. 10
          counts W among the regularised parameters, so that the paper most likely takes lambda.
        - The backbone is exchangeable (`backbone`), its departures are listed in its own class.
        - `evidence_scale: standardized` divides d^m of Eq. 5 by its root mean square over random
          triplets, taken anew before each epoch, so that no modality speaks louder than another for
          having larger scores. Held-out evidence has its own scale.
        - `keep_optimizer` and `weight_warmup_epochs` soften the start of stage 2, where a new
          optimiser moves every parameter by its learning rate a step. During the warm-up the
          optimiser gathers its averages of the backbone's gradients. Both need a stage 1.
        - Natural logarithm in the ranking loss; DRAGON's public code takes log2.
        - `evidence: held_out` supervises the weights of an item with its own reliability vector
          (`ItemReliability`) in place of the triplet's: the backbone, from whose scores Eq. 5-6
          take it, has learned bad rows by heart (docs/reliability.md), and a triplet says as much
          of the other item. L_cal is then :math:`\tfrac{c}{2} [KL(z_i \| w_i) + KL(z_j \| w_j)]`,
          without the part of an item of which nothing is known; the confidence stays that of the
          weighted scores. The gradients may conflict.
    """

    difference_spread: Tensor
    parameters_class = MARGOParameters
    paper = Paper(
        title="Modality Reliability Guided Multimodal Recommendation",
        authors="Xue Dong, Xuemeng Song, Na Zheng, Sicheng Zhao, Guiguang Ding",
        venue="arXiv",
        year=2025,
        link="https://arxiv.org/abs/2504.16524",
    )
    other_parameter_name = ("stage",)
    first_stage_settings: ClassVar[Mapping[str, Any]] = {
        "item_weights": False,
        "alpha": 1.0,
        "tau": 1.0,
        "beta": 0.0,
        "weight_learning_rate": None,
        "weight_init_std": 0.01,
        "stop_gradient": True,
        "evidence": "trained",
        "evidence_temperature": 1.0,
        "evidence_scale": "raw",
        "weight_warmup_epochs": 0,
    }

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        parameters = self.hyperparameters
        self.backbone = BACKBONES[parameters.backbone](
            self.backbone_inputs, parameters, self.item_neighbor_search
        )
        self.weight_logits = nn.Parameter(
            torch.empty(self.n_items, len(self.modalities)), requires_grad=parameters.item_weights
        )
        self._draw_weight_logits()
        self.held_out: ItemReliability | None = None
        if parameters.evidence == "held_out" and RELIABILITY_STAGE in self.training_stages:
            self.held_out = ItemReliability(
                self.interactions,
                self.features,
                self.modality_mask,
                parameters.evidence_temperature,
            )
        # sigma of Eq. 5's differences [M], of the current epoch; written in place, for CUDA graphs.
        self.register_buffer("difference_spread", torch.ones(len(self.modalities)), False)
        self.stage = self.training_stages[-1]
        self._stage_begun = False
        self._statistics = ReliabilityStatistics()
        # Sees every batch of stage 2: item ids [B], negative item ids [B] and their scores [B, M].
        self.on_triplets: Callable[[Tensor, Tensor, Tensor, Tensor], None] | None = None

    @classmethod
    def stages_of(cls, parameters: MARGOParameters) -> tuple[str, ...]:
        """Return the stages that the ablation switches leave."""
        if not parameters.item_weights:
            return (BACKBONE_STAGE,)
        if not parameters.two_stage:
            return (RELIABILITY_STAGE,)
        return (BACKBONE_STAGE, RELIABILITY_STAGE)

    @property
    def loss_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of what `calculate_loss` returns in the current stage."""
        if self.stage == BACKBONE_STAGE:
            return ("recommendation", "regularization")
        return ("recommendation", "calibration", "regularization")

    def _draw_weight_logits(self) -> None:
        nn.init.normal_(self.weight_logits, std=self.hyperparameters.weight_init_std)

    @property
    def step_capture(self) -> StepCapture:
        """Captured for a stage, unless somebody listens to every batch."""
        return StepCapture.STAGE if self.on_triplets is None else StepCapture.NEVER

    def resume_stage(self, stage: str) -> None:
        """Go on with a stage that an interrupted run began."""
        self.stage = stage
        self._stage_begun = True

    def load_other_parameter(self, para: dict[str, Any] | None) -> None:
        """Load the stage that a checkpoint is of, which is one of the two."""
        stage = (para or {}).get("stage", RELIABILITY_STAGE)
        if stage not in (BACKBONE_STAGE, RELIABILITY_STAGE):
            raise CheckpointError(
                f"expected a checkpoint of {BACKBONE_STAGE} or {RELIABILITY_STAGE} of MARGO, found "
                f"one of {stage!r:.40}"
            )
        super().load_other_parameter(para)

    def begin_stage(self, stage: str) -> None:
        """Start a stage; the second begins with newly drawn weight logits."""
        self.resume_stage(stage)
        if stage == RELIABILITY_STAGE:
            with torch.no_grad():
                self._draw_weight_logits()

    @property
    def keeps_optimizer(self) -> bool:
        """Whether the next stage goes on with the optimiser's state of this one."""
        return bool(self.hyperparameters.keep_optimizer) and self.stage == BACKBONE_STAGE

    def begin_epoch(self, epoch: int) -> None:
        """Measure in what unit the trained evidence of the epoch is."""
        if self.stage == BACKBONE_STAGE or self.hyperparameters.evidence_scale == "raw":
            return
        training = self.training
        nn.Module.train(self, False)
        with torch.no_grad():
            self.difference_spread.copy_(self.evidence_unit(*self.embeddings()))
        nn.Module.train(self, training)

    def evidence_unit(self, users: Tensor, items: Tensor) -> Tensor:
        """Return what divides the differences of Eq. 5, sigma [M]; 1 for `evidence_scale: raw`.

        Args:
            users: embeddings of all users [U, M, d].
            items: embeddings of all items [I, M, d].
        """
        if self.hyperparameters.evidence_scale == "raw":
            return torch.ones_like(self.difference_spread)
        scale: float = self.hyperparameters.score_scale
        return scale * spread_of_differences(users, items, self.modality_mask)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return the backbone's parameters, and from stage 2 on the logits with their own rate."""
        of_backbone = [p for p in self.parameters() if p is not self.weight_logits]
        groups: list[dict[str, Any]] = [{"params": of_backbone, "lr": learning_rate}]
        if self.stage == RELIABILITY_STAGE:
            own_rate = self.hyperparameters.weight_learning_rate
            rate = learning_rate if own_rate is None else own_rate
            if self.hyperparameters.weight_warmup_epochs and len(self.training_stages) > 1:
                groups[0][FROZEN_EPOCHS] = self.hyperparameters.weight_warmup_epochs
            groups.append({"params": [self.weight_logits], "lr": rate})
        return groups

    def item_weights(self) -> Tensor:
        """Return the weight of each modality of each item, w [I, M]; rows sum to 1."""
        return log_modality_weights(self.weight_logits, self.modality_mask).exp()

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """Return the weighted loss terms that `loss_names` names, each a scalar."""
        self._warn_without_stages()
        user = interaction[self.USER_ID]
        positive, negative = interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID]
        users, items = self.embeddings(user, torch.cat([positive, negative]))
        positive_items, negative_items = items.chunk(2)
        with torch.autocast(device_type=users.device.type, enabled=False):
            scale = self.hyperparameters.score_scale
            positive_scores = scale * modality_scores(users, positive_items)
            negative_scores = scale * modality_scores(users, negative_items)
            penalty = self.hyperparameters.reg_weight * self.backbone.regularization(user)
            if self.stage == BACKBONE_STAGE:
                plain = bpr_loss(positive_scores.sum(dim=-1), negative_scores.sum(dim=-1))
                return plain, penalty
            ranking, calibration = self._weighted_losses(
                positive, negative, positive_scores, negative_scores
            )
            penalty = penalty + self.hyperparameters.beta * mean_square(self.weight_logits)
            return ranking, self.hyperparameters.alpha * calibration, penalty

    def _weighted_losses(
        self,
        positive: Tensor,
        negative: Tensor,
        positive_scores: Tensor,
        negative_scores: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return L_rec and L_cal of the triplets [B] with scores [B, M] of each modality."""
        if self.on_triplets is not None:
            scores = positive_scores.detach(), negative_scores.detach()
            self.on_triplets(positive, negative, *scores)
        positive_mask, negative_mask = self.modality_mask[positive], self.modality_mask[negative]
        positive_log_weights = log_modality_weights(
            select_rows(self.weight_logits, positive), positive_mask
        )
        negative_log_weights = log_modality_weights(
            select_rows(self.weight_logits, negative), negative_mask
        )
        ranking, calibration, trust = self.weighted_losses(
            positive_log_weights,
            negative_log_weights,
            positive_scores,
            negative_scores,
            positive_mask & negative_mask,
            self.held_out_evidence(positive, negative),
        )
        self._statistics.add(trust)
        return ranking, calibration

    def weighted_losses(
        self,
        positive_log_weights: Tensor,
        negative_log_weights: Tensor,
        positive_scores: Tensor,
        negative_scores: Tensor,
        usable: Tensor,
        held_out: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return L_rec (Eq. 4 with Eq. 3's scores) and L_cal (Eq. 5-8) as functions of the weights.

        Args:
            positive_log_weights: log w_i [B, M].
            negative_log_weights: log w_j [B, M].
            positive_scores: r_ui^m [B, M].
            negative_scores: r_uj^m [B, M].
            usable: which modalities both items have [B, M], bool.
            held_out: what `held_out_evidence` returns.

        Returns:
            L_rec and L_cal, two scalars without their factors, and the confidence c [B].
        """
        positive_score = (positive_log_weights.exp() * positive_scores).sum(dim=-1)
        negative_score = (negative_log_weights.exp() * negative_scores).sum(dim=-1)
        if held_out is None:
            differences = positive_scores - negative_scores
            if self.hyperparameters.evidence_scale == "standardized":
                differences = differences / self.difference_spread
            vector, reliable = reliability_vector(differences, usable)
            logs = positive_log_weights, negative_log_weights
        else:
            # Each of the two items against its own weights: twice as many comparisons.
            vector, reliable = held_out[0].flatten(0, 1), held_out[1].any(dim=0)
            logs = (torch.cat([positive_log_weights, negative_log_weights]),) * 2
        trust = confidence(positive_score, negative_score, reliable, self.hyperparameters.tau)
        if self.hyperparameters.stop_gradient:
            vector, trust = vector.detach(), trust.detach()
        counts = trust if held_out is None else (trust * held_out[1]).flatten()
        calibration = calibration_loss(vector, counts, *logs)
        return bpr_loss(positive_score, negative_score), calibration, trust

    def held_out_evidence(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the items' own reliability vectors [2, B, M] and which are known [2, B].

        None where the weights are supervised by the trained backbone.
        """
        if self.held_out is None:
            return None
        vectors, known = self.held_out(torch.stack([positive, negative]))
        return vectors, known

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return users [U, M * d] and weighted items [I, M * d]; stage 1 scores by the sum."""
        users, items = self.embeddings()
        if self.stage == RELIABILITY_STAGE:
            items = items * self.item_weights().unsqueeze(-1)
        return users.flatten(1), items.flatten(1)

    def epoch_statistics(self) -> dict[str, float]:
        """Return mean and spread of the weights and what the confidence was, in stage 2."""
        if self.stage == BACKBONE_STAGE:
            return {}
        with torch.no_grad():
            weights = self.item_weights()
        return self._statistics.pop(weights, self.modality_mask, self.modalities)

    def _table_state(self) -> Any:
        return self.stage, super()._table_state()

    def _warn_without_stages(self) -> None:
        if self._stage_begun or not self.training:
            return
        self._stage_begun = True
        if len(self.training_stages) > 1:
            self.logger.warning(
                "MARGO is trained by a trainer without stages: the weights are learned from the "
                "first epoch (the ablation 'w/o two-stage'), early stopping compares rounded "
                "scores and the run cannot be resumed exactly. Call recbole_margo.register() and "
                "let RecBole's get_trainer choose, or use run_recbole_margo, for both stages."
            )
