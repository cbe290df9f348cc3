"""Many runs, one after another or in several processes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from recbole_margo.config import Config, config_from_checkpoint
from recbole_margo.errors import TrainingError
from recbole_margo.studies.runs.options import check_workers
from recbole_margo.studies.runs.run_entry import run_entry
from recbole_margo.training.checkpoint import plain_config


@dataclass(frozen=True)
class Job:
    """One run that is to be there.

    Args:
        label: what it is called.
        config: its config.
        folder: its folder.
    """

    label: str
    config: Config
    folder: Path


class Progress:
    """Says in the log how many runs are done and how long the others may take.

    Args:
        total: how many there are.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._started = perf_counter()

    def begun(self, job: Job) -> None:
        """Say which run begins."""
        logging.getLogger().warning("Run %d of %d: %s", self.done + 1, self.total, _named(job))

    def ended(self, job: Job, record: Mapping[str, Any]) -> None:
        """Say what came out of a run."""
        self.done += 1
        minutes = (perf_counter() - self._started) / 60
        left = minutes / self.done * (self.total - self.done)
        logging.getLogger().warning(
            "Done %d of %d: %s%s; %.1f min so far%s",
            self.done,
            self.total,
            _named(job),
            _result_of(record),
            minutes,
            f", about {left:.0f} to go" if left else "",
        )


def run_many(
    jobs: Sequence[Job], workers: int = 1, progress: Progress | None = None
) -> dict[Path, dict[str, Any]]:
    """Train and test what is not done yet; a run that fails does not keep the others from theirs.

    Args:
        jobs: the runs, each with a folder of its own.
        workers: how many processes; 1: this one. Several share the cores among them and write
            their epochs to `train.log` alone.
        progress: what says how far it is; none: a new one for these jobs.

    Returns:
        Result record by folder; `status` is `finished` or `failed`.

    Raises:
        ConfigError: if `workers` is not a positive number.
        TrainingError: if the system killed one of several processes; the runs can be continued.
    """
    check_workers(workers)
    progress = progress or Progress(len(jobs))
    records: dict[Path, dict[str, Any]] = {}
    outcomes = _one_by_one(jobs, progress) if workers == 1 else _in_processes(jobs, workers)
    for job, record in outcomes:
        records[job.folder] = record
        progress.ended(job, record)
    return records


def _one_by_one(jobs: Sequence[Job], progress: Progress) -> Iterator[tuple[Job, dict[str, Any]]]:
    for job in jobs:
        progress.begun(job)
        yield job, run_entry(job.label, job.config, job.folder)


def _in_processes(jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    from joblib import Parallel, delayed, parallel_config

    threads = max(1, (os.cpu_count() or 1) // workers)
    with parallel_config("loky", inner_max_num_threads=threads):
        pool = Parallel(n_jobs=workers, return_as="generator_unordered", pre_dispatch=workers)
        tasks = [
            delayed(_run_elsewhere)(index, job.label, plain_config(job.config), job.folder)
            for index, job in enumerate(jobs)
        ]
        try:
            for index, record in pool(tasks):
                yield jobs[index], record
        except BrokenProcessPool as error:
            raise TrainingError(
                "a process of the runs was killed, as it is when memory runs out: continue with "
                "fewer workers"
            ) from error


def _run_elsewhere(
    index: int, label: str, values: Mapping[str, Any], folder: Path
) -> tuple[int, dict[str, Any]]:
    """Run a job in a process of its own, without its epochs on the screen of all."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        screen, sys.stderr = sys.stderr, nowhere
        try:
            return index, run_entry(label, config_from_checkpoint(dict(values)), folder)
        finally:
            sys.stderr = screen


def _named(job: Job) -> str:
    return f"{job.label}, seed {job.config['seed']}"


def _result_of(record: Mapping[str, Any]) -> str:
    if record["status"] != "finished":
        return f" FAILED: {record['error']}"
    metric = str(record["valid_metric"])
    score = record["stages"][-1]["best_score"]
    return "" if score is None else f", {metric} {score:.4f} on validation"
