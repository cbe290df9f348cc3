"""A benchmark with a ground truth: some items' features are corrupted, and we know which."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbole_margo.config import Config
from recbole_margo.errors import ConfigError
from recbole_margo.output_folder import check_unused, taken
from recbole_margo.report.files import csv_text, write_texts
from recbole_margo.store.plain import as_plain
from recbole_margo.studies.comparison.ablation import FULL_MODEL
from recbole_margo.studies.comparison.compare_seeds import PLAN as COMPARISON_PLAN
from recbole_margo.studies.comparison.compare_seeds import compare_seeds, resume_seeds
from recbole_margo.studies.comparison.report_summary import finished_seeds
from recbole_margo.studies.robustness.items import CorruptedItems
from recbole_margo.studies.robustness.plan import PLAN, RobustnessPlan
from recbole_margo.studies.robustness.report import write_robustness_report
from recbole_margo.studies.robustness.summary import Truth, summarize_robustness
from recbole_margo.studies.runs.entry import require_part
from recbole_margo.studies.runs.trained_run import TrainedRun

COMPARISON = "comparison"
ITEM_COLUMNS = ("step", "item", "modality", "corrupted", "asked", "training_interactions")


def study_robustness(
    plan: RobustnessPlan,
    output_dir: str | Path,
    workers: int | None = None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Train every model on clean and corrupted features, and report what is lost and detected.

    Args:
        plan: the study.
        output_dir: folder of the study, new or empty.
        workers: trainings at a time.
        cluster: address of a Ray cluster that trains them.

    Returns:
        The summary, as it is in `robustness.json`.

    Raises:
        RecBoleMargoError: on bad input, before anything is trained.
    """
    folder = Path(output_dir)
    plan.check()
    config = Config(FULL_MODEL, plan.dataset, config_dict=dict(plan.settings))
    require_part(config, "test", "a robustness study")
    check_unused(folder, "study")
    with taken(folder):
        check_unused(folder, "study")
        plan.write(folder)
        try:
            return _run(plan, folder, workers, cluster)
        except ConfigError:
            # What the comparison refused before it began leaves nothing to resume.
            if not (folder / COMPARISON).exists():
                (folder / PLAN).unlink()
            raise


def resume_robustness(
    folder: str | Path, workers: int | None = None, cluster: str | None = None
) -> dict[str, Any]:
    """Continue an interrupted study: what has finished is kept, the report is written anew.

    Args:
        folder: the study's folder.
        workers: trainings at a time.
        cluster: address of a Ray cluster that trains them.

    Returns:
        The summary.

    Raises:
        CheckpointError: if the folder holds no study.
    """
    plan = RobustnessPlan.read(Path(folder))
    with taken(Path(folder)):
        return _run(plan, Path(folder), workers, cluster)


def _run(
    plan: RobustnessPlan, folder: Path, workers: int | None, cluster: str | None
) -> dict[str, Any]:
    root = folder / COMPARISON
    try:
        if (root / COMPARISON_PLAN).is_file():
            comparison = as_plain(resume_seeds(root, workers, cluster))
        else:
            comparison = as_plain(
                compare_seeds(
                    plan.entries(),
                    plan.dataset,
                    plan.seeds,
                    config_dict=plan.settings,
                    output_dir=root,
                    workers=workers,
                    cluster=cluster,
                )
            )
        truth = _truth(plan, comparison, root)
    except KeyboardInterrupt:
        logging.getLogger().warning("Continue with recbole-margo robustness --resume=%s", folder)
        raise
    summary = summarize_robustness(plan, comparison, truth)
    write_texts(folder, _tables_of_items(truth))
    write_robustness_report(folder, summary)
    return summary


def _truth(plan: RobustnessPlan, comparison: dict[str, Any], root: Path) -> Truth:
    """Return the corrupted items of each step above 0 by seed, as far as runs finished."""
    by_label = {model["label"]: model for model in comparison["models"]}
    truth: dict[float, dict[int, CorruptedItems]] = {}
    for step in plan.steps:
        if step == 0 or plan.kind == "missing":
            continue
        truth[step] = {}
        for seed in plan.seeds:
            runs = {}
            for model in plan.models:
                entry = plan.entry(model, step)
                if seed in finished_seeds(comparison, by_label[entry.label]):
                    runs[model] = TrainedRun.read(entry.run_folder(root, seed))
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


def _rows_of_items(step: float, draw: CorruptedItems) -> Iterator[dict[str, Any]]:
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
