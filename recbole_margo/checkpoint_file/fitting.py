"""Whether a checkpoint's state fits the model and the optimiser that are to take it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recbole_margo.errors import CheckpointError

# What torch's optimisers keep for every parameter, where leaving one out is noticed too late.
KEPT = {
    "Adam": {"step", "exp_avg", "exp_avg_sq"},
    "AdamW": {"step", "exp_avg", "exp_avg_sq"},
    "SparseAdam": {"step", "exp_avg", "exp_avg_sq"},
    "Adagrad": {"step", "sum"},
    "RMSprop": {"step", "square_avg"},
}


def load_into(model: Any, stored: Any, others: Any, path: str | Path) -> None:
    """Give a model the parameters of a checkpoint, and what it keeps beside them.

    Args:
        stored: the checkpoint's `state_dict`.
        others: its `other_parameter`.

    Raises:
        CheckpointError: if they are of another model, or not finite; the model is as it was.
    """
    check_parameters(model, stored, path)
    known = getattr(model, "other_parameter_name", ())
    if others is not None and not isinstance(others, dict):
        raise CheckpointError(f"{path}, `other_parameter`: expected values by name")
    for name, value in (others or {}).items():
        present = getattr(model, name, None) if name in known else None
        plain = isinstance(present, (Tensor, str, int, float))
        other_kind = plain and not isinstance(value, type(present))
        other_size = isinstance(value, Tensor) and value.shape != getattr(
            present, "shape", value.shape
        )
        if name not in known or other_kind or other_size:
            raise CheckpointError(
                f"{path}, `other_parameter`: {name!r} is not what {type(model).__name__} keeps "
                "beside its parameters: load the checkpoint of the same model and data"
            )
    model.load_state_dict(stored)
    model.load_other_parameter(others)


def check_parameters(model: Any, stored: Any, path: str | Path, field: str = "state_dict") -> None:
    """Raise a `CheckpointError` that names a tensor of another model, or one that is not finite."""
    where = f"{path}, `{field}`"
    if not isinstance(stored, dict) or not all(isinstance(t, Tensor) for t in stored.values()):
        raise CheckpointError(f"{where}: expected tensors by name")
    present = model.state_dict()
    missing, foreign = (
        sorted(set(present) - set(stored)),
        sorted(map(str, set(stored) - set(present))),
    )
    if missing or foreign:
        raise CheckpointError(
            f"{where} is of another model than this {type(model).__name__}: it lacks "
            f"{', '.join(missing[:3]) or 'nothing'} and also holds "
            f"{', '.join(foreign[:3]) or 'nothing'}"
        )
    for name, own in present.items():
        found = stored[name]
        same_kind = found.is_floating_point() == own.is_floating_point()
        if found.shape != own.shape or not same_kind or found.is_complex() != own.is_complex():
            raise CheckpointError(
                f"{where}: expected {name} {tuple(own.shape)} of {own.dtype}, found "
                f"{tuple(found.shape)} of {found.dtype}: load the checkpoint of the same model, "
                "settings and data"
            )
        # A buffer may be infinite where the model made it so, such as a mask.
        if not _is_finite(found) and _is_finite(own):
            raise CheckpointError(
                f"{where}: {name} holds values that are not finite: the training that wrote it "
                "failed, or the file was changed; train again"
            )


def check_optimizer(optimizer: Any, stored: Mapping[str, Any], path: str | Path) -> None:
    """Refuse the state of an optimiser of other parameters.

    Args:
        stored: its `param_groups` and `state`, of the types that they should have.

    Raises:
        CheckpointError: says what differs.
    """
    parameters: dict[int, Tensor] = {}
    own_groups, groups = optimizer.param_groups, stored["param_groups"]
    fits = len(groups) == len(own_groups)
    for own, group in zip(own_groups, groups, strict=fits):
        fits = fits and len(own["params"]) == len(group["params"]) and _same_settings(own, group)
        if fits:
            parameters.update(zip(group["params"], own["params"], strict=True))
    fits = fits and len(parameters) == sum(len(own["params"]) for own in own_groups)
    if not fits or not set(stored["state"]) <= set(parameters):
        raise CheckpointError(
            f"{path}, `optimizer`: expected the state of {type(optimizer).__name__} for the "
            f"{len(parameters)} parameters of this model, found another"
        )
    kept = KEPT.get(type(optimizer).__name__, set())
    for place, entry in stored["state"].items():
        shape = parameters[place].shape
        if not kept <= set(entry) or not all(_fits(value, shape) for value in entry.values()):
            raise CheckpointError(
                f"{path}, `optimizer`: what it keeps for parameter {place} {tuple(shape)} lacks "
                "something, is of another shape or not finite: resume from another checkpoint"
            )


def _same_settings(own: Mapping[str, Any], stored: Mapping[str, Any]) -> bool:
    """Return whether the settings of a group have the kinds of values of our optimiser's."""
    return "lr" in stored and all(
        _same_kind(value, stored[name])
        for name, value in own.items()
        if name != "params" and name in stored
    )


def _same_kind(own: Any, stored: Any) -> bool:
    if isinstance(own, (tuple, list)):
        same = isinstance(stored, (tuple, list)) and len(own) == len(stored)
        return same and all(map(_same_kind, own, stored))
    if own is None or isinstance(own, bool):
        return stored is None or isinstance(stored, bool)
    if isinstance(own, (int, float)):
        number = isinstance(stored, (int, float)) and not isinstance(stored, bool)
        return number and math.isfinite(stored)
    return True


def _fits(value: Any, shape: torch.Size) -> bool:
    if isinstance(value, Tensor):
        return value.shape in (shape, torch.Size([])) and _is_finite(value)
    return value is None or (isinstance(value, (int, float)) and math.isfinite(value))


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
