"""The study that trains models on features that it corrupts, and knows which items are bad."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from recbole_margo.report import csv_text, write_texts
from recbole_margo.studies.comparison.compare_seeds import COMPARISON
from recbole_margo.studies.comparison.result import Comparison
from recbole_margo.studies.robustness.measure import CorruptedItems, Truth, measure
from recbole_margo.studies.robustness.page import write_robustness_report
from recbole_margo.studies.robustness.plan import RobustnessPlan
from recbole_margo.studies.robustness.result import RobustnessResult
from recbole_margo.studies.runs.pool import Pool
from recbole_margo.studies.runs.study import Study
from recbole_margo.studies.runs.trained_run import TrainedRun

ITEM_COLUMNS = ("step", "item", "modality", "corrupted", "asked", "training_interactions")


def study_robustness(plan: RobustnessPlan, folder: Path, pool: Pool) -> RobustnessResult:
    """Train every model on clean and corrupted features, and report what is lost and detected.

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
    write_robustness_report(folder, result)
    return result


ROBUSTNESS = Study(
    "robustness study", "robustness", "robustness-plan.json", RobustnessPlan, study_robustness
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
