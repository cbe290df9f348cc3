"""Hyper-parameters as typed, frozen classes that know their bounds, meaning and search range."""

from __future__ import annotations

import copy
import dataclasses
import importlib.resources
import math
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from recbole_margo.defaults import read_yaml, shipped_values
from recbole_margo.errors import ConfigError

if TYPE_CHECKING:
    from importlib.abc import Traversable

SelfParameters = TypeVar("SelfParameters", bound="Parameters")


@dataclass(frozen=True)
class Hyperparameter:
    """The meaning, bounds and search range of one hyper-parameter.

    Args:
        meaning: one sentence, with the unit where there is one.
        low: smallest value allowed, inclusive.
        high: largest value allowed, inclusive.
        choices: the values allowed, where they can be counted.
        paper: the value that the paper used, if it says.
        search: the search range: (low, high, "log" or "linear") or a list of values.
    """

    meaning: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] | None = None
    paper: Any = None
    search: tuple[float, float, str] | list[Any] | None = None

    def range_text(self) -> str:
        """Return the search range, or else the choices, in words; empty if there is neither."""
        if isinstance(self.search, tuple):
            low, high, scale = self.search
            return f"{low:g} to {high:g}, {scale}"
        values = self.search or self.choices or ()
        return ", ".join(str(value) for value in values)

    def check(self, key: str, value: Any) -> None:
        """Raise `ConfigError` if the value lies outside the bounds or the choices."""
        if self.choices is not None and value not in self.choices:
            raise ConfigError(f"`{key}` must be one of {list(self.choices)}, found {value!r}")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return
        below = self.low is not None and value < self.low
        above = self.high is not None and value > self.high
        if below or above or not math.isfinite(value):
            low = "-inf" if self.low is None else self.low
            high = "inf" if self.high is None else self.high
            raise ConfigError(f"`{key}` must lie in [{low}, {high}], found {value!r}")


def hyperparameter(meaning: str, *, default: Any = MISSING, **details: Any) -> Any:
    """Declare a field of a `Parameters` class.

    Args:
        meaning: one sentence, with the unit where there is one.
        default: the value, where no YAML file gives one.
        details: see `Hyperparameter`.
    """
    metadata = {"hyperparameter": Hyperparameter(meaning, **details)}
    if default is MISSING:
        return dataclasses.field(metadata=metadata)
    # A list or a mapping is each instance's own.
    return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)


def model_defaults(model_class: type[Any]) -> dict[str, Any]:
    """Return the values that a model comes with.

    The later the stronger: `default` of its hyper-parameters, what its base classes come with, the
    YAML file shipped in `properties/model`, and, for a model of another package, `<model>.yaml`
    beside the module of its class.
    """
    values: dict[str, Any] = {}
    if hasattr(model_class, "parameters_class"):
        values = model_class.parameters_class.defaults()
        bases = [base for base in model_class.__mro__ if hasattr(base, "parameters_class")]
    else:
        bases = [model_class]
    for base in reversed(bases):
        values.update(yaml_values(base))
    return values


def yaml_values(model_class: type[Any]) -> dict[str, Any]:
    """Return the values of a model's own YAML file, without those of its base classes."""
    values = shipped_values(f"model/{model_class.__name__}.yaml")
    if model_class.__module__.partition(".")[0] not in ("recbole_margo", "recbole"):
        file = _file_beside(model_class)
        if file is not None and file.is_file():
            with importlib.resources.as_file(file) as path:
                values.update(read_yaml(path))
    return values


def _file_beside(model_class: type[Any]) -> Traversable | None:
    """Return where a class may have its YAML file: in a folder or a zipped package."""
    module = sys.modules[model_class.__module__]
    package = module.__spec__.parent if module.__spec__ else None
    name = f"{model_class.__name__}.yaml"
    if package:
        return importlib.resources.files(package) / name
    file = getattr(module, "__file__", None)
    return None if file is None else Path(file).with_name(name)


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Base of the hyper-parameter classes: fields are typed here, our values live in YAML."""

    @classmethod
    def descriptions(cls) -> dict[str, Hyperparameter]:
        """Return field name -> description, in the order of declaration."""
        return {field.name: field.metadata["hyperparameter"] for field in dataclasses.fields(cls)}

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return field name -> `default`, for the fields that were declared with one."""
        return {
            field.name: field.default_factory()
            for field in dataclasses.fields(cls)
            if field.default_factory is not MISSING
        }

    @classmethod
    def from_config(cls: type[SelfParameters], config: Any, model: type[Any]) -> SelfParameters:
        """Read the fields from a RecBole config and fill the rest from the model's defaults.

        A value that was filled is written back to the config, so that logs, checkpoints and
        RecBole's trainers see the value that is used.

        Args:
            config: RecBole's `Config`, or any object with `in`, `[]` and `[] =`.
            model: class of the model, see `model_defaults`.

        Raises:
            ConfigError: if a value is missing, has the wrong type or is out of bounds.
        """
        defaults = model_defaults(model)
        types_of_fields = typing.get_type_hints(cls)
        values: dict[str, Any] = {}
        for name, description in cls.descriptions().items():
            if name not in config:
                if name not in defaults:
                    file = _file_beside(model) or f"{model.__name__}.yaml beside its module"
                    raise ConfigError(
                        f"`{name}` of {model.__name__} has no value: set it, declare it with "
                        f"`hyperparameter(..., default=...)`, or add it to {file} (an installed "
                        "package has YAML files only where `package_data` names them)"
                    )
                config[name] = defaults[name]
            value = _converted(name, config[name], types_of_fields[name])
            description.check(name, value)
            values[name] = value
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class MultimodalParameters(Parameters):
    """The hyper-parameters that every model of ours has."""

    embedding_size: int = hyperparameter("width d of an embedding", low=1, paper=64)
    train_features: bool = hyperparameter(
        "whether the raw features are trained like other parameters, starting from the files"
    )
    learning_rate_decay: float = hyperparameter(
        "factor on the learning rate over 50 epochs, decay^(epoch / 50); 1 keeps it constant",
        low=1e-6,
        high=1.0,
    )


def _converted(key: str, value: Any, wanted: Any) -> Any:
    is_union = typing.get_origin(wanted) in (typing.Union, types.UnionType)
    options = typing.get_args(wanted) if is_union else (wanted,)
    for option in options:
        if option is type(None) and value is None:
            return None
        kind = typing.get_origin(option) or option
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind is int and isinstance(value, float) and value.is_integer():
            return int(value)
        if kind in (list, dict, Mapping) and isinstance(value, kind):
            return value
        if kind in (int, float, bool, str) and type(value) is kind:
            return value
    name = wanted.__name__ if isinstance(wanted, type) else wanted
    raise ConfigError(f"`{key}` must be {name}, found {value!r}")
