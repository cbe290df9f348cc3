"""Training steps as a CUDA graph: captured once, then launched as a whole.

A step is some hundred kernels of a few microseconds each, which the host cannot launch as fast as
the card runs them. A captured step is launched by one call, with the same kernels on the same
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import getLogger
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

from recbole_margo.errors import ConfigError
from recbole_margo.model.base import MultimodalRecommender, StepCapture

# Steps of a stage that run before the capture: torch and its libraries prepare themselves in them.
WARM_UP_STEPS = 3

# Takes a batch, moves the parameters, and returns the loss terms [T] without their gradients.
Step = Callable[[Any], Tensor]
# Name, shape and type of each column of a batch.
Form = tuple[tuple[str, torch.Size, torch.dtype], ...]


def obstacle(trainer: Any) -> str | None:
    """Return why the steps of a `MultimodalTrainer` cannot be captured, or None if they can."""
    model: MultimodalRecommender = trainer.model
    clipping = trainer.clip_grad_norm or {}
    if trainer.device.type != "cuda":
        return "it trains without a CUDA device"
    if model.step_capture is StepCapture.NEVER:
        return f"the step of {type(model).__name__} with these settings is not made for it"
    if trainer.processes.count > 1:
        return "several processes share its batches"
    if type(trainer.optimizer) not in (Adam, AdamW):
        return f"the optimiser is {type(trainer.optimizer).__name__}, not Adam or AdamW"
    if trainer.enable_amp or trainer.enable_scaler or clipping.get("error_if_nonfinite"):
        return "mixed precision or `error_if_nonfinite` looks at numbers in every step"
    return None


def as_configured(trainer: Any, step: Step, captured: CapturedSteps) -> Step:
    """Return what takes a step of the coming epoch as `cuda_graphs` says: auto, true or false.

    Raises:
        ConfigError: if it is true and the steps cannot be captured.
    """
    wanted = trainer.config["cuda_graphs"]
    reason = None if wanted is False else obstacle(trainer)
    if wanted is True and reason is not None:
        raise ConfigError(f"`cuda_graphs: true` cannot be followed: {reason}; set it to auto")
    if wanted is False or reason is not None:
        return step
    captured.begin_epoch(trainer.model.step_capture)
    return lambda batch: captured.take(step, batch)


class CapturedSteps:
    """Takes the steps of a stage, most of them by launching a graph.

    The first steps run one kernel after the other, and so does a batch of another size, such as the
    last of an epoch. All of them are steps of the training: none is repeated or thrown away.

    Args:
        optimizer: an Adam or AdamW of the stage; its learning rates may change between steps.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._eager_steps = WARM_UP_STEPS
        self._form: Form | None = None
        self._graph: _Graph | None = None
        self._refused = False
        # How many steps a graph took.
        self.launches = 0

    def begin_epoch(self, scope: StepCapture) -> None:
        """Prepare for an epoch."""
        if scope is StepCapture.EPOCH:
            self._graph = None
            self._eager_steps = max(self._eager_steps, 1)

    def take(self, step: Step, batch: Any) -> Tensor:
        """Take one step and return the loss terms [T], which the next step overwrites."""
        form = _form(batch)
        self._form = self._form or form
        if self._eager_steps > 0:
            self._eager_steps -= 1
            return _beside_the_default_stream(step, batch)
        if self._graph is None and form == self._form and not self._refused:
            self._capture(step, batch)
        if self._graph is None or form != self._form:
            return step(batch)
        self.launches += 1
        return self._graph.launch(batch)

    def _capture(self, step: Step, batch: Any) -> None:
        try:
            self._graph = _Graph(step, batch, self._optimizer)
        except RuntimeError as error:
            self._refused = True
            torch.cuda.synchronize()
            getLogger().warning(
                "The training step could not be captured as a CUDA graph and runs kernel by "
                f"kernel: {str(error).strip().partition(chr(10))[0][:200]}"
            )


class _Graph:
    """A captured step, the batch that it reads, and the learning rates that it takes."""

    def __init__(self, step: Step, batch: Any, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._batch = Interaction({name: x.clone() for name, x in batch.interaction.items()})
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        device = batch[next(iter(batch.interaction))].device
        self._rate_tensors = [torch.tensor(rate, device=device) for rate in self._rates]
        self._graph = torch.cuda.CUDAGraph()
        with self._capturable(), torch.cuda.graph(self._graph):
            self._terms = step(self._batch)

    @contextmanager
    def _capturable(self) -> Iterator[None]:
        """Let the optimiser read its learning rates on the device while it is captured."""
        groups = self._optimizer.param_groups
        before = [(group["lr"], group["capturable"]) for group in groups]
        for group, rate in zip(groups, self._rate_tensors, strict=True):
            group["lr"], group["capturable"] = rate, True
        try:
            yield
        finally:
            for group, (rate, capturable) in zip(groups, before, strict=True):
                group["lr"], group["capturable"] = rate, capturable

    def launch(self, batch: Any) -> Tensor:
        for place, group in enumerate(self._optimizer.param_groups):
            if group["lr"] != self._rates[place]:
                self._rates[place] = float(group["lr"])
                self._rate_tensors[place].fill_(self._rates[place])
        for name, column in self._batch.interaction.items():
            column.copy_(batch[name], non_blocking=True)
        self._graph.replay()
        return self._terms


def _form(batch: Any) -> Form:
    return tuple((name, x.shape, x.dtype) for name, x in batch.interaction.items())


def _beside_the_default_stream(step: Step, batch: Any) -> Tensor:
    """Take a step where a capture will take its own: what the step prepares belongs there."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        terms = step(batch)
    torch.cuda.current_stream().wait_stream(stream)
    return terms


@contextmanager
def products_in(precision: str, device: torch.device) -> Iterator[None]:
    """Let a GPU multiply float32 matrices in a precision, `highest` or, for TF32, `high`."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.set_float32_matmul_precision(before)
