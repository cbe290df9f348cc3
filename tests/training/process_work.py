"""What processes do in tests of how they end; imports little, for every process imports it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch

from recbole_margo.training.processes import join

CPU = torch.device("cpu")


def fail(how: str, folder: Path) -> None:
    """Fail in process 1, while process 0 waits for it."""
    processes = join(CPU, seconds=60)
    (folder / str(processes.rank)).write_text(str(os.getpid()))
    processes.wait()
    if processes.rank == 1 and how == "raises":
        raise ValueError("no more")
    if processes.rank == 1 and how == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    processes.wait()


def hang() -> None:
    """Do not answer in process 1."""
    processes = join(CPU, seconds=3)
    processes.wait()
    if processes.rank == 1:
        time.sleep(600)
    processes.wait()
