"""Starts the processes of one machine, watches them and ends them all when one fails."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from recbole_margo.errors import ConfigError, DataError, RecBoleMargoError, TrainingError
from recbole_margo.training.child_processes import (
    end_with_parent,
    inherited_threads,
    threads_of_each,
)
from recbole_margo.training.lost_process_error import LostProcessError
from recbole_margo.training.process_group import ProcessGroup

# What a process has to end by itself, after another failed and after it was told to.
SECONDS_TO_NOTICE, SECONDS_TO_OBEY = 5.0, 10.0
# What the store has to answer the machine that it is on.
SECONDS_TO_OPEN = 20.0
INTERRUPTED = 130
LONGEST_REPORT = 8000

# What a process does: its number on this machine, its number of all, where the store is.
Work = Callable[[int, int, tuple[str, int]], None]


@dataclass(frozen=True)
class _Failure:
    """Why a process ended."""

    message: str
    traceback: str
    # Whether it ended because another one was gone, which then has the reason.
    follows: bool


def launch(work: Callable[..., None], arguments: Sequence[Any], group: ProcessGroup) -> None:
    """Run this machine's processes of a group until all are done.

    Args:
        work: what every process runs, a function of a module; it gets the number of the process on
            this machine, its number of all, host and port of the store where they meet, and
            `arguments`.
        arguments: picklable values.
        group: the processes.

    Raises:
        TrainingError: if a process failed; names it and its reason. The others are ended then.
        KeyboardInterrupt: passed on when all processes have ended.
    """
    if multiprocessing.parent_process() is not None:
        raise ConfigError(
            f"this run is one of several at a time (`workers`) and cannot have {group.here} "
            "processes of its own: give either --workers or --nproc"
        )
    context = multiprocessing.get_context("spawn")
    threads = threads_of_each(group.here)
    store = _store(group)
    meeting = (group.host, store.port if store else group.port)
    pipes = [context.Pipe(duplex=False) for _ in range(group.here)]
    processes = [
        context.Process(
            target=_run,
            args=(work, (local, group.offset + local, meeting, *arguments), threads, pipe[1]),
        )
        for local, pipe in enumerate(pipes)
    ]
    try:
        with inherited_threads(threads):
            for process, pipe in zip(processes, pipes, strict=True):
                process.start()
                pipe[1].close()
        failed = _first_that_failed(processes)
        if failed is not None:
            _wait_for(processes, SECONDS_TO_NOTICE)
        codes = [process.exitcode for process in processes]
    finally:
        _end(processes)
    if failed is not None:
        raise TrainingError(_reason(failed, codes, [_report(pipe[0]) for pipe in pipes], group))


def _store(group: ProcessGroup) -> Any:
    """Return the store where the processes meet, if it is on this machine; its port is open."""
    if not group.is_first:
        return None
    try:
        return dist.TCPStore(  # type: ignore[attr-defined]
            group.host,
            group.port,
            is_master=True,
            wait_for_workers=False,
            timeout=timedelta(seconds=SECONDS_TO_OPEN),
        )
    except RuntimeError as error:
        raise ConfigError(
            f"the processes cannot meet at {group.host}:{group.port} ({error}): name an address of "
            "this machine with --ip and a free --port, or leave --port out if all processes are "
            "on this machine"
        ) from error


# --- in the parent --------------------------------------------------------------------------------


def _first_that_failed(processes: Sequence[Any]) -> int | None:
    """Wait for all processes, or for the first that fails; return its number here."""
    running = {process.sentinel: number for number, process in enumerate(processes)}
    while running:
        for sentinel in multiprocessing.connection.wait(list(running)):
            number = running.pop(sentinel)
            processes[number].join()
            if processes[number].exitcode:
                return number
    return None


def _wait_for(processes: Sequence[Any], seconds: float) -> None:
    """Wait until all processes have ended, or for that long."""
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))


def _end(processes: Sequence[Any]) -> None:
    """End what still runs: by asking, and what does not obey by force."""
    started = [process for process in processes if process.pid is not None]
    try:
        for process in started:
            process.terminate()
        _wait_for(started, SECONDS_TO_OBEY)
    finally:  # a second Ctrl-C must not leave any behind
        for process in started:
            process.kill()
        _wait_for(started, SECONDS_TO_OBEY)


def _report(pipe: Any) -> _Failure | None:
    try:
        report: _Failure | None = pipe.recv() if pipe.poll() else None
    except EOFError:
        return None
    return report


def _reason(
    first: int,
    codes: Sequence[int | None],
    reports: Sequence[_Failure | None],
    group: ProcessGroup,
) -> str:
    """Say which process failed and why.

    Args:
        first: the process whose end was seen first; others may have failed before.
        codes: exit codes before any process was ended, none of those that still ran.
        reports: what the processes said.
        group: the processes.
    """
    failed = [number for number, report in enumerate(reports) if report and not report.follows]
    died = [
        number
        for number, code in enumerate(codes)
        if code not in (None, 0, INTERRUPTED) and reports[number] is None
    ]
    number = [*failed, *died, first][0]
    report, rank = reports[number], group.offset + number
    if report is None:
        code = codes[number] or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        hint = ", as it is when memory runs out" if code == -signal.SIGKILL else ""
        return f"process {rank} of {group.count} {how}{hint}"
    if report.traceback:
        logging.getLogger().error("Process %d of %d:\n%s", rank, group.count, report.traceback)
    if report.follows:
        return f"{report.message}; the machine of the process that is gone has the reason"
    return f"process {rank} of {group.count} failed: {report.message}"


# --- in the processes -----------------------------------------------------------------------------


def _run(work: Callable[..., None], arguments: tuple[Any, ...], threads: int, pipe: Any) -> None:
    """Do the work of one process, and report why if it fails."""
    # The terminal sends Ctrl-C to all; the process that started this one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        work(*arguments)
        return
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException as error:
        expected = isinstance(error, (RecBoleMargoError, DataError))
        message = str(error) if expected else f"{type(error).__name__}: {error}"
        message = message[:LONGEST_REPORT]
        # Short, for the pipe must take it while nobody reads.
        shown = "" if expected else traceback.format_exc()[-LONGEST_REPORT:]
        pipe.send(_Failure(message, shown, isinstance(error, LostProcessError)))
        code = 1
    # At once: an orderly end would wait for communication that the others have given up.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _interrupt(signal_number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt
