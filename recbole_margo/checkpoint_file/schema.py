"""What the checkpoints of our trainer hold, field by field."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from torch import Tensor

from recbole_margo.errors import CheckpointError

CHECKPOINT_FORMAT = 1
PAD = "[PAD]"
Check = Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_dict(value: Any, of_key: Check, of_value: Check) -> bool:
    return isinstance(value, dict) and all(of_key(k) and of_value(v) for k, v in value.items())


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided


def _is_numbers(value: Any) -> bool:
    return _is_dict(value, _is_text, _is_number)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return _is_dict(value, lambda key: type(key) in (str, int), _is_plain)
    return value is None or type(value) in (bool, int, float, str)


def _is_config(value: Any) -> bool:
    named = _is_dict(value, _is_text, _is_plain)
    return named and all(_is_text(value.get(name)) for name in ("model", "dataset"))


def _is_id_map(value: Any) -> bool:
    texts = isinstance(value, list) and all(map(_is_text, value))
    return texts and value[:1] == [PAD] and len(set(value)) == len(value)


def _is_score(value: Any) -> bool:
    return value is None or (_is_number(value) and math.isfinite(value))


# Of a stage's progress; `figures` is not in files of older versions.
STAGE: Mapping[str, Check] = {
    "name": _is_text,
    "epochs": _is_count,
    "best_epoch": lambda value: type(value) is int and value >= -1,
    "best_score": _is_score,
    "best_result": _is_numbers,
    "waited": _is_count,
    "seconds": lambda value: _is_number(value) and 0 <= value < math.inf,
    "finished": lambda value: type(value) is bool,
    "figures": _is_numbers,
}


def _is_stage(value: Any) -> bool:
    if (
        not isinstance(value, dict)
        or set(STAGE) - {"figures"} - set(value)
        or set(value) - set(STAGE)
    ):
        return False
    checked = all(STAGE[name](part) for name, part in value.items())
    return checked and value["best_epoch"] < max(value["epochs"], 1)


def _is_optimizer(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    groups, states = value.get("param_groups"), value.get("state")
    if not isinstance(groups, list) or not all(_is_group(group) for group in groups):
        return False
    return _is_dict(states, _is_count, lambda state: isinstance(state, dict))


def _is_group(value: Any) -> bool:
    named = isinstance(value, dict) and all(map(_is_text, value))
    return named and isinstance(value.get("params"), list) and all(map(_is_count, value["params"]))


# Field -> its check, and what is expected.
TRAINED: Mapping[str, tuple[Check, str]] = {
    "config": (_is_config, "settings by name, `model` and `dataset` among them"),
    "epoch": (lambda value: type(value) is int and value >= -1, "the last epoch, from -1"),
    "cur_step": (_is_count, "a count of validations"),
    "best_valid_score": (_is_score, "a finite score, or none"),
    "state_dict": (
        lambda value: _is_dict(value, _is_text, _is_tensor) and len(value) > 0,
        "tensors by name",
    ),
    "other_parameter": (
        lambda value: value is None or _is_dict(value, _is_text, lambda _: True),
        "values by name",
    ),
    "optimizer": (_is_optimizer, "`state` and `param_groups` of an optimiser"),
    "stages": (
        lambda value: isinstance(value, list) and len(value) > 0 and all(map(_is_stage, value)),
        "the progress of one stage or more",
    ),
    "split": (_is_text, "a fingerprint"),
    "modalities": (
        lambda value: isinstance(value, (list, tuple)) and all(map(_is_text, value)),
        "names",
    ),
    "feature_checksums": (lambda value: _is_dict(value, _is_text, _is_plain), "sums by modality"),
    "user_tokens": (_is_id_map, f"{PAD} and the users' tokens, none twice"),
    "item_tokens": (_is_id_map, f"{PAD} and the items' tokens, none twice"),
}


def check_format(state: Mapping[str, Any], path: Path) -> None:
    """Refuse a checkpoint of another format than ours, or of a newer one.

    Raises:
        CheckpointError: says which format it has.
    """
    if "format" not in state:
        raise CheckpointError(f"{path} is not a checkpoint of recbole-margo: it names no format")
    if type(state["format"]) is not int or state["format"] < 1:
        raise CheckpointError(
            f"{path}, `format`: expected a number from 1 to {CHECKPOINT_FORMAT}, found "
            f"{_short(state['format'])}"
        )
    if state["format"] > CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"{path} has format {state['format']}, this version reads up to {CHECKPOINT_FORMAT}: "
            "upgrade recbole-margo"
        )


def check_trained(state: Mapping[str, Any], path: Path) -> None:
    """Refuse a checkpoint of our trainer that does not hold what the trainer writes.

    Raises:
        CheckpointError: names the first field that is not as it should be.
    """
    check_format(state, path)
    for name, (is_right, expected) in TRAINED.items():
        if name not in state:
            raise CheckpointError(f"{path}: expected `{name}` ({expected}), found no such field")
        if not is_right(state[name]):
            raise CheckpointError(
                f"{path}, `{name}`: expected {expected}, found {_short(state[name])}"
            )
    epochs = state["stages"][-1]["epochs"]
    if state["epoch"] != epochs - 1:
        raise CheckpointError(
            f"{path}, `epoch`: expected {epochs - 1}, the last of the {epochs} epochs in `stages`, "
            f"found {state['epoch']}"
        )


def checked_config(state: Mapping[str, Any], path: Path) -> Any:
    """Return the config of a checkpoint of RecBole or ours that has the fields to be loaded.

    Returns:
        RecBole's `Config`, or of our checkpoints the settings.

    Raises:
        CheckpointError: names the field that is missing or wrong.
    """
    config = state.get("config")
    if not isinstance(config, Config):
        check_trained(state, path)
    elif not _is_dict(state.get("state_dict"), _is_text, _is_tensor):
        raise CheckpointError(f"{path}, `state_dict`: expected tensors by name")
    elif not all(_is_text(config[name]) for name in ("model", "dataset", "data_path")):
        raise CheckpointError(f"{path}, `config`: expected texts as model, dataset and data_path")
    return config


def check_resumable(state: Mapping[str, Any], path: Path) -> None:
    """Refuse a checkpoint from which no run can go on.

    Args:
        state: a checkpoint that `check_trained` accepts.

    Raises:
        CheckpointError: names the field that is missing or wrong.
    """
    best = state.get("best_state")
    if not _is_dict(best, _is_text, _is_tensor):
        raise CheckpointError(
            f"{path}, `best_state`: expected tensors by name, found {_short(best)}"
        )
    moments = state.get("best_moments", {})
    if not _is_dict(moments, _is_text, lambda kept: isinstance(kept, dict)):
        raise CheckpointError(
            f"{path}, `best_moments`: expected what the optimiser kept, by parameter, found "
            f"{_short(moments)}"
        )
    states = state.get("random_states")
    try:
        _try_random_states(states)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            f"{path}, `random_states`: expected the states of Python's, NumPy's, torch's and the "
            f"loader's random numbers, found something else ({error!s:.120})"
        ) from None


def _try_random_states(states: Any) -> None:
    """Give the states to generators that nobody uses."""
    version, internal, gauss = states["python"]
    random.Random().setstate((version, tuple(internal), gauss))  # noqa: S311
    keys, position, has_gauss, cached = states["numpy"]
    words = keys.cpu().numpy()
    if words.shape != (624,) or not 0 <= int(words.min()) <= int(words.max()) < 2**32:
        raise ValueError("no 624 words of 32 bits for NumPy")
    if not 0 <= position <= 624 or has_gauss not in (0, 1) or not math.isfinite(cached):
        raise ValueError("no position for NumPy")
    scratch = np.random.RandomState()
    scratch.set_state(("MT19937", words.astype(np.uint32), position, has_gauss, cached))
    for name in ("torch", "loader"):
        torch.Generator().set_state(states[name].cpu())
    for of_device in states["cuda"]:
        if not (isinstance(of_device, Tensor) and of_device.dtype == torch.uint8):
            raise TypeError("no state of a GPU")


def _short(value: Any) -> str:
    """Return what a value is, in a few words."""
    if value is None or type(value) in (bool, int, float, str):
        return f"{value!r:.60}"
    if isinstance(value, (list, tuple, dict)):
        return f"{type(value).__name__} of {len(value)}: {_first(value)}"
    return f"a {type(value).__name__}"


def _first(value: Any) -> str:
    return ", ".join(
        repr(part)[:30] if type(part) in (str, int) else type(part).__name__
        for part in list(value)[:3]
    )
