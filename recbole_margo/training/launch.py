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
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from recbole_margo.training.processes import leave

# The keys of a config that say which processes train; the numbers do not depend on them.
SWITCHES = ("nproc", "world_size", "group_offset", "offset", "ip", "port")
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


@dataclass(frozen=True)
class ProcessGroup:
    """One model's training in several processes, as RecBole's switches describe it.

    Args:
        here: processes that this machine starts (`nproc`).
        count: processes on all machines (`world_size`).
        offset: number of the first process of this machine (`group_offset`).
        host: the machine of process 0 (`ip`).
        port: where the processes meet on that machine; 0: any free one.
    """

    here: int = 1
    count: int = 1
    offset: int = 0
    host: str = "localhost"
    port: int = 0

    @classmethod
    def of_config(cls, config: Any) -> ProcessGroup:
        """Read `nproc`, `world_size`, `group_offset` (or `offset`), `ip` and `port`.

        Args:
            config: a config, or a mapping that has `get`'s meaning of a missing key.

        Raises:
            ConfigError: if they do not fit together.
        """

        def value(key: str, default: Any) -> Any:
            return default if config[key] is None else config[key]

        here = _whole("nproc", value("nproc", 1), 1)
        count = _whole("world_size", value("world_size", -1), -1)
        count = here if count <= 0 else count
        offset = _whole("group_offset", value("group_offset", value("offset", 0)), 0)
        host, port = str(value("ip", "localhost")), _port(value("port", 0))
        if offset + here > count:
            raise ConfigError(
                f"`world_size` counts the processes of all machines: nproc={here} from "
                f"group_offset={offset} on needs world_size={offset + here} or more, found {count}"
            )
        if count > here and not port:
            raise ConfigError(
                f"{count - here} of {count} processes (`world_size`) are on other machines: name "
                "where all meet, --ip=ADDRESS --port=NUMBER of the machine with group_offset=0"
            )
        return cls(here, count, offset, host, port)

    @property
    def is_first(self) -> bool:
        """Whether process 0 is on this machine."""
        return self.offset == 0

    def variables(self, port: int) -> dict[int, dict[str, str]]:
        """Return what torchrun would tell each process of this machine, by its number here.

        Args:
            port: of the store where all meet.
        """
        shared = {
            "WORLD_SIZE": self.count,
            "LOCAL_WORLD_SIZE": self.here,
            "MASTER_ADDR": self.host,
            "MASTER_PORT": port,
            "TORCHELASTIC_USE_AGENT_STORE": True,
            "TORCHELASTIC_RESTART_COUNT": 0,
        }
        return {
            local: {
                name: str(value)
                for name, value in {
                    **shared,
                    "RANK": self.offset + local,
                    "LOCAL_RANK": local,
                }.items()
            }
            for local in range(self.here)
        }


def _whole(key: str, value: Any, low: int) -> int:
    if type(value) is not int or value < low:
        raise ConfigError(f"`{key}` must be a whole number from {low} on, found {value!r}")
    return value


def _port(value: Any) -> int:
    text = str(value)
    if not text.isdigit() or int(text) > 65535:
        raise ConfigError(f"`port` must be a number up to 65535, found {value!r}")
    return int(text)


def check_other_machines(
    stored: Mapping[str, Any], said: Mapping[str, Any], where: str | Path
) -> None:
    """Refuse settings from a file that name other machines, unless the user names them too.

    Processes that train together send each other pickles: who meets a process can run any program
    in it.

    Args:
        stored: settings from a file.
        said: what the user gave with the command.
        where: the file or folder, for the message.

    Raises:
        ConfigError: says what to give.
    """
    group = ProcessGroup.of_config(defaultdict(lambda: None, stored))
    meeting = {"world_size": group.count, "ip": group.host, "port": group.port}
    if group.count > group.here and any(str(said.get(k)) != str(v) for k, v in meeting.items()):
        raise ConfigError(
            f"{where} names processes on other machines, which could run any program here. If they "
            "are yours, give them with the command too: "
            + " ".join(f"--{key}={ascii(str(value))[1:-1]}" for key, value in meeting.items())
        )


# --- in the process that starts the others --------------------------------------------------------


def launch(work: Callable[..., None], arguments: Sequence[Any], group: ProcessGroup) -> None:
    """Run this machine's processes of a group until all are done.

    Args:
        work: what every process runs, a function of a module.
        arguments: of `work`; picklable values.
        group: the processes.

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
    """Say which process failed and why."""
    rank, code, report = (
        group.offset + failure.local_rank,
        failure.exitcode,
        failure.error_file_data,
    )
    if "traceback" not in report:
        how = f"was ended by {failure.signal_name()}" if code < 0 else f"ended with {code}"
        hint = ", as it is when memory runs out" if code == -signal.SIGKILL else ""
        return f"process {rank} of {group.count} {how}{hint}"
    if report["traceback"]:
        logging.getLogger().error("Process %d of %d:\n%s", rank, group.count, report["traceback"])
    if report["lost another"]:
        return f"{failure.message}; the machine of the process that is gone has the reason"
    return f"process {rank} of {group.count} failed: {failure.message}"


# --- in the processes -----------------------------------------------------------------------------


def _work(work: Callable[..., None], arguments: tuple[Any, ...], threads: int) -> None:
    """Do the work of one process, and report why if it fails."""
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
    """Write why this process fails where the launcher reads it."""
    expected = isinstance(error, (RecBoleMargoError, DataError))
    message = str(error) if expected else f"{type(error).__name__}: {error}"
    report = {
        "message": message[:LONGEST_REPORT],
        "timestamp": int(time.time()),
        "traceback": "" if expected else traceback.format_exc()[-LONGEST_REPORT:],
        "lost another": isinstance(error, LostProcessError),
    }
    Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(report), encoding="utf-8")
