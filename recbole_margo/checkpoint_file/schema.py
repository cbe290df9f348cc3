"""The state that our trainer keeps in checkpoints: its fields and the check of each."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
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


def _are_tensors(value: Any) -> bool:
    return _is_dict(value, _is_text, _is_tensor)


def _is_numbers(value: Any) -> bool:
    return _is_dict(value, _is_text, _is_number)


def is_plain(value: Any) -> bool:
    """Return whether a value is made of numbers, texts, lists and dicts alone."""
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return _is_dict(value, lambda key: isinstance(key, (str, int)), is_plain)
    return value is None or type(value) in (bool, int, float, str)


def _is_config(value: Any) -> bool:
    named = _is_dict(value, _is_text, is_plain)
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


@dataclass(frozen=True)
class RandomStates:
    """The states of what training draws from, that of the loader's own generator among them."""

    python: tuple[Any, ...]
    numpy: tuple[Any, ...]
    torch: Tensor
    cuda: list[Tensor]
    loader: Tensor

    @classmethod
    def of(cls, loader: Any) -> RandomStates:
        """Return the states as they are now."""
        _, keys, position, has_gauss, cached = np.random.get_state()
        return cls(
            python=random.getstate(),
            numpy=(torch.tensor(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached),
            torch=torch.get_rng_state(),
            cuda=torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            loader=loader.generator.get_state(),
        )

    def restore(self, loader: Any) -> None:
        """Put the states back."""
        random.setstate(self._of_python())
        np.random.set_state(self._of_numpy())
        torch.set_rng_state(self.torch.cpu())
        if torch.cuda.is_available() and len(self.cuda) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in self.cuda])
        loader.generator.set_state(self.loader.cpu())

    def _of_python(self) -> tuple[Any, ...]:
        version, internal, gauss = self.python
        return version, tuple(internal), gauss

    def _of_numpy(self) -> tuple[Any, ...]:
        keys, position, has_gauss, cached = self.numpy
        return "MT19937", keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached

    def try_out(self) -> None:
        """Give the states to generators that nobody uses; an exception says that one is none."""
        random.Random().setstate(self._of_python())  # noqa: S311
        words, position, has_gauss, cached = self.numpy
        if words.shape != (624,) or not 0 <= int(words.min()) <= int(words.max()) < 2**32:
            raise ValueError("no 624 words of 32 bits for NumPy")
        if not 0 <= position <= 624 or has_gauss not in (0, 1) or not math.isfinite(cached):
            raise ValueError("no position for NumPy")
        np.random.RandomState().set_state(self._of_numpy())
        for state in (self.torch, self.loader):
            torch.Generator().set_state(state.cpu())
        for of_device in self.cuda:
            if not (isinstance(of_device, Tensor) and of_device.dtype == torch.uint8):
                raise TypeError("no state of a GPU")


def _are_random_states(value: Any) -> bool:
    try:
        RandomStates(**value).try_out()
    except (TypeError, ValueError, RuntimeError, AttributeError, OverflowError):
        return False
    return True


def _stored(is_right: Check, expected: str, default: Any = MISSING) -> Any:
    """Return a field of a state: its check, and what is expected, for the error."""
    return field(default=default, metadata={"is_right": is_right, "expected": expected})


@dataclass(frozen=True, kw_only=True)
class TrainerState:
    """The state of our trainer after an epoch; its fields are in the order of the file.

    The last three are of the newest epoch alone, from which an interrupted run goes on.
    """

    config: dict[str, Any] = _stored(
        _is_config, "settings by name, `model` and `dataset` among them"
    )
    epoch: int = _stored(
        lambda value: type(value) is int and value >= -1, "the last epoch, from -1"
    )
    cur_step: int = _stored(_is_count, "a count of validations")
    best_valid_score: float | None = _stored(_is_score, "a finite score, or none")
    state_dict: dict[str, Tensor] = _stored(
        lambda value: _are_tensors(value) and len(value) > 0, "tensors by name"
    )
    other_parameter: dict[str, Any] | None = _stored(
        lambda value: value is None or _is_dict(value, _is_text, lambda _: True), "values by name"
    )
    optimizer: dict[str, Any] = _stored(_is_optimizer, "`state` and `param_groups` of an optimiser")
    stages: list[dict[str, Any]] = _stored(
        lambda value: isinstance(value, list) and len(value) > 0 and all(map(_is_stage, value)),
        "the progress of one stage or more",
    )
    split: str = _stored(_is_text, "a fingerprint")
    modalities: list[str] = _stored(
        lambda value: isinstance(value, (list, tuple)) and all(map(_is_text, value)), "names"
    )
    feature_checksums: dict[str, Any] = _stored(
        lambda value: _is_dict(value, _is_text, is_plain), "sums by modality"
    )
    user_tokens: list[str] = _stored(_is_id_map, f"{PAD} and the users' tokens, none twice")
    item_tokens: list[str] = _stored(_is_id_map, f"{PAD} and the items' tokens, none twice")
    best_state: dict[str, Tensor] | None = _stored(_are_tensors, "tensors by name", None)
    random_states: RandomStates | None = _stored(
        _are_random_states,
        "the states of Python's, NumPy's, torch's and the loader's random numbers",
        None,
    )
    best_moments: dict[str, Any] | None = _stored(
        lambda value: _is_dict(value, _is_text, lambda kept: isinstance(kept, dict)),
        "what the optimiser kept, by parameter",
        None,
    )

    def as_plain(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        kept = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.default is MISSING or getattr(self, each.name) is not None
        }
        if self.random_states is not None:
            kept["random_states"] = vars(self.random_states)
        return {"format": CHECKPOINT_FORMAT, **kept}

    @classmethod
    def from_plain(cls, state: Mapping[str, Any], path: Path) -> TrainerState:
        """Return the state that a checkpoint holds.

        Raises:
            CheckpointError: names the file and the first field that is missing or wrong.
        """
        check_format(state, path)
        values = {}
        for each in fields(cls):
            name, expected = each.name, each.metadata["expected"]
            if name in state:
                values[name] = state[name]
                if not each.metadata["is_right"](state[name]):
                    found = _short(state[name])
                    raise CheckpointError(f"{path}, `{name}`: expected {expected}, found {found}")
            elif each.default is MISSING:
                raise CheckpointError(
                    f"{path}: expected `{name}` ({expected}), found no such field"
                )
        epochs = state["stages"][-1]["epochs"]
        if state["epoch"] != epochs - 1:
            raise CheckpointError(
                f"{path}, `epoch`: expected {epochs - 1}, the last of the {epochs} epochs in "
                f"`stages`, found {state['epoch']}"
            )
        if "random_states" in values:
            values["random_states"] = RandomStates(**values["random_states"])
        return cls(**values)


def check_format(state: Mapping[str, Any], path: Path) -> None:
    """Raise a `CheckpointError` at a checkpoint of another format than ours, or of a newer one."""
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


def checked_config(state: Mapping[str, Any], path: Path) -> Any:
    """Return RecBole's `Config` of a checkpoint, or the settings of one of ours, fit to be loaded.

    Raises:
        CheckpointError: names the field that is missing or wrong.
    """
    config = state.get("config")
    if not isinstance(config, Config):
        TrainerState.from_plain(state, path)
    elif not _are_tensors(state.get("state_dict")):
        raise CheckpointError(f"{path}, `state_dict`: expected tensors by name")
    elif not all(_is_text(config[name]) for name in ("model", "dataset", "data_path")):
        raise CheckpointError(f"{path}, `config`: expected texts as model, dataset and data_path")
    return config


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
