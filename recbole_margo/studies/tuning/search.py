"""A search from start to end: trials on validation, then one test of the best values."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from recbole_margo.errors import TrainingError
from recbole_margo.output_folder import taken
from recbole_margo.store.plain import as_plain
from recbole_margo.store.writing import replacing
from recbole_margo.studies.comparison.compare_seeds import PLAN as COMPARISON_PLAN
from recbole_margo.studies.comparison.compare_seeds import compare_seeds, resume_seeds
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.studies.tuning.plan import TuningPlan
from recbole_margo.studies.tuning.report import write_tuning_report
from recbole_margo.studies.tuning.study import (
    best_trial,
    close_abandoned,
    counted_trials,
    open_study,
    prepare_study,
    study_url,
)
from recbole_margo.studies.tuning.summary import best_values, summarize_study
from recbole_margo.studies.tuning.workers import run_here, run_in_processes, run_on_ray

FINAL = "final"
BEST = "best.yaml"


def search(
    plan: TuningPlan,
    folder: Path,
    *,
    url: str | None = None,
    workers: int = 1,
    ray: str | None = None,
) -> dict[str, Any]:
    """Run the trials that are still to be run, train with the best values and test that once.

    Args:
        plan: the search.
        folder: its folder, which holds the plan.
        url: its storage; none: a file in the folder.
        workers: how many trials at the same time, each in a process of its own.
        ray: address of a Ray cluster that runs them instead.

    Returns:
        The summary, as it is in `tuning.json`.

    Raises:
        ConfigError: if another process works on the folder.
        TrainingError: if no trial has a result.
    """
    with taken(folder):
        return _search(plan, folder, url, workers, ray)


def _search(
    plan: TuningPlan, folder: Path, url: str | None, workers: int, ray: str | None
) -> dict[str, Any]:
    try:
        storage = url or study_url(folder)
        study = open_study(plan, storage)
        _run_trials(plan, study, storage, workers, ray)
        if best_trial(study) is None:
            write_tuning_report(folder, summarize_study(plan, study))
            raise TrainingError(
                f"none of {len(counted_trials(study))} trials has a result; "
                f"{folder / 'tuning.md'} says why each failed"
            )
        write_best(folder / BEST, plan, best_values(plan, best_trial(study)))
        # The report is there while the final training, which may be long, goes on.
        write_tuning_report(folder, summarize_study(plan, study))
        summary = summarize_study(plan, study, _test_best(plan, study, folder, workers))
        write_tuning_report(folder, summary)
        return summary
    except KeyboardInterrupt:
        logging.getLogger().warning(
            "Continue the search with recbole-margo tune --resume=%s", folder
        )
        raise


def _run_trials(plan: TuningPlan, study: Any, url: str, workers: int, ray: str | None) -> None:
    """Run trials until as many as planned have ended; a process that dies costs its trial only."""
    prepare_study(plan, study)
    while missing := plan.trials - len(counted_trials(study)):
        reasons: list[Any] = []
        try:
            if ray:
                reasons = run_on_ray(plan, url, missing, ray)
            elif workers > 1:
                reasons = run_in_processes(plan, url, missing, workers)
            else:
                run_here(plan, url, missing)
        except KeyboardInterrupt:
            close_abandoned(study)
            raise
        reason = f"its process ended with {', '.join(map(str, reasons))}, out of memory perhaps"
        lost = close_abandoned(study, reason if reasons else None)
        if reasons and not lost and plan.trials - len(counted_trials(study)) == missing:
            raise TrainingError(f"no trial could be begun: {reason}; the lines above say more")


def write_best(path: Path, plan: TuningPlan, values: Mapping[str, Any]) -> None:
    """Write the settings with which `train` trains what the search found.

    Args:
        path: the file.
        plan: the search.
        values: the best values by key.
    """
    settings = {**plan.settings, **values, "seed": plan.seed}
    text = (
        f"# recbole-margo train --model={plan.model} --dataset={plan.dataset} "
        f"--config_files={path}\n"
    )
    text += yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _test_best(plan: TuningPlan, study: Any, folder: Path, workers: int) -> dict[str, Any]:
    """Train with the best values and every seed, test each once; return the comparison."""
    final = folder / FINAL
    if (final / COMPARISON_PLAN).is_file():
        return dict(as_plain(resume_seeds(final, workers=workers)))
    logging.getLogger().warning("Training with the best values for the test")
    compared = compare_seeds(
        [Entry(plan.model, plan.model, best_values(plan, best_trial(study)))],
        plan.dataset,
        plan.seeds,
        config_dict=plan.settings,
        output_dir=final,
        workers=workers,
    )
    return dict(as_plain(compared))
