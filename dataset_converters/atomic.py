"""Files that appear whole or not at all, and what a killed process left of them."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8})-([0-9]+)-[0-9a-f]{8}\.tmp", re.DOTALL)
# Whether a process of another machine, or of one before its last start, still lives cannot be seen
# from here; but nothing is written for so long.
ABANDONED_SECONDS = 7 * 24 * 3600.0
_tidied: set[Path] = set()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path` that takes its place when the block succeeds.

    Args:
        path: the file to be written or replaced; its folder must exist.

    Returns:
        The temporary path to write to. When the block raises it is removed and `path` is untouched.
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


def temporary_sibling(path: Path) -> Path:
    """Return an unused path beside another one, whose name says which process it belongs to."""
    owner = f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.name}.{owner}.tmp")


def remove_abandoned(folder: Path) -> None:
    """Remove what `temporary_sibling` named and a process that is gone has left behind.

    A file or folder of a process that lives, or of another machine, stays; the latter until it is
    a week old.

    Args:
        folder: where to look; not in its folders.
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
