"""`recbole-margo sweep`: a model's quality over the values of one hyper-parameter at a time."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_margo.command_line import command_parser
from recbole_margo.config import Settings
from recbole_margo.defaults import parse_yaml
from recbole_margo.errors import ConfigError
from recbole_margo.registry import find_model
from recbole_margo.studies.comparison.command import COMPARISON
from recbole_margo.studies.comparison.plan import ComparisonPlan
from recbole_margo.studies.runs.entry import Entry, build_configs
from recbole_margo.studies.runs.pool import Pool
from recbole_margo.studies.runs.study import Study, add_run_options, read_seeds
from recbole_margo.studies.sweep.report import sweep_report
from recbole_margo.studies.sweep.result import Sweep, hyperparameter_of, value_text

PUBLISHED_POINTS = 5
# What decides on which data and by which metric a model is judged is no hyper-parameter of it.
JUDGING_KEYS = {
    *("model", "dataset", "data_path", "seed", "split_seed", "eval_args", "eval_protocol"),
    *("eval_step", "metrics", "topk", "valid_metric", "valid_metric_bigger", "repeatable"),
}
EXAMPLES = """\
examples:
  recbole-margo sweep --over alpha tau                          the published ranges
  recbole-margo sweep --over alpha=0.01,0.1,1,10 tau=0.1,1,10 --seeds=3
  recbole-margo sweep --model=BPR --over embedding_size=16,64,256 --dataset=baby
  recbole-margo sweep --resume=runs/20260101-120000-ml-100k

Each hyper-parameter is swept with the others at their own value, which is the model's default or
that of --key=value. Values are read as YAML.
"""


@dataclass(frozen=True)
class SweepPlan(ComparisonPlan):
    """A comparison of a model as it is with the same model at one other value of one key each."""

    def check(self) -> None:
        """Raise a `RecBoleMargoError` on bad input, a comparison of another kind among it."""
        own, *others = self.entries
        one_key_each = all(len(entry.settings) == 1 for entry in others)
        if own.settings or not one_key_each or {entry.model for entry in others} != {own.model}:
            raise ConfigError(
                "these are the runs of a comparison of models, to be continued with "
                "`recbole-margo compare --resume=`"
            )
        super().check()


def study_sweep(plan: SweepPlan, folder: Path, pool: Pool) -> Sweep:
    """Train a model along one hyper-parameter at a time, the others at their own value.

    The run with every hyper-parameter at its own value is a point of each curve and is trained
    once. Runs are those of `compare`, whose report is written too.

    Args:
        plan: of the entries that `sweep_entries` returns.
    """
    return Sweep.of_comparison(COMPARISON.run(plan, folder, pool))


SWEEP = Study("sweep", "sweep", COMPARISON.file, SweepPlan, study_sweep, sweep_report)


def sweep_entries(
    model: str, over: Mapping[str, Sequence[Any] | None], dataset: str, settings: Settings
) -> list[Entry]:
    """Return what a sweep trains: the model as it is, then each value that differs from its own.

    Args:
        over: values by key; none: of the published search range.

    Raises:
        RecBoleMargoError: if a key or a value is not one of the model's, or nothing varies.
    """
    if not over:
        raise ConfigError("name what to sweep over, such as --over alpha=0.01,0.1,1,10")
    model_class = find_model(model)
    values = {}
    for key, listed in over.items():
        if key in JUDGING_KEYS:
            raise ConfigError(
                f"`{key}` cannot be swept over: it decides how a model is judged, not what it is"
            )
        values[key] = list(published_values(model_class, key) if listed is None else listed)
    own = Entry(model, model)
    first_of_each = [Entry(f"{key}=", model, {key: found[0]}) for key, found in values.items()]
    config = build_configs([own, *first_of_each], dataset, settings)[own.label]
    entries = [own]
    for key, listed in values.items():
        others = [value for value in listed if not same_value(value, config[key])]
        entries += [Entry(f"{key}={value_text(value)}", model, {key: value}) for value in others]
        if not others:
            raise ConfigError(
                f"--over {key}: expected a value other than the model's own, found only "
                f"{value_text(config[key])}"
            )
    labels = [entry.label for entry in entries]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ConfigError(f"--over names a value twice: {', '.join(twice)}")
    return entries


def published_values(model_class: type[Any], key: str, count: int = PUBLISHED_POINTS) -> list[Any]:
    """Return values of a hyper-parameter's published search range, rounded to two digits.

    Raises:
        ConfigError: if the model publishes no range for it.
    """
    known = hyperparameter_of(model_class, key)
    if known is None or not (known.search or known.choices):
        raise ConfigError(
            f"{model_class.__name__} has no published search range for `{key}`: write the values, "
            f"--over {key}=VALUE,VALUE"
        )
    if not isinstance(known.search, tuple):
        return list(known.search or known.choices or ())
    low, high, scale = known.search
    steps = np.geomspace(low, high, count) if scale == "log" else np.linspace(low, high, count)
    return list(dict.fromkeys(float(f"{step:.2g}") for step in steps))


def same_value(one: Any, other: Any) -> bool:
    """Return whether two values of a key mean the same; 1 and 1.0 do, 1 and true do not."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def sweep(arguments: Sequence[str]) -> int:
    """Run `recbole-margo sweep` and return its exit status, 1 if any run failed."""
    options, rest = _parser().parse_known_args(arguments)

    def make(settings: Settings) -> SweepPlan:
        over = parse_over(options.over or [])
        entries = sweep_entries(options.model, over, options.dataset, settings)
        return SweepPlan.of(entries, options.dataset, read_seeds(options.seeds), settings)

    return SWEEP.run_command(options, rest, make, ["over"] if options.over else [])


def parse_over(words: Sequence[str]) -> dict[str, list[Any] | None]:
    """Read `key=value,value` and bare `key` words.

    Returns:
        Values by key, none for a bare key.

    Raises:
        ConfigError: if a word has another form, or a key comes twice.
    """
    over: dict[str, list[Any] | None] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not key.isidentifier():
            raise ConfigError(f"--over: expected KEY or KEY=VALUE,VALUE, found {word!r}")
        if key in over:
            raise ConfigError(f"--over names {key} twice: give all its values together")
        values = parse_yaml(f"[{text}]", f"the value of --over {key}") if equals else None
        if values == []:
            raise ConfigError(f"--over {key}= has no values: write --over {key}=VALUE,VALUE")
        over[key] = values
    return over


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "sweep",
        "Train a model along one hyper-parameter at a time, with several seeds on one split, and "
        "draw validation and test metrics over its values.",
        EXAMPLES,
    )
    parser.add_argument("--model", default="MARGO", help="name of the model (MARGO)")
    parser.add_argument(
        "--over",
        nargs="+",
        action="extend",
        metavar="KEY[=VALUES]",
        help="hyper-parameters; without values about five of the published search range",
    )
    add_run_options(parser, "sweep")
    return parser
