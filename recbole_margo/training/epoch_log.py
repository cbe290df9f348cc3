"""Where the figures of an epoch go: the log, TensorBoard and Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from logging import DEBUG, INFO, Logger
from typing import Any

from recbole_margo.training.stages import StageProgress

VALIDATION_SCORE = "Vaild_score"  # as RecBole spells it


class EpochLog:
    """Writes what happened in an epoch to every place that RecBole's trainers write to.

    Names and steps are theirs, so that the curves of all models lie over each other; what they do
    not write has names of its own.

    Args:
        logger: the logger.
        tensorboard: RecBole's `SummaryWriter`.
        wandb: RecBole's `WandbLogger`.
    """

    def __init__(self, logger: Logger, tensorboard: Any, wandb: Any) -> None:
        self.logger = logger
        self.tensorboard = tensorboard
        self.wandb = wandb
        self.level = INFO

    def set_verbose(self, verbose: bool) -> None:
        """Log epochs as information, or else only for debugging."""
        self.level = INFO if verbose else DEBUG

    def trained(
        self,
        stage: StageProgress,
        losses: Mapping[str, float],
        seconds: float,
        epoch: int,
        batches: int,
    ) -> None:
        """Write the losses and the model's figures of the epoch trained last.

        Curves of RecBole's trainers hold sums over the batches, by the number of the term.

        Args:
            stage: the stage.
            losses: mean of each loss term.
            seconds: time that training took.
            epoch: number of the epoch over all stages, from 0.
            batches: batches of the epoch.
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
        self._write(f"{stage.name} epoch {stage.epochs} train [{seconds:.1f}s]: {_shown(figures)}")

    def validated(
        self,
        stage: StageProgress,
        result: Mapping[str, float],
        score: float,
        seconds: float,
        epoch: int,
        validation: int,
    ) -> None:
        """Write the validation metrics of the epoch trained last.

        Args:
            stage: the stage.
            result: the metrics.
            score: that one of them which decides.
            seconds: time that validation took.
            epoch: number of the epoch over all stages, from 0.
            validation: number of the validation over all stages, from 0.
        """
        self.tensorboard.add_scalar(VALIDATION_SCORE, score, epoch)
        for name, value in result.items():
            self.tensorboard.add_scalar(f"valid/{name}", value, epoch)
        self.wandb.log_metrics({**result, "valid_step": validation}, head="valid")
        place = "best so far" if stage.waited == 0 else f"{stage.waited} since the best"
        self._write(
            f"{stage.name} epoch {stage.epochs} valid [{seconds:.1f}s]: {_shown(result)} ({place})"
        )

    def stage_ended(self, stage: StageProgress, metric: str) -> None:
        """Write when a stage ended and which epoch was its best.

        Args:
            stage: the stage.
            metric: name of the validation metric.
        """
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

    def _write(self, message: str) -> None:
        self.logger.log(self.level, message)


def _shown(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
