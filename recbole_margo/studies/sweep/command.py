"""`recbole-margo sweep`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from recbole_margo.command_line import command_parser
from recbole_margo.config import Settings
from recbole_margo.defaults import parse_yaml
from recbole_margo.errors import ConfigError
from recbole_margo.report import terminal_bold
from recbole_margo.studies.runs.study import add_run_options, read_seeds
from recbole_margo.studies.sweep.page import sweep_text
from recbole_margo.studies.sweep.sweep import SWEEP, SweepPlan, sweep_entries

EXAMPLES = """\
examples:
  recbole-margo sweep --over alpha tau                          the published ranges
  recbole-margo sweep --over alpha=0.01,0.1,1,10 tau=0.1,1,10 --seeds=3
  recbole-margo sweep --model=BPR --over embedding_size=16,64,256 --dataset=baby
  recbole-margo sweep --resume=runs/20260101-120000-ml-100k

Each hyper-parameter is swept with the others at their own value, which is the model's default or
that of --key=value. Values are read as YAML.
"""


def sweep(arguments: Sequence[str]) -> int:
    """Run `recbole-margo sweep` and return its exit status.

    Returns:
        0, or 1 if any run failed.
    """
    options, rest = _parser().parse_known_args(arguments)

    def make(settings: Settings) -> SweepPlan:
        over = parse_over(options.over or [])
        entries = sweep_entries(options.model, over, options.dataset, settings)
        return SweepPlan.of(entries, options.dataset, read_seeds(options.seeds), settings)

    given = ["over"] if options.over else []
    folder, swept = SWEEP.run_command(options, rest, make, given)
    text = sweep_text(swept, bold=terminal_bold())
    sys.stdout.write(f"{text}\nReport: {folder / 'sweep.html'}\n")
    return int(any(point.errors for curve in swept.hyperparameters for point in curve.points))


def parse_over(words: Sequence[str]) -> dict[str, list[Any] | None]:
    """Read `key=value,value` and bare `key` words.

    Args:
        words: what followed `--over`.

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
