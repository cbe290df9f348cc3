"""The plan of a search: its space, and all that a resumed one reads again."""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recbole_margo.config import Config, Settings
from recbole_margo.defaults import parse_yaml
from recbole_margo.errors import ConfigError
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.settings.processes import check_other_machines
from recbole_margo.studies.runs.entry import Entry, build_configs, require_part
from recbole_margo.studies.sweep.command import JUDGING_KEYS, same_value
from recbole_margo.studies.sweep.result import hyperparameter_of

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial

SCALES = ("log", "linear")
# For every model; a learning rate is searched only where it is named.
GENERAL_RANGES: dict[str, tuple[float, float, str]] = {"learning_rate": (1e-4, 1e-2, "log")}


@dataclass(frozen=True)
class Dimension:
    """The values of one hyper-parameter that a search may choose.

    Args:
        scale: `log` or `linear` of a range; `choice` of a list.
    """

    key: str
    low: float = math.nan
    high: float = math.nan
    scale: str = "choice"
    integer: bool = False
    choices: tuple[Any, ...] = ()

    @classmethod
    def of(cls, key: str, search: object, integer: bool = False) -> Dimension:
        """Read `[low, high, log]`, `[low, high, linear]` or a list of values.

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

    def suggest(self, trial: Trial) -> Any:
        """Return the value that an optuna trial chooses."""
        if self.scale == "choice":
            name = trial.suggest_categorical(self.key, [_name(value) for value in self.choices])
            return self.value_of(name)
        logarithmic = self.scale == "log"
        if self.integer:
            return trial.suggest_int(self.key, int(self.low), int(self.high), log=logarithmic)
        return trial.suggest_float(self.key, self.low, self.high, log=logarithmic)

    def value_of(self, stored: Any) -> Any:
        """Return the value for what the `params` of an optuna trial hold."""
        if self.scale != "choice":
            return stored
        return next(value for value in self.choices if _name(value) == stored)

    def stored(self, value: Any) -> Any:
        """Return what the `params` hold for a value; the inverse of `value_of`."""
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
        """Return the range or the list in words."""
        if self.scale == "choice":
            return ", ".join(str(_name(value)) for value in self.choices)
        return f"{self.low:g} to {self.high:g}, {self.scale}"


def _name(value: Any) -> Any:
    """Return a value as optuna can store it: itself, or a list or mapping as JSON."""
    plain = value is None or isinstance(value, bool | int | float | str)
    return value if plain else json.dumps(value, sort_keys=True, ensure_ascii=False)


def search_space(
    config: Config, over: Sequence[str] = (), own: Sequence[str] = ()
) -> list[Dimension]:
    """Return the search space of a model.

    Args:
        over: keys to search; none: all that the model publishes a range for, and those of `own`.
        own: `key=range` texts, such as `weight_decay=[1e-6, 1e-3, log]`, stronger than published
            ranges.

    Returns:
        One dimension per key, in the order of `over`, or else of the model's declaration and then
        of `own`.

    Raises:
        ConfigError: if a key has no range, or a text has another form.
    """
    published, given = _published_ranges(config.model_class), _parse_own(own)
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


def _published_ranges(model_class: type[Any]) -> dict[str, object]:
    """Return the published search range by hyper-parameter; RecBole's own models have none."""
    if not issubclass(model_class, MultimodalRecommender):
        return {}
    keys = model_class.parameters_class.descriptions()
    known = {key: hyperparameter_of(model_class, key) for key in keys}
    return {key: each.search for key, each in known.items() if each and each.search}


def _is_integer(config: Config, key: str) -> bool:
    model_class = config.model_class
    if issubclass(model_class, MultimodalRecommender):
        hints = typing.get_type_hints(model_class.parameters_class)
        if key in hints:
            return hints[key] is int
    return type(config[key]) is int


def _parse_own(texts: Sequence[str]) -> dict[str, object]:
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


@dataclass(frozen=True)
class TuningPlan:
    """A search for the hyper-parameters of one model on one dataset.

    Args:
        settings: values by key that all trials share.
        seed: of the sampler and of the training of every trial.
    """

    model: str
    dataset: str
    settings: Settings
    space: tuple[Dimension, ...]
    trials: int
    seed: int
    seeds: tuple[int, ...]
    study: str
    storage: str | None = None

    @classmethod
    def make(
        cls,
        model: str,
        dataset: str,
        settings: Settings,
        *,
        over: Sequence[str] = (),
        own_space: Sequence[str] = (),
        trials: int = 20,
        seeds: Sequence[int] = (),
        study: str = "tune",
        storage: str | None = None,
    ) -> TuningPlan:
        """Return the plan of what was asked for.

        Args:
            settings: values by key; `seed` among them is the search's.
            seeds: seeds of the final training; none: the search's.

        Raises:
            RecBoleMargoError: if there is no such model, dataset, setting or range.
        """
        shared = {key: value for key, value in settings.items() if key != "seed"}
        own = build_configs([Entry(model, model)], dataset, settings)[model]
        return cls(
            model=own["model"],
            dataset=dataset,
            # By the same rule as in `compare`, so that both have one split.
            settings={"split_seed": Config(model, dataset)["seed"], **shared},
            space=tuple(search_space(own, over, own_space)),
            trials=trials,
            seed=own["seed"],
            seeds=tuple(seeds) or (own["seed"],),
            study=study,
            storage=storage,
        )

    def check(self) -> None:
        """Raise a `RecBoleMargoError` if a trial could not run with any end of any range."""
        if type(self.trials) is not int or self.trials < 1:
            raise ConfigError(f"--trials must be a positive whole number, found {self.trials!r}")
        whole = all(type(seed) is int for seed in self.seeds)
        if not whole or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"--seeds must be different whole numbers, found {list(self.seeds)}")
        settings = {**self.settings, "seed": self.seed}
        own = build_configs([Entry(self.model, self.model)], self.dataset, settings)[self.model]
        require_part(own, "valid", "a search")
        for dimension in self.space:
            for value in dimension.ends():
                self.config({dimension.key: value})

    def config(self, values: Settings) -> Config:
        """Return the config of a trial that chose some values by key."""
        settings = {**self.settings, **values, "seed": self.seed}
        config = Config(self.model, self.dataset, config_dict=settings)
        check_other_machines(config.external_config_dict, {}, "the plan of the search")
        return config

    def chosen(self, trial: FrozenTrial) -> Settings:
        """Return the values that a trial chose, by key."""
        return {
            dimension.key: dimension.value_of(trial.params[dimension.key])
            for dimension in self.space
            if dimension.key in trial.params
        }

    def own_values(self) -> Settings:
        """Return the model's own values of what is searched, where they lie in the space."""
        config = self.config({})
        return {
            dimension.key: config[dimension.key]
            for dimension in self.space
            if dimension.contains(config[dimension.key])
        }
