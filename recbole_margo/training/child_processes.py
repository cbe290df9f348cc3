"""What processes that share a machine's cores are given, and how they end with their parent."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager

from recbole_margo.resources import THREADS
from recbole_margo.resources import threads_of_each as threads_of_each


@contextmanager
def inherited_threads(threads: int) -> Iterator[None]:
    """Let processes that start while the context lasts have that many threads from the first."""
    before = os.environ.get(THREADS)
    os.environ[THREADS] = str(threads)
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before


def end_with_parent() -> None:
    """Wait until the process that started this one ends, and end at once; for a thread.

    A parent that was killed leaves nobody who waits for the results.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
