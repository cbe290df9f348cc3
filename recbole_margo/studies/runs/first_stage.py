"""Runs that differ only after their first stage train it once."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_margo.config import Config, config_from_checkpoint
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.run import CHECKPOINT
from recbole_margo.studies.runs.run_entry import LAST_CHECKPOINT, RESULT
from recbole_margo.studies.runs.run_many import Job, Progress, run_many
from recbole_margo.training.checkpoint import plain_config, read_trained, write_checkpoint

FOLDER = "first-stages"


def run_sharing_stages(jobs: Sequence[Job], workers: int = 1) -> dict[Path, dict[str, Any]]:
    """Run jobs as `run_many` does, and train what several of them have in common only once.

    Args:
        jobs: the runs, each with a folder of its own.
        workers: how many processes.

    Returns:
        Result record by folder of the jobs.
    """
    stages = first_stage_jobs(jobs)
    shared = {stage.folder: stage for stage in stages.values()}
    alone = [job for job in jobs if job.folder not in stages]
    progress = Progress(len(shared) + len(jobs))
    done = run_many([*shared.values(), *alone], workers, progress)
    members = [job for job in jobs if job.folder in stages]
    for job in members:
        hand_over(stages[job.folder], job)
    if members:
        done |= run_many(members, workers, progress)
    for folder in {job.folder.parent / FOLDER for job in jobs}:
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
    waiting = [job for job in jobs if not _has_begun(job.folder)]
    groups: dict[Path, list[tuple[Job, Job]]] = {}
    for job in waiting:
        stage = _first_stage(job)
        if stage is not None:
            groups.setdefault(stage.folder, []).append((job, stage))
    return {
        job.folder: stage
        for pairs in groups.values()
        if len(pairs) > 1 or (pairs[0][1].folder / RESULT).is_file()
        for job, stage in pairs
    }


def _has_begun(folder: Path) -> bool:
    return (folder / RESULT).is_file() or (folder / LAST_CHECKPOINT).is_file()


def _first_stage(job: Job) -> Job | None:
    """Return the job that trains the first stage of a job alone, if that is possible."""
    model_class = job.config.model_class
    if not issubclass(model_class, MultimodalRecommender) or not model_class.first_stage_settings:
        return None
    values = {**plain_config(job.config), **model_class.first_stage_settings}
    del values["checkpoint_dir"]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    config = config_from_checkpoint(values)
    if _stages(config) != _stages(job.config)[:1]:
        return None
    folder = job.folder.parent / FOLDER / digest[:12]
    return Job(f"first stage of {config['model']}", config, folder)


def _stages(config: Config) -> tuple[str, ...]:
    model_class = config.model_class
    parameters = model_class.parameters_class.from_config(config, config["model"])
    stages: tuple[str, ...] = model_class.stages_of(parameters)
    return stages


def hand_over(stage: Job, job: Job) -> None:
    """Let a job go on where its first stage ended, with the numbers it would have had by itself.

    Args:
        stage: the finished run of the first stage.
        job: a run that has not begun.
    """
    if not (stage.folder / RESULT).is_file():
        return  # It failed; the job will say why by itself.
    best = read_trained(stage.folder / CHECKPOINT)
    first, *later = _stages(job.config)
    name = f"{Path(CHECKPOINT).stem}-{first}.pth" if later else CHECKPOINT
    _write_for(job, best, job.folder / name)
    # Last, because a job with this file has begun.
    _write_for(job, read_trained(stage.folder / LAST_CHECKPOINT), job.folder / LAST_CHECKPOINT)


def _write_for(job: Job, state: dict[str, Any], path: Path) -> None:
    """Write the state of a first stage as if it were of the job."""
    job.config["checkpoint_dir"] = str(job.folder)
    write_checkpoint(path, {**state, "config": plain_config(job.config)})
