"""What processes do in tests of how they end; imports little, for every process imports it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch

from recbole_margo.training.process_group import ProcessGroup, joined

CPU = torch.device("cpu")


def fail(local: int, rank: int, store: tuple[str, int], how: str, folder: Path) -> None:
    """Fail in process 1, while process 0 waits for it."""
    (folder / str(rank)).write_text(str(os.getpid()))
    with joined(CPU, rank, ProcessGroup(2, 2, seconds=60), store) as processes:
        processes.wait()
        if rank == 1 and how == "raises":
            raise ValueError("no more")
        if rank == 1 and how == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        processes.wait()


def hang(local: int, rank: int, store: tuple[str, int]) -> None:
    """Do not answer in process 1."""
    with joined(CPU, rank, ProcessGroup(2, 2, seconds=3), store) as processes:
        processes.wait()
        if rank == 1:
            time.sleep(600)
        processes.wait()
