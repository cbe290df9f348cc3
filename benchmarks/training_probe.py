"""Times the parts of training steps from outside, in any trainer of RecBole's kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from time import perf_counter
from types import TracebackType
from typing import Any

from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from benchmarks.repeated_timing import now

PHASES = ("sampling", "forward", "backward", "optimizer")


class EnoughError(Exception):
    """Ends a training from inside when what was to be timed is done."""


@dataclass
class StepTimes:
    """When the parts of one step began and ended, in seconds.

    Attributes:
        begun: the batch is there, the forward pass begins.
        forward: it ended.
        backward: the gradients are there, the optimiser begins.
        optimizer: it ended.
    """

    begun: float
    forward: float = 0.0
    backward: float = 0.0
    optimizer: float = 0.0

    @property
    def inside(self) -> float:
        """Seconds in model and optimiser."""
        return self.optimizer - self.begun


class TrainingProbe:
    """Notes when each part of each step ends, while the context lasts.

    The forward pass is the call of `calculate_loss`, the optimiser's part lies between its hooks,
    the backward pass between the two; everything from one step to the next is sampling, moving the
    batch and bookkeeping. On CUDA each part is waited for, which makes a step longer.

    Args:
        model: the model that is trained.
        device: cpu or cuda.
        steps: after how many steps to end the training; none: not by steps.
        until: when to end it though fewer steps are done, on the clock `perf_counter`.
        least: how many steps are done in any case.
        one_epoch: whether to end when the model's second epoch begins.
        phases: whether to note steps at all; else only epochs.
    """

    def __init__(
        self,
        model: Any,
        device: str,
        steps: int | None = None,
        one_epoch: bool = False,
        phases: bool = True,
        until: float = inf,
        least: int = 1,
    ) -> None:
        self.model = model
        self.device = device
        self.limit = steps
        self.one_epoch = one_epoch
        self.phases = phases
        self.until, self.least = until, least
        self.steps: list[StepTimes] = []
        self.epochs: list[float] = []
        self._handles: list[Any] = []
        self._replaced: list[str] = []

    def __enter__(self) -> TrainingProbe:
        if self.phases:
            self._replace("calculate_loss", self._calculate_loss)
            self._handles = [
                register_optimizer_step_pre_hook(self._before_optimizer),
                register_optimizer_step_post_hook(self._after_optimizer),
            ]
        if hasattr(self.model, "begin_epoch"):
            self._replace("begin_epoch", self._begin_epoch)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        for handle in self._handles:
            handle.remove()
        for name in self._replaced:
            delattr(self.model, name)
        return isinstance(error, EnoughError)

    def _replace(self, name: str, wrapper: Callable[..., Any]) -> None:
        original = getattr(self.model, name)
        setattr(self.model, name, lambda *values: wrapper(original, *values))
        self._replaced.append(name)

    def _calculate_loss(self, original: Callable[..., Any], interaction: Any) -> Any:
        done = len(self.steps)
        if self.limit is not None and done >= self.limit:
            raise EnoughError
        if done >= self.least and perf_counter() > self.until:
            raise EnoughError
        step = StepTimes(now(self.device))
        losses = original(interaction)
        step.forward = now(self.device)
        self.steps.append(step)
        return losses

    def _begin_epoch(self, original: Callable[..., Any], epoch: int) -> None:
        self.epochs.append(now(self.device))
        if self.one_epoch and len(self.epochs) > 1:
            raise EnoughError
        original(epoch)

    def _before_optimizer(self, *_: Any) -> None:
        self.steps[-1].backward = now(self.device)

    def _after_optimizer(self, *_: Any) -> None:
        self.steps[-1].optimizer = now(self.device)

    def seconds_inside(self) -> float:
        """Return the seconds in model and optimiser over all steps."""
        return sum(step.inside for step in self.steps)

    def phase_times(self, warm_up: int = 1) -> list[dict[str, float]]:
        """Return the seconds of each phase of each step but the first ones.

        Args:
            warm_up: how many steps are left out, at least 1: what comes before the first step is
                done once an epoch.
        """
        return [
            {
                "sampling": step.begun - before.optimizer,
                "forward": step.forward - step.begun,
                "backward": step.backward - step.forward,
                "optimizer": step.optimizer - step.backward,
            }
            for before, step in zip(self.steps[warm_up - 1 :], self.steps[warm_up:], strict=False)
        ]
