"""A search from start to end: trials on validation, then one test of the best values."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from recbole_margo.errors import TrainingError
from recbole_margo.output_folder import locked_folder
from recbole_margo.store.writing import replacing
from recbole_margo.studies.comparison.compare_seeds import PLAN as COMPARISON_PLAN
from recbole_margo.studies.comparison.compare_seeds import compare_seeds, resume_seeds
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.studies.runs.memory import workers_that_fit
from recbole_margo.studies.runs.pool import LostWorkerError, run_in_pool
from recbole_margo.studies.tuning.page import write_tuning_report
from recbole_margo.studies.tuning.plan import TuningPlan
from recbole_margo.studies.tuning.result import FinalResult, Tuning
from recbole_margo.studies.tuning.trials import (
    best_trial,
    close_abandoned,
    counted_trials,
    log_trial,
    open_study,
    prepare_study,
    run_trial,
    study_url,
)

if TYPE_CHECKING:
    from optuna import Study

FINAL = "final"
BEST = "best.yaml"


def search(
    plan: TuningPlan,
    folder: Path,
    *,
    url: str | None = None,
    workers: int | None = None,
    cluster: str | None = None,
) -> Tuning:
    """Run the trials that are still to be run, train with the best values and test that once.

    Args:
        plan: the search.
        folder: its folder, which holds the plan.
        url: its storage; none: a file in the folder.
        workers: trials at the same time; none: 1 here, and all that a cluster has room for.
        cluster: address of a Ray cluster that runs them instead.

    Raises:
        ConfigError: if another process works on the folder.
        TrainingError: if no trial has a result.
    """
    with locked_folder(folder):
        try:
            storage = url or study_url(folder)
            study = open_study(plan, storage)
            _run_trials(plan, study, storage, workers, cluster)
            # The report is there while the final training, which may be long, goes on.
            write_tuning_report(folder, Tuning.of(plan, study))
            best = best_trial(study)
            if best is None:
                raise TrainingError(
                    f"none of {len(counted_trials(study))} trials has a result; "
                    f"{folder / 'tuning.md'} says why each failed"
                )
            values = plan.chosen(best)
            _write_best(folder / BEST, plan, values)
            final = _train_best(plan, values, folder / FINAL, workers, cluster)
            found = Tuning.of(plan, study, final)
            write_tuning_report(folder, found)
        except KeyboardInterrupt:
            logging.getLogger().warning(
                "Continue the search with recbole-margo tune --resume=%s", folder
            )
            raise
    return found


@dataclass(frozen=True)
class _RunTrial:
    """Runs one more trial, whatever its number; what the processes of a search are given."""

    plan: TuningPlan
    url: str
    parallel: bool

    def __call__(self, _: int) -> int:
        return run_trial(self.plan, self.url, self.parallel)


def _run_trials(
    plan: TuningPlan, study: Study, url: str, workers: int | None, cluster: str | None
) -> None:
    """Run trials until as many as planned count; those that a dying process took are tried again.

    That happens one at a time, so that two which together need too much memory do not die again,
    and one that needs too much by itself takes no other along.
    """
    prepare_study(plan, study)
    if cluster is None and workers is not None:
        workers = workers_that_fit([plan.config({})], workers)
    parallel = cluster is not None or workers not in (None, 1)
    lost = 0
    while missing := plan.trials - len(counted_trials(study)):
        count = 1 if lost else missing
        try:
            one_more = _RunTrial(plan, url, parallel)
            for _, number in run_in_pool(one_more, range(count), workers, cluster):
                log_trial(plan, study, number)
            lost = max(0, lost - 1)
        except KeyboardInterrupt:
            close_abandoned(study)
            raise
        except LostWorkerError as error:
            closed = close_abandoned(study, f"its process was lost: {error}")
            if not closed and plan.trials - len(counted_trials(study)) == missing:
                raise TrainingError(
                    f"no trial could be begun: {error}; the lines above say more"
                ) from error
            lost = lost - 1 if lost else closed


def _write_best(path: Path, plan: TuningPlan, values: Mapping[str, Any]) -> None:
    """Write the settings with which `train` trains what the search found."""
    settings = {**plan.settings, **values, "seed": plan.seed}
    text = (
        f"# recbole-margo train --model={plan.model} --dataset={plan.dataset} "
        f"--config_files={path}\n"
    )
    text += yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _train_best(
    plan: TuningPlan,
    values: Mapping[str, Any],
    folder: Path,
    workers: int | None,
    cluster: str | None,
) -> FinalResult:
    """Train with the best values and every seed, and test each once."""
    if (folder / COMPARISON_PLAN).is_file():
        return FinalResult.of(resume_seeds(folder, workers=workers, cluster=cluster))
    logging.getLogger().warning("Training with the best values for the test")
    comparison = compare_seeds(
        [Entry(plan.model, plan.model, values)],
        plan.dataset,
        plan.seeds,
        config_dict=plan.settings,
        output_dir=folder,
        workers=workers,
        cluster=cluster,
    )
    return FinalResult.of(comparison)
