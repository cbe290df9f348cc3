"""Many calls of one function: in this process, in several of this machine, or on a Ray cluster."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from recbole_margo.errors import ConfigError, TrainingError
from recbole_margo.resources import threads_of_each

Item = TypeVar("Item")
Result = TypeVar("Result")

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_FOR_A_CLUSTER = 10.0
LONGEST_REASON = 200


class LostWorkerError(TrainingError):
    """The system, or somebody, killed a process that worked; what it had begun has no result."""


@dataclass(frozen=True)
class Pool:
    """Who does many calls: this process, several of this machine, or a Ray cluster.

    Args:
        workers: calls at a time; 1: in this process, unless there is a cluster. None: 1 here, and
            all that a cluster has room for.
        cluster: address of a Ray cluster, whose machines have this package, and the data set and
            the folder of the study at the same path; `local` starts one on this machine. A call
            gets a GPU where the cluster has any.

    Raises:
        ConfigError: if `workers` is not a positive whole number, or Ray is not installed.
    """

    workers: int | None = None
    cluster: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and (type(self.workers) is not int or self.workers < 1):
            raise ConfigError(f"`workers` must be a positive whole number, found {self.workers!r}")
        if self.cluster is not None:
            _import_ray()

    @property
    def is_this_process(self) -> bool:
        """Whether the calls are done one after another in this process."""
        return self.cluster is None and self.workers in (None, 1)

    def run(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        """Call a function with every item and yield what it returned, as soon as it has.

        Several processes share the cores of their machine. On Ctrl-C, or when the iterator is
        closed, what still works is ended. A function for several processes must be importable
        there, or picklable by value; its logging goes to the stderr of its own process.

        Yields:
            An item's position and its result, in the order in which they were finished.

        Raises:
            ConfigError: if the cluster cannot be reached.
            LostWorkerError: if a process was killed. On a cluster all others have finished then.
        """
        if self.cluster is not None:
            yield from _on_ray(function, items, self.workers, self.cluster)
        elif self.workers is None or self.workers == 1:
            yield from ((index, function(item)) for index, item in enumerate(items))
        else:
            yield from _in_processes(function, items, self.workers)


HERE = Pool()


def _in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[int, Result]]:
    from joblib import Parallel, delayed, parallel_config

    task = _LocalTask(function, os.getpid(), Path.cwd())
    with parallel_config("loky", inner_max_num_threads=threads_of_each(workers)):
        pool = Parallel(n_jobs=workers, return_as="generator_unordered", pre_dispatch=workers)
        try:
            yield from pool(delayed(task)(index, item) for index, item in enumerate(items))
        except BrokenProcessPool as error:
            raise LostWorkerError(
                "a process of the runs was killed, as it is when memory runs out: continue with "
                "fewer workers"
            ) from error


@dataclass(frozen=True)
class _LocalTask(Generic[Item, Result]):
    """A call in a process of this machine, which ends with the one that started it."""

    function: Callable[[Item], Result]
    parent: int
    folder: Path

    def __call__(self, index: int, item: Item) -> tuple[int, Result]:
        # The terminal sends Ctrl-C to all; the process that started this one decides.
        with suppress(ValueError):  # a thread that is not the main one
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.chdir(self.folder)  # the process may be left over from an earlier pool
        done = threading.Event()
        threading.Thread(target=self._end_with_parent, args=(done,), daemon=True).start()
        try:
            return index, self.function(item)
        finally:
            done.set()

    def _end_with_parent(self, done: threading.Event) -> None:
        """End at once when nobody waits for the result any more."""
        while not done.wait(SECONDS_BETWEEN_LOOKS):
            if os.getppid() != self.parent:
                os._exit(1)


def _on_ray(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None, address: str
) -> Iterator[tuple[int, Result]]:
    # Ray's backend for joblib gives results only when all are there; its tasks give each at once,
    # and a machine that is lost costs only what ran on it.
    with _ray_cluster(address) as ray:
        task = ray.remote(**_needs(ray, workers), max_retries=0)(_run_on_machine)
        function_there = ray.put(function)
        todo = list(enumerate(items))[::-1]
        running: dict[Any, int] = {}
        lost = []
        try:
            while todo or running:
                while todo and (workers is None or len(running) < workers):
                    index, item = todo.pop()
                    running[task.remote(function_there, item, str(Path.cwd()))] = index
                done, _ = ray.wait(list(running), timeout=SECONDS_BETWEEN_LOOKS)
                for reference in done:
                    index = running.pop(reference)
                    try:
                        result = ray.get(reference)
                    except ray.exceptions.RayTaskError as error:
                        raise error.cause from error
                    except ray.exceptions.RayError as error:
                        lost.append(" ".join(str(error).split())[:LONGEST_REASON])
                    else:
                        yield index, result
        finally:
            for reference in running:
                ray.cancel(reference, force=True)
    if lost:
        raise LostWorkerError(
            f"{len(lost)} of {len(items)} runs were lost on the cluster ({lost[0]}): continue, "
            "with fewer workers if memory ran out"
        )


def _run_on_machine(function: Callable[[Item], Result], item: Item, folder: str) -> Result:
    try:
        os.chdir(folder)
    except OSError as error:
        raise ConfigError(
            f"--cluster: expected {folder} on every machine of the cluster, found none on "
            f"{os.uname().nodename} ({error.strerror}): work in a folder that all of them see"
        ) from error
    return function(item)


@contextmanager
def _ray_cluster(address: str) -> Iterator[Any]:
    """Yield the module `ray`, connected to a cluster; one that is connected already stays so."""
    ray = _import_ray()
    if ray.is_initialized():
        yield ray
        return
    # Nothing is told to others.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = {"include_dashboard": False} if address == "local" else {}
    try:
        _check_that_it_answers(address)
        ray.init(address=address, logging_level=logging.WARNING, **own)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"--cluster: cannot reach a Ray cluster at {address!r} ({reason}): start one with "
            "`ray start --head`, or name `local`"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_that_it_answers(address: str) -> None:
    """Raise an `OSError` if nothing listens at HOST:PORT, which Ray tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=SECONDS_FOR_A_CLUSTER).close()


def _needs(ray: Any, workers: int | None) -> dict[str, int]:
    """Return what a call takes of a machine: a GPU where there are any, and its share of cores."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(machine.get("GPU") for machine in machines):
        return {"num_cpus": 1, "num_gpus": 1}
    cores = [int(machine["CPU"]) for machine in machines if machine.get("CPU", 0) >= 1]
    if workers is None or not cores:
        return {"num_cpus": 1}
    on_each = -(-workers // len(cores))
    return {"num_cpus": max(1, min(cores) // on_each)}


def _import_ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            f"--cluster needs ray, and it is not installed ({error}): "
            "pip install 'recbole-margo[ray]'"
        ) from error
