"""`recbole-margo tune`: a search from start to end, trials on validation, then one test."""

from __future__ import annotations

import argparse
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from recbole_margo.command_line import comma_separated, command_parser
from recbole_margo.config import Settings
from recbole_margo.errors import ConfigError, TrainingError
from recbole_margo.store.writing import replacing
from recbole_margo.studies.comparison.command import COMPARISON
from recbole_margo.studies.comparison.plan import ComparisonPlan
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.studies.runs.memory import pool_that_fits
from recbole_margo.studies.runs.pool import LostWorkerError, Pool
from recbole_margo.studies.runs.study import Study, add_pool_options, read_seeds
from recbole_margo.studies.tuning.plan import TuningPlan
from recbole_margo.studies.tuning.report import BEST, tuning_report
from recbole_margo.studies.tuning.result import FinalResult, Tuning
from recbole_margo.studies.tuning.trials import (
    best_trial,
    close_abandoned,
    counted_trials,
    import_optuna,
    log_trial,
    open_study,
    prepare_study,
    run_trial,
    shown_url,
    study_url,
)

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy


def search(plan: TuningPlan, folder: Path, pool: Pool, url: str | None = None) -> Tuning:
    """Run the trials that are still to be run, train with the best values and test that once.

    Args:
        pool: who runs the trials, and trains with the best values.
        url: its storage; none: a file in the folder.

    Raises:
        ConfigError: if it is not the plan's storage, or cannot be reached.
        TrainingError: if no trial has a result.
    """
    _check_storage(plan, url)
    storage = url or study_url(folder)
    study = open_study(plan, storage)
    _run_trials(plan, study, storage, pool)
    # The report is there while the final training, which may be long, goes on.
    tuning_report(Tuning.of(plan, study)).write(folder)
    best = best_trial(study)
    if best is None:
        raise TrainingError(
            f"none of {len(counted_trials(study))} trials has a result; "
            f"{folder / 'tuning.md'} says why each failed"
        )
    values = plan.chosen(best)
    _write_best(folder / BEST, plan, values)
    logging.getLogger().warning("Training with the best values for the test")
    final = ComparisonPlan.of(
        [Entry(plan.model, plan.model, values)], plan.dataset, plan.seeds, plan.settings
    )
    compared = COMPARISON.part(final, folder / "final", pool)
    return Tuning.of(plan, study, FinalResult.of(compared))


TUNING = Study("search", "tune", "tuning-plan.json", TuningPlan, search, tuning_report)


def _check_storage(plan: TuningPlan, url: str | None) -> None:
    if plan.storage is not None and not url:
        raise ConfigError(
            f"the trials of this search are in {plan.storage}: name it again with --storage="
        )
    if url and shown_url(url) != plan.storage:
        raise ConfigError(
            f"--storage: expected {plan.storage or 'none, the trials are in the folder'}, "
            f"found {shown_url(url)}"
        )


@dataclass(frozen=True)
class _RunTrial:
    """Runs one more trial, whatever its number; what the processes of a search are given."""

    plan: TuningPlan
    url: str
    parallel: bool

    def __call__(self, _: int) -> int:
        return run_trial(self.plan, self.url, self.parallel)


def _run_trials(plan: TuningPlan, study: OptunaStudy, url: str, pool: Pool) -> None:
    """Run trials until as many as planned count; those that a dying process took are tried again.

    That happens one at a time, so that two which together need too much memory do not die again,
    and one that needs too much by itself takes no other along.
    """
    prepare_study(plan, study)
    pool = pool_that_fits([plan.config({})], pool)
    lost = 0
    while missing := plan.trials - len(counted_trials(study)):
        count = 1 if lost else missing
        try:
            one_more = _RunTrial(plan, url, parallel=not pool.is_this_process)
            for _, number in pool.run(one_more, range(count)):
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


def _write_best(path: Path, plan: TuningPlan, values: Settings) -> None:
    settings = {**plan.settings, **values, "seed": plan.seed}
    text = (
        f"# recbole-margo train --model={plan.model} --dataset={plan.dataset} "
        f"--config_files={path}\n"
    )
    text += yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


EXAMPLES = """\
examples:
  recbole-margo tune --trials=20                        all published ranges of MARGO
  recbole-margo tune --over alpha,tau,learning_rate --workers=2 --seeds=3
  recbole-margo tune --model=BPR --over learning_rate --space 'embedding_size=[32, 64, 128]'
  recbole-margo tune --model=FREEDOM --space 'weight_decay=[1e-6, 1e-3, log]' --dataset=baby
  recbole-margo tune --resume=runs/20260101-120000-ml-100k

A space is [low, high, log], [low, high, linear] or a list of values. Every other --key=value is a
setting of all trials, as in `train`. `--seed` seeds the search and the training of every trial.
"""


def tune(arguments: Sequence[str]) -> int:
    """Run `recbole-margo tune` and return its exit status, 1 if the final training failed."""
    options, rest = _parser().parse_known_args(arguments)
    import_optuna()
    if options.cluster not in (None, "local") and not options.storage:
        raise ConfigError(
            "--cluster needs a storage that all machines of the cluster reach, such as "
            "--storage=postgresql://USER:PASSWORD@HOST/DATABASE"
        )
    decided = ("model", "dataset", "trials", "over", "space", "seeds", "output_dir")
    given = [name for name in (*decided, "config_files") if getattr(options, name)]
    study = replace(TUNING, work=partial(search, url=options.storage))
    return study.run_command(options, rest, lambda own: _new_plan(options, own), given)


def _new_plan(options: argparse.Namespace, settings: Settings) -> TuningPlan:
    over = comma_separated(options.over or "")
    return TuningPlan.make(
        "MARGO" if options.model is None else options.model,
        "ml-100k" if options.dataset is None else options.dataset,
        settings,
        over=over,
        own_space=options.space or (),
        trials=20 if options.trials is None else options.trials,
        seeds=() if options.seeds is None else read_seeds(options.seeds),
        # In a storage for several searches each has a name of its own.
        study=f"tune-{secrets.token_hex(4)}" if options.storage else "tune",
        storage=shown_url(options.storage) if options.storage else None,
    )


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "tune",
        "Search a model's hyper-parameters by their validation score, then train with "
        "the best values and test that once. The test set takes no part in the search.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("--model", help="name of the model (MARGO)")
    add("--dataset", help="name of the dataset (ml-100k)")
    add("--trials", type=int, help="how many trials, pruned and failed ones included (20)")
    add("--over", metavar="KEY,KEY", help="what to search (all that has a published range)")
    add("--space", action="append", metavar="KEY=SPACE", help="a range of your own; repeatable")
    add("--seeds", help="seeds of the final training: how many, or which (the search's)")
    add("--config_files", help="YAML files, separated by blanks")
    add("--output_dir", help="folder of the search (runs/<time>-<dataset>)")
    add("--resume", metavar="DIR", help="search to continue, with --workers, --storage, --cluster")
    add("--storage", metavar="URL", help="database for the trials (a file in the folder)")
    add_pool_options(parser, "trials")
    add("--ray", dest="cluster", help=argparse.SUPPRESS)
    return parser
