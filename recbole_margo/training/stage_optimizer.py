"""The optimiser of a stage: what it takes over from the stage before, and its learning rates."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from recbole_margo.model.base import FROZEN_EPOCHS, MultimodalRecommender


def moments_by_name(
    model: MultimodalRecommender, optimizer: Optimizer
) -> dict[str, dict[str, Any]]:
    """Return a copy of what an optimiser keeps of each parameter, such as Adam's averages."""
    names = _names(model)
    return {names[parameter]: copy.deepcopy(kept) for parameter, kept in optimizer.state.items()}


def with_moments(
    model: MultimodalRecommender, optimizer: Optimizer, moments: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return the state of a new optimiser as if it had kept some parameters' moments.

    Args:
        optimizer: the new optimiser; it stays as it is.
        moments: what `moments_by_name` returned; a parameter that is not there starts anew.
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
    """Return what sets the learning rates of each epoch, 0 for a group that is frozen in it.

    Args:
        model: says by which factor the rates fall.
        epochs_done: how many epochs of the stage are trained.
    """

    def factor(frozen_epochs: int, epoch: int) -> float:
        return 0.0 if epoch < frozen_epochs else model.learning_rate_factor(epoch)

    factors: list[Callable[[int], float]] = [
        partial(factor, group.get(FROZEN_EPOCHS, 0)) for group in optimizer.param_groups
    ]
    return LambdaLR(optimizer, factors, last_epoch=epochs_done - 1)


def _names(model: MultimodalRecommender) -> dict[Tensor, str]:
    return {parameter: name for name, parameter in model.named_parameters()}
