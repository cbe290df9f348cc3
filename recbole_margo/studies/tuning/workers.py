"""Who runs the trials: this process, several on this machine, or a Ray cluster."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
import threading
from typing import Any

from recbole_margo.errors import RecBoleMargoError
from recbole_margo.resources import end_with_parent, inherited_threads, threads_of_each
from recbole_margo.studies.tuning.libraries import import_ray
from recbole_margo.studies.tuning.plan import TuningPlan
from recbole_margo.studies.tuning.trial import run_trial

SECONDS_BETWEEN_LOOKS = 2.0
TERMINATED = 128 + signal.SIGTERM


def run_here(plan: TuningPlan, url: str, count: int) -> None:
    """Run trials one after another in this process.

    Args:
        plan: the search.
        url: storage of its study.
        count: how many trials.
    """
    for _ in range(count):
        run_trial(plan, url)


def run_in_processes(plan: TuningPlan, url: str, count: int, workers: int) -> list[int]:
    """Run trials in processes of this machine, which share its cores among them.

    Args:
        plan: the search.
        url: storage of its study.
        count: how many trials.
        workers: how many processes.

    Returns:
        How the processes ended, other than well: their exit codes.
    """
    context = multiprocessing.get_context("spawn")
    tickets = context.Semaphore(count)
    threads = threads_of_each(workers)
    processes = [
        context.Process(target=_work, args=(plan, url, tickets, threads))
        for _ in range(min(workers, count))
    ]
    with inherited_threads(threads):
        for process in processes:
            process.start()
    try:
        for process in processes:
            process.join()
    except KeyboardInterrupt:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
        raise
    return [process.exitcode for process in processes if process.exitcode]


def _work(plan: TuningPlan, url: str, tickets: Any, threads: int) -> None:
    """Run trials while there are tickets; what a process of `run_in_processes` does."""
    import torch

    # The terminal sends Ctrl-C to all; the process that started this one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # An orderly exit gives back what this process holds of the system.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    torch.set_num_threads(threads)
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    threading.Thread(target=end_with_parent, daemon=True).start()
    while tickets.acquire(block=False):
        run_trial(plan, url, parallel=True)


def run_on_ray(plan: TuningPlan, url: str, count: int, address: str) -> list[str]:
    """Run trials as tasks of a Ray cluster, each with one core and, where there are any, a GPU.

    Every machine needs this package, the dataset at the same path, and a way to the storage.

    Args:
        plan: the search.
        url: storage of its study, which all machines reach.
        count: how many trials.
        address: of the cluster; `local` starts one on this machine.

    Returns:
        Why tasks ended, other than well.

    Raises:
        RecBoleMargoError: if the cluster cannot be reached.
    """
    ray = import_ray()
    try:
        ray.init(address=address, log_to_driver=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise RecBoleMargoError(
            f"--ray: cannot reach a cluster at {address!r} ({error}): start one with "
            "`ray start --head`, or name `local`"
        ) from error
    try:
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        # A trial that was lost counts as failed; Ray would run it as another one.
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(run_trial)
        waiting = [task.remote(plan, url, True) for _ in range(count)]
        failures = []
        while waiting:
            done, waiting = ray.wait(waiting, timeout=SECONDS_BETWEEN_LOOKS)
            for reference in done:
                try:
                    ray.get(reference)
                except ray.exceptions.RayError as error:
                    failures.append(str(error).strip().splitlines()[-1])
        return failures
    finally:
        ray.shutdown()
