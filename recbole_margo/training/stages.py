"""A training stage: its optimiser, the losses of its epochs, its progress and its log."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from logging import INFO, Logger
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from recbole_margo.model.base import FROZEN_EPOCHS, MultimodalRecommender


@dataclass
class StageProgress:
    """How far a stage of training has come; plain values, so that a checkpoint can hold it.

    Args:
        epochs: epochs trained so far.
        best_epoch: epoch (from 0) with the best validation score; -1 before the first.
        best_score: best unrounded validation score; none before the first.
        best_result: all unrounded validation metrics of that epoch.
        waited: validations since the best one.
        seconds: time spent in training and validation.
        figures: what the model reported of its last epoch, by name.
    """

    name: str
    epochs: int = 0
    best_epoch: int = -1
    best_score: float | None = None
    best_result: dict[str, float] = field(default_factory=dict)
    waited: int = 0
    seconds: float = 0.0
    finished: bool = False
    figures: dict[str, float] = field(default_factory=dict)

    def improves(self, score: float, bigger_is_better: bool) -> bool:
        """Tell whether a validation score beats the best so far; a tie does not."""
        if math.isnan(score):
            return False
        if self.best_score is None:
            return True
        return score > self.best_score if bigger_is_better else score < self.best_score

    def record(
        self, score: float, result: dict[str, float], bigger_is_better: bool, patience: int
    ) -> bool:
        """Take in the validation of the epoch trained last; return whether it is the best so far.

        Args:
            score: unrounded value of the validation metric.
            patience: validations without improvement that are borne; one more ends the stage.
        """
        better = self.improves(score, bigger_is_better)
        if better:
            self.best_epoch, self.best_score, self.best_result = self.epochs - 1, score, result
            self.waited = 0
        else:
            self.waited += 1
            self.finished = self.waited > patience
        return better


def shortfall(stages: Sequence[StageProgress], bigger_is_better: bool) -> str | None:
    """Return a warning if the last stage stays behind the first on validation, else none."""
    first, last = stages[0], stages[-1]
    scores = first.best_score, last.best_score
    if len(stages) < 2 or scores[0] is None or scores[1] is None:
        return None
    if not last.improves(scores[0], bigger_is_better):
        return None
    return (
        f"No epoch of {last.name} reached the best validation score of {first.name} "
        f"({scores[1]:.4f} against {scores[0]:.4f}); the result is the best epoch of {last.name} "
        "all the same."
    )


CHECK_EVERY = 20


class EpochLosses:
    """Collects the loss terms of the batches and finds the first that is not a number."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._pending: list[Tensor] = []
        self._checked = 0
        self._totals = [0.0] * len(self.names)

    def add(self, terms: Sequence[Tensor]) -> bool:
        """Add the terms of one batch, a scalar per name; return whether `first_failure` is due."""
        self._pending.append(torch.stack([term.detach().float().reshape(()) for term in terms]))
        return len(self._pending) >= CHECK_EVERY

    def first_failure(self) -> tuple[int, str, float] | None:
        """Add up what is pending and return the first bad term as (batch, name, value), if any."""
        if not self._pending:
            return None
        for terms in torch.stack(self._pending).tolist():
            for index, (name, value) in enumerate(zip(self.names, terms, strict=True)):
                if value != value or value in (float("inf"), float("-inf")):
                    return self._checked, name, value
                self._totals[index] += value
            self._checked += 1
        self._pending = []
        return None

    def means(self) -> dict[str, float]:
        """Return the mean of each term over the batches checked so far."""
        batches = max(self._checked, 1)
        return {name: total / batches for name, total in zip(self.names, self._totals, strict=True)}


VALIDATION_SCORE = "Vaild_score"  # as RecBole spells it


class EpochLog:
    """Writes what happened in an epoch to every place that RecBole's trainers write to.

    Names and steps are theirs, so that the curves of all models lie over each other; what they do
    not write has names of its own.
    """

    def __init__(self, logger: Logger, tensorboard: Any, wandb: Any) -> None:
        self.logger = logger
        self.tensorboard = tensorboard
        self.wandb = wandb
        self.level = INFO  # of what is logged

    def trained(
        self,
        stage: StageProgress,
        losses: Mapping[str, float],
        seconds: float,
        epoch: int,
        batches: int,
    ) -> None:
        """Write the mean losses and the model's figures of the epoch trained last.

        Curves of RecBole's trainers hold sums over the batches, by the number of the term. Epochs
        are counted over all stages, from 0.
        """
        figures = {f"loss/{name}": value for name, value in losses.items()} | stage.figures
        total = sum(losses.values()) * batches
        scalars = {"Loss/Train": total, **figures}
        if len(losses) > 1:
            for index, mean in enumerate(losses.values()):
                scalars[f"Loss/Train{index}"] = mean * batches
        for name, value in scalars.items():
            self.tensorboard.add_scalar(name, value, epoch)
        values = {"epoch": epoch, "train_loss": total, "train_step": epoch, "stage": stage.name}
        self.wandb.log_metrics({**values, **figures}, head="train")
        self._write(
            f"{stage.name} epoch {stage.epochs} train [{seconds:.1f}s]: {_shown(figures)}",
            of_epoch=False,
        )

    def validated(
        self,
        stage: StageProgress,
        result: Mapping[str, float],
        score: float,
        seconds: float,
        epoch: int,
        validation: int,
    ) -> None:
        """Write the validation metrics of the epoch trained last, and the score that decides.

        Epochs and validations are counted over all stages, from 0.
        """
        self.tensorboard.add_scalar(VALIDATION_SCORE, score, epoch)
        for name, value in result.items():
            self.tensorboard.add_scalar(f"valid/{name}", value, epoch)
        self.wandb.log_metrics({**result, "valid_step": validation}, head="valid")
        place = "best so far" if stage.waited == 0 else f"{stage.waited} since the best"
        self._write(
            f"{stage.name} epoch {stage.epochs} valid [{seconds:.1f}s]: {_shown(result)} ({place})",
            of_epoch=True,
        )

    def stage_ended(self, stage: StageProgress, metric: str) -> None:
        """Write when a stage ended and which epoch was its best."""
        if stage.best_score is not None:
            self._write(
                f"{stage.name} ended after {stage.epochs} epochs; the best, epoch "
                f"{stage.best_epoch + 1}, had {metric} {stage.best_score:.4f}."
            )
        else:
            self._write(
                f"{stage.name} ended after {stage.epochs} epochs without a validation score; its "
                "last parameters are its result."
            )

    def _write(self, message: str, **marks: bool) -> None:
        self.logger.log(self.level, message, extra=marks)


def _shown(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())


def moments_by_name(
    model: MultimodalRecommender, optimizer: Optimizer
) -> dict[str, dict[str, Any]]:
    """Return a copy of what an optimiser keeps of each parameter, such as Adam's averages."""
    names = _names(model)
    return {names[parameter]: copy.deepcopy(kept) for parameter, kept in optimizer.state.items()}


def with_moments(
    model: MultimodalRecommender, optimizer: Optimizer, moments: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return the state of a new optimiser with what `moments_by_name` kept of parameters.

    A parameter of which nothing was kept starts anew.
    """
    names = _names(model)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[str, Any] = optimizer.state_dict()
    state["state"] = {
        **state["state"],
        **{
            place: moments[names[parameter]]
            for place, parameter in enumerate(parameters)
            if names[parameter] in moments
        },
    }
    return state


def rate_schedule(model: MultimodalRecommender, optimizer: Optimizer, epochs_done: int) -> LambdaLR:
    """Return what sets the learning rates of each epoch, as the model lets them fall.

    A group that is frozen in an epoch has the rate 0.
    """

    def factor(frozen_epochs: int, epoch: int) -> float:
        return 0.0 if epoch < frozen_epochs else model.learning_rate_factor(epoch)

    factors: list[Callable[[int], float]] = [
        partial(factor, group.get(FROZEN_EPOCHS, 0)) for group in optimizer.param_groups
    ]
    return LambdaLR(optimizer, factors, last_epoch=epochs_done - 1)


def _names(model: MultimodalRecommender) -> dict[Tensor, str]:
    return {parameter: name for name, parameter in model.named_parameters()}
