"""One process at a time in a folder: a lock of the system, which ends with its process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from recbole_margo.errors import DataError

# Hidden, empty, and left in place: to remove a lock file lets two processes lock two files of one
# name. Nothing reads it as data.
LOCK = ".lock"
# What one change of a dataset's files may take: the writing of a large feature matrix.
LONGEST_WAIT = 600.0


class FolderInUseError(DataError):
    """Another process holds the lock of a folder."""


_held = threading.local()


@contextmanager
def locked(folder: Path, seconds: float = LONGEST_WAIT, name: str = LOCK) -> Iterator[None]:
    """Hold the lock of a folder, in which only one process then reads, changes and writes.

    A thread that holds it already goes on at once. What ends the process, `kill -9` included, gives
    the lock back. File systems without locks, such as some of NFS, keep nobody out.

    Args:
        seconds: how long to wait for another process; negative: as long as it takes.

    Raises:
        FolderInUseError: another process held it all the time.
        DataError: the lock file is a link.
        OSError: the lock file cannot be written.
    """
    path = folder.resolve() / name
    held: set[Path] = _held.__dict__.setdefault("paths", set())
    if path in held:
        yield
        return
    if path.is_symlink():
        raise DataError(
            f"{path}: expected a lock file, found a link, whose target would be emptied. Remove it."
        )
    # Other users who may write into the folder may lock it.
    lock = FileLock(path, mode=0o664)
    try:
        lock.acquire(timeout=seconds)
    except Timeout as error:
        raise FolderInUseError(
            f"{folder}: expected to write here, found that another process does. Wait until it has "
            "finished, and give the same command again."
        ) from error
    held.add(path)
    try:
        yield
    finally:
        held.discard(path)
        lock.release()
