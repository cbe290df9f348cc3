"""The processes that train one model together: how one joins the others, and what they exchange.

A process knows its place from the variables that torchrun gives to every process that it starts;
`recbole_margo.training.launch` gives its own the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from recbole_margo.errors import ConfigError, LostProcessError, TrainingError

# How long a process waits for another: a test over all users, which the first does alone, and the
# building of graphs from millions of items must fit in.
SECONDS_TO_WAIT = 1800.0
# What torchrun, or a scheduler that speaks its language, tells every process that it starts.
TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Processes:
    """This process among those that train one model; by default the only one.

    Every method but `share_of` is a meeting: all processes must call it, in the same order.

    Args:
        rank: number of this process, from 0.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and logs."""
        return self.rank == 0

    def share_of(self, rows: int) -> slice:
        """Return which of some rows are this process's; the shares differ by one row at most."""
        return slice(rows * self.rank // self.count, rows * (self.rank + 1) // self.count)

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over the processes, the same bits in all of them."""
        if self.count > 1:
            with self._meeting():
                dist.all_reduce(tensor)

    def all_rows(self, own: Tensor, count: int) -> Tensor:
        """Return all rows of a matrix of which each process has its share.

        Args:
            own: the rows `share_of(count)` [n, *].

        Returns:
            [N, *], the same in all processes.
        """
        if self.count == 1:
            return own
        everything = own.new_zeros(count, *own.shape[1:])
        everything[self.share_of(count)] = own
        self.add_up(everything)
        return everything

    def take_from_first(self, tensor: Tensor) -> None:
        """Replace a tensor by that of the first process."""
        if self.count > 1:
            with self._meeting():
                dist.broadcast(tensor, src=0)

    def gathered(self, value: Any) -> list[Any]:
        """Return the values of all processes, by rank; what is sent must be picklable."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        with self._meeting():
            dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until every process is here."""
        self.gathered(None)

    def require_same(self, facts: dict[str, Any]) -> None:
        """Check that all processes have the same data and settings.

        Raises:
            TrainingError: if a value differs; names it and the processes.
        """
        by_rank = self.gathered(facts)
        for name, value in by_rank[0].items():
            others = [rank for rank, other in enumerate(by_rank) if other.get(name) != value]
            if others:
                raise TrainingError(
                    f"the {name} of process {others[0]} is not that of process 0: every machine "
                    "needs the same files and the same version of recbole-margo and its libraries "
                    f"(process 0 has {_shortened(value)}, process {others[0]} has "
                    f"{_shortened(by_rank[others[0]].get(name))})"
                )

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        """Tell a process that is gone from a failure of this one."""
        try:
            yield
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0][:200]
            raise LostProcessError(
                f"process {self.rank} of {self.count} cannot reach the others ({reason})"
            ) from error


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def under_torchrun() -> bool:
    """Tell whether this process was started as one of several that train together."""
    named = all(os.environ.get(name) for name in TORCHRUN_VARIABLES)
    return named and os.environ["WORLD_SIZE"] != "1"


def torchrun_rank() -> int:
    """Return the number of this process among those that train together; 0 if it is alone."""
    return int(os.environ["RANK"]) if under_torchrun() else 0


def own_device(config: Any) -> torch.device:
    """Return the device of this process, one of those that train together.

    Raises:
        ConfigError: if there are fewer GPUs than processes.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
    return device_of(config, int(os.environ.get("LOCAL_RANK", torchrun_rank() % here)), here)


def device_of(config: Any, local_rank: int, here: int) -> torch.device:
    """Return the device of one of a machine's processes: its own GPU, or the CPU.

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


def join(device: torch.device, seconds: float = SECONDS_TO_WAIT) -> Processes:
    """Join the others of this process's group, once for all runs of the process.

    Args:
        device: this process's device: NCCL speaks for GPUs, gloo for the CPU.
        seconds: how long a process waits for another.

    Raises:
        LostProcessError: if the others do not come.
    """
    if not dist.is_initialized():
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(device)
        try:
            dist.init_process_group(
                "nccl" if on_gpu else "gloo", timeout=timedelta(seconds=seconds)
            )
        except RuntimeError as error:
            where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise LostProcessError(
                f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} did not meet the "
                f"others at {where} within {seconds:.0f} s: {error}"
            ) from error
    return Processes(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """Part from the other processes after the last run.

    Not after an error: the others may wait for this process until its end tells them.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
