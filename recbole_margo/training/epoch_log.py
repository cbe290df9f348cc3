"""Where the figures of an epoch go: the log, TensorBoard and Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from logging import DEBUG, INFO, Logger
from typing import Any

from recbole_margo.training.stages import StageProgress


class EpochLog:
    """Writes what happened in an epoch to every place that RecBole's trainers write to.

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
        self, stage: StageProgress, losses: Mapping[str, float], seconds: float, step: int
    ) -> None:
        """Write the mean losses and the model's figures of the epoch trained last.

        Args:
            stage: the stage.
            losses: mean of each loss term.
            seconds: time that training took.
            step: number of epochs over all stages.
        """
        figures = {f"loss/{name}": value for name, value in losses.items()} | stage.figures
        for name, value in figures.items():
            self.tensorboard.add_scalar(name, value, step)
        self.wandb.log_metrics(
            {"epoch": step, "train_step": step, "stage": stage.name, **figures}, head="train"
        )
        self._write(f"{stage.name} epoch {stage.epochs} train [{seconds:.1f}s]: {_shown(figures)}")

    def validated(
        self, stage: StageProgress, result: Mapping[str, float], seconds: float, step: int
    ) -> None:
        """Write the validation metrics of the epoch trained last; arguments as in `trained`."""
        for name, value in result.items():
            self.tensorboard.add_scalar(f"valid/{name}", value, step)
        self.wandb.log_metrics({**result, "valid_step": step}, head="valid")
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

    def _write(self, message: str) -> None:
        self.logger.log(self.level, message)


def _shown(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
