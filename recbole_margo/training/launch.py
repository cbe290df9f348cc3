"""Starts the processes of one machine as torchrun does, and says why one failed.

torch's elastic launcher starts and watches them and ends all when one fails; they meet at a store
of this machine or, where process 0 is elsewhere, of another.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import (
    DefaultLogsSpecs,
    PContext,
    SignalException,
    start_processes,
)
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from recbole_margo.errors import (
    ConfigError,
    DataError,
    LostProcessError,
    RecBoleMargoError,
    TrainingError,
)
from recbole_margo.resources import end_with_parent, inherited_threads, threads_of_each
from recbole_margo.settings.processes import ProcessGroup
from recbole_margo.training.processes import leave

# A process that lost another waits this long, so that the end of the other is seen first.
SECONDS_TO_BE_SECOND = 5.0
SECONDS_TO_OBEY = 10
# What the store has to answer the machine that it is on.
SECONDS_TO_OPEN = 20.0
SECONDS_BETWEEN_LOOKS = 0.1
INTERRUPTED = 130
LONGEST_REPORT = 8000
# The signals that torch's launcher hears, and what it logs under when one comes or a process fails.
HEARD = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
LAUNCHER_LOGS = ("torch.distributed.elastic.multiprocessing.api", "torch.multiprocessing.spawn")


# --- in the process that starts the others --------------------------------------------------------


def launch(work: Callable[..., None], arguments: Sequence[Any], group: ProcessGroup) -> None:
    """Run this machine's processes of a group until all are done.

    Args:
        work: what every process runs, a function of a module.
        arguments: of `work`; picklable values.

    Raises:
        TrainingError: if a process failed; names it and its reason. The others are ended then.
        KeyboardInterrupt: on Ctrl-C, when all processes have ended.
    """
    if multiprocessing.parent_process() is not None:
        raise ConfigError(
            f"this run is one of several at a time (`workers`) and cannot have {group.here} "
            "processes of its own: give either --workers or --nproc"
        )
    store = _store(group)  # open as long as it is named
    threads = threads_of_each(group.here)
    with (
        tempfile.TemporaryDirectory() as reports,
        _signals_and_logs_of_launcher(),
        _ending_all(),
        inherited_threads(threads),
    ):
        context = start_processes(
            "process",
            _work,
            args={local: (work, tuple(arguments), threads) for local in range(group.here)},
            envs=group.variables(store.port if store else group.port),
            logs_specs=DefaultLogsSpecs(reports),
            start_method="spawn",
        )
        failures = _watched(context)
    if failures:
        raise TrainingError(_reason(next(iter(failures.values())), group))


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


def _watched(context: PContext) -> dict[int, ProcessFailure]:
    """Wait until all processes are done or one has failed, which then comes back."""
    try:
        result = context.wait(period=SECONDS_BETWEEN_LOOKS)
    except SignalException:
        context.close(signal.SIGTERM, SECONDS_TO_OBEY)
        raise
    return result.failures if result else {}


@contextmanager
def _signals_and_logs_of_launcher() -> Iterator[None]:
    """Give signals back their meaning that torch's launcher takes, and say what it logs ourselves.

    Raises:
        KeyboardInterrupt: the launcher heard Ctrl-C.
        SystemExit: it heard another signal that ends a process.
    """
    numbers = [getattr(signal, name) for name in HEARD if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    logs = [logging.getLogger(name) for name in LAUNCHER_LOGS]
    try:
        for log in logs:
            log.disabled = True
        yield
    except SignalException as error:
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + error.sigval) from None
    finally:
        for log in logs:
            log.disabled = False
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextmanager
def _ending_all() -> Iterator[None]:
    """Leave no process behind, also after a signal while they started or a second one."""
    before = set(multiprocessing.active_children())
    try:
        yield
    finally:
        for process in set(multiprocessing.active_children()) - before:
            process.kill()


def _reason(failure: ProcessFailure, group: ProcessGroup) -> str:
    rank, code, report = (
        group.offset + failure.local_rank,
        failure.exitcode,
        failure.error_file_data,
    )
    if "traceback" not in report:
        how = f"was ended by {failure.signal_name()}" if code < 0 else f"ended with {code}"
        hint = ", as it is when memory runs out" if code == -getattr(signal, "SIGKILL", 9) else ""
        return f"process {rank} of {group.count} {how}{hint}"
    if report["traceback"]:
        logging.getLogger().error("Process %d of %d:\n%s", rank, group.count, report["traceback"])
    if report["lost another"]:
        return f"{failure.message}; the machine of the process that is gone has the reason"
    return f"process {rank} of {group.count} failed: {failure.message}"


# --- in the processes -----------------------------------------------------------------------------


def _work(work: Callable[..., None], arguments: tuple[Any, ...], threads: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        try:
            work(*arguments)
            leave()
            return
        except LostProcessError:
            time.sleep(SECONDS_TO_BE_SECOND)
            raise
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException as error:
        _report(error)
        code = 1
    # At once: an orderly end would wait for communication that the others have given up.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _interrupt(number: int, frame: Any) -> NoReturn:
    # The terminal and the process that started this one both tell it to end: once is enough.
    for heard in (signal.SIGINT, signal.SIGTERM):
        signal.signal(heard, lambda *_: None)
    raise KeyboardInterrupt


def _report(error: BaseException) -> None:
    expected = isinstance(error, (RecBoleMargoError, DataError))
    message = str(error) if expected else f"{type(error).__name__}: {error}"
    report = {
        "message": message[:LONGEST_REPORT],
        "timestamp": int(time.time()),
        "traceback": "" if expected else traceback.format_exc()[-LONGEST_REPORT:],
        "lost another": isinstance(error, LostProcessError),
    }
    Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(report), encoding="utf-8")
