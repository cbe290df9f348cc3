"""The progress of one training stage, and when it ends."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class StageProgress:
    """How far a stage of training has come; plain values, so that a checkpoint can hold it.

    Args:
        name: name of the stage.
        epochs: epochs trained so far.
        best_epoch: epoch (from 0) with the best validation score; -1 before the first.
        best_score: best unrounded validation score; none before the first.
        best_result: all unrounded validation metrics of that epoch.
        waited: validations since the best one.
        seconds: time spent in training and validation.
        finished: whether the stage is over.
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
        """Take in the validation of the epoch trained last.

        Args:
            score: unrounded value of the validation metric.
            result: all unrounded metrics.
            bigger_is_better: direction of the metric.
            patience: validations without improvement that are borne; one more ends the stage.

        Returns:
            Whether the score is the best so far.
        """
        better = self.improves(score, bigger_is_better)
        if better:
            self.best_epoch, self.best_score, self.best_result = self.epochs - 1, score, result
            self.waited = 0
        else:
            self.waited += 1
            self.finished = self.waited > patience
        return better

    def as_plain(self) -> dict[str, Any]:
        """Return the fields as a plain mapping."""
        return asdict(self)
