"""Files that appear whole or not at all, on a disk that may be full, one process at a time."""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
import re
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import DTypeLike, NDArray

from recbole_margo.errors import DataError

TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8})-([0-9]+)-[0-9a-f]{8}\.tmp", re.DOTALL)
# Whether a process of another machine, or of one before its last start, still lives cannot be seen
# from here; but nothing is written for so long.
ABANDONED_SECONDS = 7 * 24 * 3600.0
_tidied: set[Path] = set()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path` that takes its place when the block succeeds.

    When the block raises it is removed, and `path` is as it was. The folder must exist.
    """
    folder = path.parent.absolute()
    if folder not in _tidied:
        _tidied.add(folder)
        remove_abandoned(folder)
    temporary = temporary_sibling(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path, refusal: type[Exception] = DataError) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder`, new or empty, when the block succeeds.

    Args:
        refusal: what is raised where there is something.

    Raises:
        DataError: it cannot be written.
    """
    check_new_folder(folder, refusal)
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder) as temporary:
            yield temporary
            if folder.is_dir():
                folder.rmdir()
            os.replace(temporary, folder)


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside a path; what is left of it after the block is removed."""
    temporary = temporary_sibling(target)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_new_folder(folder: Path, refusal: type[Exception] = DataError) -> None:
    """Refuse a path at which there is something; arguments are those of `new_folder`."""
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise refusal(
            f"{folder}: expected a path at which there is nothing yet, found something: name "
            "another --output_dir; what is in use is replaced by a new folder, not changed"
        )


def temporary_sibling(path: Path) -> Path:
    """Return an unused path beside another one, whose name says which process it belongs to."""
    owner = f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.name}.{owner}.tmp")


def remove_abandoned(folder: Path) -> None:
    """Remove what `temporary_sibling` named and a process that is gone has left behind.

    A file or folder of a process that lives, or of another machine, stays; the latter until it is
    a week old.
    """
    with suppress(OSError):  # a folder that cannot be read has nothing that could be removed
        for path in folder.iterdir():
            name = TEMPORARY.fullmatch(path.name)
            if name and _is_abandoned(path, name[1], int(name[2])):
                _remove(path)


def _is_abandoned(path: Path, machine: str, process: int) -> bool:
    if machine == _machine():
        return not _lives(process)
    try:
        return time.time() - path.lstat().st_mtime > ABANDONED_SECONDS
    except OSError:  # its process has finished it just now
        return False


def _lives(process: int) -> bool:
    if os.name != "posix":  # where signal 0 would end the process
        try:
            psutil = importlib.import_module("psutil")
        except ImportError:
            return True
        return bool(psutil.pid_exists(process))
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        return True
    return True


def _remove(path: Path) -> None:
    with suppress(OSError):  # another process removes it too, or it is not ours to remove
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _machine() -> str:
    """Return what tells this machine's, or container's, processes from those of others."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # no Linux
        namespace = ""
    return hashlib.sha256(f"{socket.gethostname()} {namespace}".encode()).hexdigest()[:8]


# No space, no quota, no larger file allowed.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def disk_errors(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn what the operating system says against the files of a block into a `DataError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise DataError(
                f"{error.filename or path}: expected a place to read from or write to, found: "
                f"{error.strerror or error}. Check the path and who may use it, or choose another "
                "one (datasets go to --output_dir)."
            ) from error
        wanted = f"{needed:,} bytes of space" if needed else "enough space"
        limit = ""
        if error.errno != errno.ENOSPC:
            limit = f" and the limit on this user or process ({error.strerror})"
        raise DataError(
            f"{path}: expected {wanted} on its disk, found {_free(path):,} bytes free{limit}. Free "
            "some, or choose a folder on another disk with --output_dir (--dry_run writes to "
            "TMPDIR)."
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that the file is either the old or the new one."""
    with replacing(path) as temporary:
        text = json.dumps(value, indent=2, default=str, ensure_ascii=False)
        temporary.write_text(f"{text}\n", encoding="utf-8")


def write_npy(
    path: Path, dtype: DTypeLike, shape: tuple[int, ...], blocks: Iterable[NDArray[Any]]
) -> None:
    """Write a `.npy` file block by block; a `DataError` if there is no space.

    Not into a memory map: where the disk is full, writing to one kills the process.
    """
    kind = np.dtype(dtype)
    header = {
        "descr": np.lib.format.dtype_to_descr(kind),
        "fortran_order": False,
        "shape": shape,
    }
    with disk_errors(path, prod(shape) * kind.itemsize), path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.asarray(block, dtype=kind).tobytes())


def _free(path: Path) -> int:
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    return shutil.disk_usage(folder).free


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
