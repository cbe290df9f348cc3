"""Where a process stands among those that train together, and how it joins them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from recbole_margo.errors import ConfigError
from recbole_margo.training.lost_process_error import LostProcessError
from recbole_margo.training.processes import Processes

# How long a process waits for another: a test over all users, which the first does alone, and the
# building of graphs from millions of items must fit in.
SECONDS_TO_WAIT = 1800.0
# What torchrun, or a scheduler that speaks its language, tells every process that it starts.
TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# The keys of a config that say which processes train; the numbers do not depend on them.
SWITCHES = ("nproc", "world_size", "group_offset", "offset", "ip", "port")


@dataclass(frozen=True)
class ProcessGroup:
    """One model's training in several processes, as RecBole's switches describe it.

    Args:
        here: processes that this machine starts (`nproc`).
        count: processes on all machines (`world_size`).
        offset: number of the first process of this machine (`group_offset`).
        host: the machine of process 0 (`ip`).
        port: where the processes meet on that machine; 0: any free one.
        seconds: how long a process waits for another.
    """

    here: int = 1
    count: int = 1
    offset: int = 0
    host: str = "localhost"
    port: int = 0
    seconds: float = SECONDS_TO_WAIT

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
        offset = value("group_offset", value("offset", 0))
        offset = _whole("group_offset", offset, 0)
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


def _whole(key: str, value: Any, low: int) -> int:
    if type(value) is not int or value < low:
        raise ConfigError(f"`{key}` must be a whole number from {low} on, found {value!r}")
    return value


def _port(value: Any) -> int:
    text = str(value)
    if not text.isdigit() or int(text) > 65535:
        raise ConfigError(f"`port` must be a number up to 65535, found {value!r}")
    return int(text)


def under_torchrun(environment: Mapping[str, str] | None = None) -> bool:
    """Tell whether torchrun started this process as one of several.

    Args:
        environment: the variables; none: this process's.
    """
    variables = os.environ if environment is None else environment
    named = all(variables.get(name) for name in TORCHRUN_VARIABLES)
    return named and variables["WORLD_SIZE"] != "1"


def torchrun_rank() -> int:
    """Return the number of this process among those of torchrun; 0 without torchrun."""
    return int(os.environ["RANK"]) if under_torchrun() else 0


def device_of(config: Any, local_rank: int, here: int) -> torch.device:
    """Return the device of one of a machine's processes: its own GPU, or the CPU.

    Args:
        config: the config, whose device is a kind of device.
        local_rank: number of the process on this machine.
        here: processes on this machine.

    Raises:
        ConfigError: if there are fewer GPUs than processes.
    """
    kind = torch.device(config["device"]).type
    if kind != "cuda":
        return torch.device(kind)
    found = torch.cuda.device_count()
    if found < here:
        every = ",".join(str(number) for number in range(here))
        raise ConfigError(
            f"{here} processes on this machine need a GPU each, `gpu_id: {config['gpu_id']}` "
            f"leaves {found}: give --gpu_id={every} if there are as many, --nproc={found}, or "
            "--use_gpu=false"
        )
    return torch.device(kind, local_rank)


@contextmanager
def joined(
    device: torch.device, rank: int, group: ProcessGroup, store: tuple[str, int]
) -> Iterator[Processes]:
    """Join the other processes, for as long as the context lasts.

    Args:
        device: this process's device: NCCL speaks for GPUs, gloo for the CPU.
        rank: number of this process.
        group: the processes.
        store: host and port of the store where they meet.

    Returns:
        This process among the others.

    Raises:
        LostProcessError: if the others do not come.
    """
    timeout = timedelta(seconds=group.seconds)
    try:
        client = dist.TCPStore(  # type: ignore[attr-defined]
            store[0], store[1], is_master=False, timeout=timeout
        )
        _use(device)
        dist.init_process_group(
            _backend(device), store=client, rank=rank, world_size=group.count, timeout=timeout
        )
    except RuntimeError as error:
        raise LostProcessError(
            f"process {rank} of {group.count} did not meet the others at {store[0]}:{store[1]} "
            f"within {group.seconds:.0f} s: {error}"
        ) from error
    yield Processes(rank, group.count)
    # Not after an error: the others may wait for this process until its end tells them.
    dist.destroy_process_group()


def joined_torchrun(device: torch.device) -> Processes:
    """Join the processes that torchrun started, once for all runs of this process.

    Args:
        device: this process's device.

    Returns:
        This process among the others.
    """
    if not dist.is_initialized():
        _use(device)
        dist.init_process_group(_backend(device), timeout=timedelta(seconds=SECONDS_TO_WAIT))
    return Processes(dist.get_rank(), dist.get_world_size())


def leave_torchrun() -> None:
    """Part from the processes of torchrun after the last run."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _use(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)


def _backend(device: torch.device) -> str:
    return "nccl" if device.type == "cuda" else "gloo"
