"""The runs of a study: trained unless they are done, and what they have in common only once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from recbole_margo.command_line import one_line
from recbole_margo.config import Config, Settings
from recbole_margo.errors import ConfigError, DataError, RecBoleMargoError
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.run import continue_run, run_config
from recbole_margo.run_folder import FailedRun, RunFolder, RunOutcome
from recbole_margo.settings.processes import SWITCHES
from recbole_margo.studies.runs.memory import pool_that_fits
from recbole_margo.studies.runs.pool import HERE, Pool
from recbole_margo.training.checkpoint import read_trained, write_checkpoint

FIRST_STAGES = "first-stages"


@dataclass(frozen=True)
class Job:
    """One run that is to be there."""

    label: str
    config: Config
    folder: Path


class Progress:
    """Says in the log how many runs are done and how long the others may take."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._started = perf_counter()

    def begun(self, job: Job) -> None:
        """Say which run begins."""
        logging.getLogger().warning("Run %d of %d: %s", self.done + 1, self.total, _named(job))

    def ended(self, job: Job, outcome: RunOutcome) -> None:
        """Say what came out of a run."""
        self.done += 1
        minutes = (perf_counter() - self._started) / 60
        left = minutes / self.done * (self.total - self.done)
        logging.getLogger().warning(
            "Done %d of %d: %s%s; %.1f min so far%s",
            self.done,
            self.total,
            _named(job),
            _score_of(outcome),
            minutes,
            f", about {left:.0f} to go" if left else "",
        )


def run_entry(label: str, config: Config, folder: Path) -> RunOutcome:
    """Train and test unless that is done, going on where an interrupted run stopped.

    Returns:
        The result, or why there is none.
    """
    files = RunFolder(folder)
    try:
        if files.is_finished:
            return files.read_result()
        if not files.is_begun:
            result = run_config(config, folder)
        else:
            given = config.external_config_dict
            switches = {key: given[key] for key in SWITCHES if key in given}
            result = continue_run(files.last_checkpoint, switches)
        if result is None:
            raise ConfigError("process 0 has the result of this run, on another machine")
        return result
    except Exception as error:
        # One model's failure, whatever it is, must not cost the others their results.
        reason = f"{type(error).__name__}: {one_line(error)}"
        if not isinstance(error, (RecBoleMargoError, DataError)):
            where = f"; the traceback is in {files.log}" if files.log.is_file() else ""
            logging.getLogger().error("%s failed: %s%s", label, reason, where)
        return FailedRun(label, reason)


def check_results(folders: Iterable[Path]) -> None:
    """Look whether the records of the runs that have finished can be read.

    Raises:
        CheckpointError: if one is damaged.
    """
    for folder in folders:
        if RunFolder(folder).is_finished:
            RunFolder(folder).read_result()


def run_many(
    jobs: Sequence[Job], pool: Pool = HERE, progress: Progress | None = None
) -> dict[Path, RunOutcome]:
    """Train and test what is not done yet; a run that fails does not keep the others from theirs.

    Args:
        pool: who trains them. Several processes write their epochs to `train.log` alone.
        progress: what says how far it is; none: a new one for these jobs.

    Raises:
        ConfigError: if several are asked for and not one run fits into memory, or the cluster
            cannot be reached.
        TrainingError: if a process was killed; the runs can be continued.
    """
    progress = progress or Progress(len(jobs))
    waiting = [job.config for job in jobs if not RunFolder(job.folder).is_finished]
    pool = pool_that_fits(waiting, pool)
    if pool.is_this_process:

        def run_here(job: Job) -> RunOutcome:
            progress.begun(job)
            return run_entry(job.label, job.config, job.folder)

        outcomes = pool.run(run_here, jobs)
    else:
        plain = [(job.label, job.config.as_plain(), job.folder) for job in jobs]
        outcomes = pool.run(_run_elsewhere, plain)
    done: dict[Path, RunOutcome] = {}
    for index, outcome in outcomes:
        done[jobs[index].folder] = outcome
        progress.ended(jobs[index], outcome)
    return done


def _run_elsewhere(job: tuple[str, Settings, Path]) -> RunOutcome:
    """Run a job in a process of its own, without its epochs on the screen of all."""
    label, values, folder = job
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        screen, sys.stderr = sys.stderr, nowhere
        try:
            return run_entry(label, Config.from_plain(dict(values)), folder)
        finally:
            sys.stderr = screen


def run_sharing_stages(jobs: Sequence[Job], pool: Pool = HERE) -> dict[Path, RunOutcome]:
    """Run jobs as `run_many` does, and train what several of them have in common only once."""
    stages = first_stage_jobs(jobs)
    shared = {stage.folder: stage for stage in stages.values()}
    alone = [job for job in jobs if job.folder not in stages]
    progress = Progress(len(shared) + len(jobs))
    done = run_many([*shared.values(), *alone], pool, progress)
    members = [job for job in jobs if job.folder in stages]
    for job in members:
        continue_from(stages[job.folder], job)
    if members:
        done |= run_many(members, pool, progress)
    for folder in {job.folder.parent / FIRST_STAGES for job in jobs}:
        shutil.rmtree(folder, ignore_errors=True)
    return {job.folder: done[job.folder] for job in jobs}


def first_stage_jobs(jobs: Sequence[Job]) -> dict[Path, Job]:
    """Return the first stages that several of the jobs have in common.

    Args:
        jobs: runs, of which those that are done need no first stage any more.

    Returns:
        By folder of a job, the job that trains its first stage alone; a job that shares its first
        stage with no other is not there.
    """
    waiting = [job for job in jobs if not RunFolder(job.folder).is_begun]
    groups: dict[Path, list[tuple[Job, Job]]] = {}
    for job in waiting:
        stage = _first_stage(job)
        if stage is not None:
            groups.setdefault(stage.folder, []).append((job, stage))
    return {
        job.folder: stage
        for pairs in groups.values()
        if len(pairs) > 1 or RunFolder(pairs[0][1].folder).is_finished
        for job, stage in pairs
    }


def _first_stage(job: Job) -> Job | None:
    """Return the job that trains the first stage of a job alone, if that is possible."""
    model_class = job.config.model_class
    if not issubclass(model_class, MultimodalRecommender) or not model_class.first_stage_settings:
        return None
    values = {**job.config.as_plain(), **model_class.first_stage_settings}
    del values["checkpoint_dir"]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    config = Config.from_plain(values)
    if _stages(config) != _stages(job.config)[:1]:
        return None
    folder = job.folder.parent / FIRST_STAGES / digest[:12]
    return Job(f"first stage of {config['model']}", config, folder)


def _stages(config: Config) -> tuple[str, ...]:
    model_class = config.model_class
    parameters = model_class.parameters_class.from_config(config, model_class)
    stages: tuple[str, ...] = model_class.stages_of(parameters)
    return stages


def continue_from(stage: Job, job: Job) -> None:
    """Let a job go on where its first stage ended, with the numbers it would have had by itself.

    Args:
        stage: the finished run of the first stage.
    """
    done, files = RunFolder(stage.folder), RunFolder(job.folder)
    if not done.is_finished:
        return  # It failed; the job will say why by itself.
    first, *later = _stages(job.config)
    _write_for(job, done.checkpoint, files.stage_checkpoint(first if later else None))
    # Last, because a job with this file has begun.
    _write_for(job, done.last_checkpoint, files.last_checkpoint)


def _write_for(job: Job, state: Path, path: Path) -> None:
    job.config["checkpoint_dir"] = str(job.folder)
    write_checkpoint(path, replace(read_trained(state), config=job.config.as_plain()).as_plain())


def _named(job: Job) -> str:
    return f"{job.label}, seed {job.config['seed']}"


def _score_of(outcome: RunOutcome) -> str:
    if isinstance(outcome, FailedRun):
        return f" FAILED: {outcome.error}"
    score = outcome.stages[-1].best_score
    return "" if score is None else f", {outcome.valid_metric} {score:.4f} on validation"
