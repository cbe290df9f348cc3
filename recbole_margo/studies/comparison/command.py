"""`recbole-margo compare` and `recbole-margo ablate`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from recbole_margo.command_line import command_parser
from recbole_margo.config import Settings
from recbole_margo.registry import expand_names
from recbole_margo.report import terminal_bold
from recbole_margo.studies.comparison.compare_seeds import COMPARISON
from recbole_margo.studies.comparison.page import comparison_text
from recbole_margo.studies.comparison.plan import ComparisonPlan, ablation_entries
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.studies.runs.study import add_run_options, read_seeds

COMPARE_EXAMPLES = """\
examples:
  recbole-margo compare --models=MARGO,DRAGON,LightGCN --seeds=5 --reference=MARGO
  recbole-margo compare --models=all --dataset=baby --seeds='[1, 2, 3]' --eval_protocol=mmrec
  recbole-margo compare --resume=runs/20260101-120000-ml-100k

Every other --key=value goes to each model that knows the key, as in `train`. The split is the same
for all seeds; `--split_seed` chooses another.
"""


def compare(arguments: Sequence[str]) -> int:
    """Run `recbole-margo compare` and return its exit status.

    Returns:
        0, or 1 if any run failed.
    """
    parser = _parser(
        "compare",
        "Train every model with every seed on the same split; write tables, paired tests over "
        "users against a reference, slices, figures and one HTML report.",
        COMPARE_EXAMPLES,
    )
    parser.add_argument(
        "--models", default="MARGO,DRAGON", help="names, separated by commas, or all (MARGO,DRAGON)"
    )
    options, rest = parser.parse_known_args(arguments)
    names = [name.strip() for name in options.models.split(",") if name.strip()]
    return _run(options, rest, lambda _: Entry.of_models(expand_names(names)))


def ablate(arguments: Sequence[str]) -> int:
    """Run `recbole-margo ablate` and return its exit status; see `compare`."""
    parser = _parser(
        "ablate",
        "Compare MARGO with the ablations of its paper (w/o weight, w/o L_cal, w/o two-stage, w/o "
        "nograd), with the mean of the modalities (w/o weight, mean), with MARGO on each single "
        "modality, and with DRAGON; report as in `compare`.",
    )
    options, rest = parser.parse_known_args(arguments)
    return _run(options, rest, lambda settings: ablation_entries(options.dataset, settings))


def _parser(verb: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    parser = command_parser(verb, description, epilog)
    add_run_options(parser, "comparison")
    parser.add_argument("--reference", help="whom the others are tested against (the first)")
    return parser


def _run(
    options: argparse.Namespace,
    rest: Sequence[str],
    entries: Callable[[Settings], Sequence[Entry]],
) -> int:
    def make(settings: Settings) -> ComparisonPlan:
        return ComparisonPlan.of(
            entries(settings),
            options.dataset,
            read_seeds(options.seeds),
            settings,
            options.reference,
        )

    folder, compared = COMPARISON.run_command(options, rest, make)
    text = comparison_text(compared, style="simple", bold=terminal_bold())
    sys.stdout.write(f"{text}\n\nReport: {folder / 'report.html'}\n")
    return int(any(model.errors for model in compared.models))
