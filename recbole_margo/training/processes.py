"""The processes that train one model together, and what they say to each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist
from torch import Tensor

from recbole_margo.errors import TrainingError
from recbole_margo.training.lost_process_error import LostProcessError


@dataclass(frozen=True)
class Processes:
    """This process among those that train one model; by default the only one.

    Every method but the properties is a meeting: all processes must call it, in the same order.

    Args:
        rank: number of this process, from 0.
        count: how many there are.
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
            count: number of all rows N.

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

        Args:
            facts: small picklable values by name.

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
            reason = _first_line(error)
            raise LostProcessError(
                f"process {self.rank} of {self.count} cannot reach the others ({reason})"
            ) from error


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]
