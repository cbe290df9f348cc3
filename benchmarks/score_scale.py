"""What weights bring beside a tuned scale of the scores: one command for one dataset.

MARGO's loss sees the weighted mean of the modalities' scores, its ablation w/o weight their sum.
So each variant is trained at several values of `score_scale` with the first seed, each takes the
one that is best on validation, and the chosen ones are compared over all seeds.

    python -m benchmarks.score_scale --dataset=lfm2k --modalities='[text, audio]' --seeds=3

What has finished is kept: the same command goes on where it was interrupted. Every other
--key=value goes to all trainings.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_margo.command_line import listed_names, run_command
from recbole_margo.config import Config
from recbole_margo.data.features import modality_names
from recbole_margo.defaults import parse_settings, parse_yaml
from recbole_margo.errors import ConfigError
from recbole_margo.report import (
    Cell,
    Document,
    Paragraphs,
    Section,
    Table,
    terminal_text,
    write_document,
)
from recbole_margo.run_folder import RunFolder
from recbole_margo.studies.comparison.command import COMPARISON
from recbole_margo.studies.comparison.plan import ComparisonPlan
from recbole_margo.studies.comparison.result import ComparedModel, Comparison
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.studies.runs.pool import Pool
from recbole_margo.studies.runs.study import read_seeds

SUM = "w/o weight"
VARIANTS: dict[str, dict[str, Any]] = {
    SUM: {"item_weights": False},
    "MARGO": {},
    "w/o L_cal": {"alpha": 0.0},
    "held-out evidence": {"evidence": "held_out"},
    "w/o two-stage": {"two_stage": False},
    "gentle stage 2": {
        "keep_optimizer": True,
        "weight_warmup_epochs": 3,
        "evidence_scale": "standardized",
    },
}
SCALES = "[0.0625, 0.25, 0.5, 1, 2]"
NOTES = (
    "The scale of each row but the published ones is the best on validation with the first seed. "
    "A mean of the modalities is their sum at a scale divided by their number: tuned, the two are "
    "the same row.",
    "Mean ± sample standard deviation over seeds. Difference: to the tuned sum on test, paired "
    "over users on values averaged over seeds, with its 95 % interval; † if the Holm-corrected "
    "Wilcoxon p is below .05.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Tune, compare, write `score-scale.md` and `.html`, print the tables, and return 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="ml-100k", help="name of the dataset (ml-100k)")
    parser.add_argument("--seeds", default="3", help="how many, or which (3)")
    parser.add_argument("--scales", default=SCALES, help=f"values to choose from ({SCALES})")
    parser.add_argument(
        "--variants",
        default=",".join(VARIANTS),
        help="names, by commas; the sum is always one (all)",
    )
    parser.add_argument("--workers", type=int, default=1, help="runs at a time (1)")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/score-scale"))
    options, rest = parser.parse_known_args(arguments)
    settings = parse_settings(rest)
    seeds = read_seeds(options.seeds)
    names = list(dict.fromkeys([SUM, *listed_names(options.variants)]))
    if not set(names) <= set(VARIANTS):
        raise ConfigError(f"--variants must be some of {', '.join(VARIANTS)}, found {names[1:]}")
    given = parse_yaml(options.scales, "--scales")
    if not isinstance(given, list) or not all(type(scale) in (int, float) for scale in given):
        raise ConfigError(f"--scales must be a list of numbers such as {SCALES}, found {given!r}")
    count = len(modality_names(Config("MARGO", options.dataset, config_dict=settings)))
    scales = sorted({*map(float, given), 1 / count, 1.0})
    root = options.output_dir / options.dataset
    study, pool = dataclasses.replace(COMPARISON, shares_folder=True), Pool(options.workers)
    tuning = [entry(name, scale) for name in names for scale in scales]
    tuned = study.part(
        ComparisonPlan.of(tuning, options.dataset, seeds[:1], settings), root / "tuning", pool
    )
    chosen = {name: best_scale(tuned, name, scales) for name in names}
    final = [entry(name, scale) for name, scale in chosen.items()]
    final += [entry(SUM, 1), entry(SUM, 1 / count), entry("MARGO", 1)]
    final = list({each.label: each for each in final}.values())
    for each in final:
        take_over(each.run_folder(root / "tuning", seeds[0]), each.run_folder(root, seeds[0]))
    over_seeds = study.part(ComparisonPlan.of(final, options.dataset, seeds, settings), root, pool)
    document = Document(
        f"The scale of the scores on {options.dataset}",
        tuple(over_seeds.conditions()),
        (
            Section(
                None,
                (
                    tuning_table(tuned, names, scales),
                    seeds_table(over_seeds, chosen, count),
                    Paragraphs(NOTES),
                ),
            ),
        ),
    )
    write_document(root, "score-scale", document, {})
    sys.stdout.write(f"{terminal_text(document.sections)}\n\nReport: {root}/score-scale.html\n")
    return 0


def entry(variant: str, scale: float) -> Entry:
    """Return what trains a variant at a scale."""
    label = f"{variant}, scale {scale:g}"
    return Entry(label, "MARGO", {**VARIANTS[variant], "score_scale": float(scale)})


def take_over(run: Path, folder: Path) -> None:
    """Copy a finished run, so that it is not trained again."""
    if RunFolder(run).is_finished and not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(run, partial)
        partial.rename(folder)


def best_scale(tuned: Comparison, variant: str, scales: Sequence[float]) -> float:
    """Return the scale of a variant that is best on validation."""
    values = {scale: validation(model_of(tuned, variant, scale)) for scale in scales}
    return max(scales, key=lambda scale: values[scale])


def model_of(comparison: Comparison, variant: str, scale: float) -> ComparedModel:
    """Return a variant at a scale."""
    label = entry(variant, scale).label
    return next(model for model in comparison.models if model.label == label)


def validation(model: ComparedModel) -> float:
    """Return the mean score on validation over the seeds, 0 if none finished."""
    scores = [score for score in model.valid if score is not None]
    return sum(scores) / len(scores) if scores else 0.0


def tuning_table(tuned: Comparison, names: Sequence[str], scales: Sequence[float]) -> Table:
    """Return the scores on validation by variant and scale."""
    rows = []
    for name in names:
        best = best_scale(tuned, name, scales)
        values = [(scale, validation(model_of(tuned, name, scale))) for scale in scales]
        cells = [Cell(f"{value:.4f}", best=scale == best) for scale, value in values]
        rows.append((Cell(name), *cells))
    headers = ("variant", *(f"scale {scale:g}" for scale in scales))
    return Table(f"Validation {tuned.valid_metric} by scale, one seed", headers, tuple(rows))


def seeds_table(compared: Comparison, chosen: Mapping[str, float], count: int) -> Table:
    """Return the chosen variants and the published ones over the seeds."""
    rows = [(f"{SUM}, as published", SUM, 1.0), (f"{SUM}, mean", SUM, 1 / count)]
    rows += [("MARGO, as published", "MARGO", 1.0)]
    rows += [(f"{name}, tuned", name, scale) for name, scale in chosen.items()]
    metric = compared.selection_metric or ""
    tests = {test.label: test for test in compared.tests.get(metric, ())}
    cells = []
    for title, variant, scale in rows:
        model = model_of(compared, variant, scale)
        test, std = tests.get(model.label), model.std.get(metric)
        difference = Cell("–")
        if test is not None:
            text = f"{test.difference:+.4f} [{test.low:+.4f}, {test.high:+.4f}]"
            difference = Cell(text, significant=test.is_significant)
        spread = "" if std is None else f" ± {std:.4f}"
        cells.append(
            (
                Cell(title),
                Cell(f"{scale:g}"),
                Cell(f"{validation(model):.4f}"),
                Cell(f"{model.mean[metric]:.4f}{spread}" if model.has_results else "failed"),
                difference,
            )
        )
    headers = ("variant", "scale", "validation", f"test {metric}", "difference")
    seeds = ", ".join(map(str, compared.seeds))
    return Table(f"Over seeds {seeds}", headers, tuple(cells))


if __name__ == "__main__":
    sys.exit(run_command(main))
