"""What a search may choose from."""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from recbole_margo.config import Config
from recbole_margo.defaults import parse_yaml
from recbole_margo.errors import ConfigError
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.studies.sweep.result import hyperparameter_of
from recbole_margo.studies.sweep.sweep import JUDGING_KEYS, same_value

SCALES = ("log", "linear")
# For every model; a learning rate is searched only where it is named.
GENERAL_RANGES: dict[str, tuple[float, float, str]] = {"learning_rate": (1e-4, 1e-2, "log")}


@dataclass(frozen=True)
class Dimension:
    """The values of one hyper-parameter that a search may choose.

    Args:
        key: the hyper-parameter.
        low: smallest value of a range, inclusive.
        high: largest value of a range, inclusive.
        scale: `log` or `linear` of a range; `choice` of a list.
        integer: whether the values of a range are whole numbers.
        choices: the values of a list.
    """

    key: str
    low: float = math.nan
    high: float = math.nan
    scale: str = "choice"
    integer: bool = False
    choices: tuple[Any, ...] = ()

    @classmethod
    def of(cls, key: str, search: Any, integer: bool = False) -> Dimension:
        """Read `[low, high, log]`, `[low, high, linear]` or a list of values.

        Args:
            key: the hyper-parameter.
            search: the range or the list.
            integer: whether the hyper-parameter is a whole number.

        Raises:
            ConfigError: if it is neither, or the range is empty.
        """
        if not isinstance(search, list | tuple) or not search:
            raise ConfigError(
                f"the search space of `{key}` must be [low, high, log], [low, high, linear] or a "
                f"list of values, found {search!r}"
            )
        if not (len(search) == 3 and search[2] in SCALES):
            return cls(key, choices=tuple(search))
        low, high, scale = search
        numbers = all(type(end) in (int, float) and math.isfinite(end) for end in (low, high))
        if not numbers or low >= high or (scale == "log" and low <= 0):
            positive = "positive " if scale == "log" else ""
            raise ConfigError(
                f"the search range of `{key}` must go from a smaller to a larger {positive}number, "
                f"found {list(search)}"
            )
        whole = integer and float(low).is_integer() and float(high).is_integer()
        return cls(key, low, high, scale, whole)

    def suggest(self, trial: Any) -> Any:
        """Let an optuna trial choose a value.

        Args:
            trial: the trial.
        """
        if self.scale == "choice":
            name = trial.suggest_categorical(self.key, [_name(value) for value in self.choices])
            return self.value_of(name)
        logarithmic = self.scale == "log"
        if self.integer:
            return trial.suggest_int(self.key, int(self.low), int(self.high), log=logarithmic)
        return trial.suggest_float(self.key, self.low, self.high, log=logarithmic)

    def value_of(self, stored: Any) -> Any:
        """Return the value that optuna's storage holds a name of.

        Args:
            stored: what a trial's `params` hold.
        """
        if self.scale != "choice":
            return stored
        return next(value for value in self.choices if _name(value) == stored)

    def stored(self, value: Any) -> Any:
        """Return what optuna's storage holds for a value; the inverse of `value_of`."""
        return _name(value) if self.scale == "choice" else value

    def contains(self, value: Any) -> bool:
        """Return whether a value can be chosen."""
        if self.scale == "choice":
            return any(same_value(value, one) for one in self.choices)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high

    def ends(self) -> tuple[Any, ...]:
        """Return the values to check beforehand: all of a list, both ends of a range."""
        if self.scale == "choice":
            return self.choices
        return (int(self.low), int(self.high)) if self.integer else (self.low, self.high)

    def text(self) -> str:
        """Return it in words."""
        if self.scale == "choice":
            return ", ".join(str(_name(value)) for value in self.choices)
        return f"{self.low:g} to {self.high:g}, {self.scale}"

    def as_plain(self) -> dict[str, Any]:
        """Return the fields as a plain mapping."""
        return {**asdict(self), "choices": list(self.choices)}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Dimension:
        """Rebuild what `as_plain` returned."""
        return cls(**{**values, "choices": tuple(values["choices"])})


def _name(value: Any) -> Any:
    """Return a value as optuna can store it: itself, or a list or mapping as JSON."""
    plain = value is None or isinstance(value, bool | int | float | str)
    return value if plain else json.dumps(value, sort_keys=True, ensure_ascii=False)


def search_space(
    config: Config, over: Sequence[str] = (), own: Sequence[str] = ()
) -> list[Dimension]:
    """Return the search space of a model.

    Args:
        config: the model's config.
        over: keys to search; none: all that the model publishes a range for, and those of `own`.
        own: `key=range` texts, such as `weight_decay=[1e-6, 1e-3, log]`, stronger than published
            ranges.

    Returns:
        One dimension per key, in the order of `over`, or else of the model's declaration and then
        of `own`.

    Raises:
        ConfigError: if a key has no range, or a text has another form.
    """
    published, given = published_ranges(config.model_class), _parse_own(own)
    known = {**GENERAL_RANGES, **published, **given}
    name = config["model"]
    for key in over:
        if key not in known:
            raise ConfigError(
                f"{name} has no published search range for `{key}` (there is one for "
                f"{', '.join(known)}): give one, --space '{key}=[low, high, log]'"
            )
    if over and set(given) - set(over):
        raise ConfigError(
            f"--over does not name {', '.join(sorted(set(given) - set(over)))} of --space: "
            "name it there too, or leave --over out"
        )
    keys = list(over) or list({**published, **given})
    if not keys:
        raise ConfigError(
            f"{name} has no published search ranges: name what to search, --over learning_rate, or "
            "give a range, --space 'KEY=[low, high, log]'"
        )
    for key in keys:
        if key in JUDGING_KEYS:
            raise ConfigError(
                f"`{key}` cannot be searched: it decides how a model is judged, not what it is"
            )
    return [Dimension.of(key, known[key], _is_integer(config, key)) for key in keys]


def published_ranges(model_class: type[Any]) -> dict[str, Any]:
    """Return the published search range of each hyper-parameter that has one.

    Args:
        model_class: class of the model; RecBole's own publish none.
    """
    if not issubclass(model_class, MultimodalRecommender):
        return {}
    keys = model_class.parameters_class.descriptions()
    known = {key: hyperparameter_of(model_class, key) for key in keys}
    return {key: each.search for key, each in known.items() if each and each.search}


def _is_integer(config: Config, key: str) -> bool:
    """Return whether the values of a key are whole numbers."""
    model_class = config.model_class
    if issubclass(model_class, MultimodalRecommender):
        hints = typing.get_type_hints(model_class.parameters_class)
        if key in hints:
            return hints[key] is int
    return type(config[key]) is int


def _parse_own(texts: Sequence[str]) -> dict[str, Any]:
    """Return the range by key of `key=range` texts."""
    ranges = {}
    for text in texts:
        key, equals, values = text.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise ConfigError(
                f"--space: expected 'KEY=[low, high, log]' or 'KEY=[value, value]', found {text!r}"
            )
        if key in ranges:
            raise ConfigError(f"--space names {key} twice")
        ranges[key] = parse_yaml(values, f"the value of --space {key}")
    return ranges
