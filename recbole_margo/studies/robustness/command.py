"""`recbole-margo robustness`: a benchmark with a ground truth, as we know which items are bad."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from recbole_margo.command_line import comma_separated, command_parser
from recbole_margo.config import Config, Settings
from recbole_margo.data.corruption import KINDS
from recbole_margo.data.features import modality_names
from recbole_margo.errors import ConfigError
from recbole_margo.report import csv_text, write_texts
from recbole_margo.studies.comparison.command import COMPARISON
from recbole_margo.studies.comparison.plan import FULL_MODEL
from recbole_margo.studies.comparison.result import Comparison
from recbole_margo.studies.robustness.measure import CorruptedItems, Truth, measure
from recbole_margo.studies.robustness.plan import DEFAULT_SHARE, MODELS, RobustnessPlan
from recbole_margo.studies.robustness.report import robustness_report
from recbole_margo.studies.robustness.result import RobustnessResult
from recbole_margo.studies.runs.pool import Pool
from recbole_margo.studies.runs.study import Study, add_run_options, read_seeds
from recbole_margo.studies.runs.trained_run import TrainedRun

ITEM_COLUMNS = ("step", "item", "modality", "corrupted", "asked", "training_interactions")
DESCRIPTION = """\
Corrupt a known share of the items' features, train MARGO, its ablations and DRAGON on them, and
report what recommendation quality it costs and whether the weights tell which items they were.
"""
EXAMPLES = """\
examples:
  recbole-margo robustness --corrupt text=0.3 credits=0.3
  recbole-margo robustness --dataset=baby --corrupt image=0.4 --steps 0.25,0.5,1 --kind noise
  recbole-margo robustness --corrupt text=0.3 --models 'MARGO,w/o L_cal' --seeds='[1]'
  recbole-margo robustness --resume=runs/20260101-120000-ml-100k

Every other --key=value goes to each model that knows the key, as in `train`. Each seed corrupts
other items; the split is the same for all.
"""


def study_robustness(plan: RobustnessPlan, folder: Path, pool: Pool) -> RobustnessResult:
    """Train every model on clean and corrupted features, and measure what is lost and detected.

    Args:
        folder: its folder, which is this process's; its comparison is a folder in it.

    Returns:
        What came out, whose plain form is `robustness.json`.
    """
    root = folder / "comparison"
    compared = COMPARISON.part(plan.comparison(), root, pool)
    truth = _truth(plan, compared, root)
    result = measure(plan, compared, truth)
    write_texts(folder, _tables_of_items(truth))
    return result


ROBUSTNESS = Study(
    "robustness study",
    "robustness",
    "robustness-plan.json",
    RobustnessPlan,
    study_robustness,
    robustness_report,
)


def _truth(plan: RobustnessPlan, compared: Comparison, root: Path) -> Truth:
    """Return the corrupted items of each step above 0 by seed, as far as runs finished."""
    seeds = {entry.label: compared.finished_seeds(entry) for entry in compared.models}
    truth: dict[float, dict[int, CorruptedItems]] = {}
    for step in plan.steps:
        if step == 0 or plan.kind == "missing":
            continue
        truth[step] = {}
        entries = {model: plan.entry(model, step) for model in plan.models}
        for seed in plan.seeds:
            runs = {
                model: TrainedRun.read(entry.run_folder(root, seed))
                for model, entry in entries.items()
                if seed in seeds[entry.label]
            }
            if runs:
                truth[step][seed] = CorruptedItems.of_runs(runs)
    return truth


def _tables_of_items(truth: Truth) -> dict[str, str]:
    """Return a table per seed: what was corrupted, and what each detector says of it."""
    seeds = list(dict.fromkeys(seed for draws in truth.values() for seed in draws))
    tables = {}
    for seed in seeds:
        draws = {step: of_seeds[seed] for step, of_seeds in truth.items() if seed in of_seeds}
        detectors = list(dict.fromkeys(name for draw in draws.values() for name in draw.trust))
        rows = (row for step, draw in draws.items() for row in _rows_of_items(step, draw))
        tables[f"corrupted_items-seed-{seed}.csv"] = csv_text([*ITEM_COLUMNS, *detectors], rows)
    return tables


def _rows_of_items(step: float, draw: CorruptedItems) -> Iterator[Mapping[str, object]]:
    for column, modality in enumerate(draw.modalities):
        asked = draw.asked(modality)
        for row in draw.present[:, column].nonzero()[0]:
            yield {
                "step": f"{step:g}",
                "item": draw.items[row],
                "modality": modality,
                "corrupted": int(draw.corrupted[row, column]),
                "asked": int(asked[row]),
                "training_interactions": draw.interactions[row],
                **{name: trust[row, column] for name, trust in draw.trust.items()},
            }


def robustness(arguments: Sequence[str]) -> int:
    """Run `recbole-margo robustness` and return its exit status, 1 if any run failed."""
    options, rest = _parser().parse_known_args(arguments)
    return ROBUSTNESS.run_command(options, rest, lambda own: _plan(options, own))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("robustness", DESCRIPTION, EXAMPLES)
    add = parser.add_argument
    add(
        "--corrupt",
        nargs="+",
        action="extend",
        metavar="MODALITY=SHARE",
        help=f"share of the items whose rows are corrupted ({DEFAULT_SHARE} of every modality)",
    )
    add(
        "--steps",
        default="1",
        metavar="F,F",
        help="factors on these shares at which to train; 0, clean, is always among them (0,1)",
    )
    add("--kind", choices=KINDS, default="swap", help="what is done to the rows (swap)")
    add(
        "--signal_to_noise",
        type=float,
        default=0.0,
        metavar="DB",
        help="of --kind noise, in decibels (0: as much noise as signal)",
    )
    add(
        "--models",
        default=",".join(MODELS),
        help=f"names separated by commas ({','.join(MODELS)})",
    )
    add_run_options(parser, "study")
    return parser


def _plan(options: argparse.Namespace, settings: Settings) -> RobustnessPlan:
    if options.corrupt:
        share = parse_shares(options.corrupt)
    else:
        config = Config(FULL_MODEL, options.dataset, config_dict=dict(settings))
        share = dict.fromkeys(modality_names(config), DEFAULT_SHARE)
    return RobustnessPlan(
        dataset=options.dataset,
        share=share,
        kind=options.kind,
        signal_to_noise=options.signal_to_noise,
        steps=parse_steps(options.steps),
        models=comma_separated(options.models),
        seeds=read_seeds(options.seeds),
        settings=settings,
    )


def parse_shares(words: Sequence[str]) -> dict[str, float]:
    """Read `image=0.3` words.

    Raises:
        ConfigError: if a word has another form, or a modality comes twice.
    """
    shares: dict[str, float] = {}
    for word in words:
        modality, _, text = word.partition("=")
        try:
            share = float(text)
        except ValueError:
            share = math.nan
        if not modality or not 0 <= share <= 1:
            raise ConfigError(
                "--corrupt: expected MODALITY=SHARE with a share from 0 to 1, such as text=0.3, "
                f"found {word!r}"
            )
        if modality in shares:
            raise ConfigError(f"--corrupt: {modality!r} is given twice")
        shares[modality] = share
    return shares


def parse_steps(text: str) -> list[float]:
    """Read factors separated by commas.

    Returns:
        The factors, ascending from 0, each once.

    Raises:
        ConfigError: if they are not numbers from 0, or none is above 0.
    """
    try:
        steps = sorted({0.0, *(float(word) for word in text.split(","))})
    except ValueError:
        steps = []
    if len(steps) < 2 or not all(0 <= step < math.inf for step in steps):
        raise ConfigError(
            "--steps: expected numbers from 0 separated by commas, one of them above 0, such as "
            f"0,0.5,1, found {text!r}"
        )
    return steps
