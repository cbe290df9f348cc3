"""The folder that a command writes into: made, found writable, and taken by one process alone."""

from __future__ import annotations

import datetime
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from recbole_margo.errors import ConfigError
from recbole_margo.store.writing import LOCK, FolderInUseError, locked

RUNS = Path("runs")


def make_output_folder(folder: Path, option: str = "--output_dir") -> Path:
    """Return a folder, made if need be, in which files can be written; else a `ConfigError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise _cannot_write(folder, error, option) from error


def new_run_folder(dataset: str) -> Path:
    """Return `runs/<time>-<dataset>`, made just now and nobody else's; else a `ConfigError`."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name, number = f"{stamp}-{dataset}", 1
    while True:
        folder = RUNS / (name if number == 1 else f"{name}-{number}")
        try:
            RUNS.mkdir(exist_ok=True)
            folder.mkdir()
        except FileExistsError as error:
            if not folder.exists():  # `runs` is no folder
                raise _cannot_write(folder, error) from error
            number += 1
        except OSError as error:
            raise _cannot_write(folder, error) from error
        else:
            return folder


@contextmanager
def output_folder(given: str | Path | None, dataset: str) -> Iterator[Path]:
    """Yield the folder of a command: the one that was named, or a new one, called after a dataset.

    A new one is removed again when the block raises before anything is in it.
    """
    folder = Path(given) if given else new_run_folder(dataset)
    try:
        yield folder
    except BaseException:
        if not given and is_unused(folder):
            with suppress(OSError):
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()
        raise


def is_unused(folder: Path) -> bool:
    """Return whether a folder is not there, or holds nothing but its lock."""
    return not folder.is_dir() or all(path.name == LOCK for path in folder.iterdir())


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make the folder of a run or a study, and keep every other process out while this one lives.

    Raises:
        ConfigError: another process works in it, it cannot be written, or there is a link in it.
    """
    make_output_folder(folder)
    _refuse_links(folder)
    with ExitStack() as lock:
        try:
            lock.enter_context(locked(folder, seconds=0))
        except FolderInUseError as error:
            raise ConfigError(
                f"{folder}: another process is writing its run into this folder: wait until it has "
                "finished, or name another folder with --output_dir"
            ) from error
        except OSError as error:
            raise _cannot_write(folder, error) from error
        yield


def _refuse_links(folder: Path) -> None:
    """Refuse links in a folder, as one from a stranger may hold: logs would be written to there."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place) / name
            if path.is_symlink():
                raise ConfigError(
                    f"{path}: expected a file or folder of the run, found a link to "
                    f"{str(path.readlink())!r}, which would be written over: put what it leads to "
                    "in its place, or name another folder with --output_dir"
                )


def _cannot_write(folder: Path, error: OSError, option: str = "--output_dir") -> ConfigError:
    is_file = isinstance(error, (FileExistsError, NotADirectoryError))
    found = "a file in its place" if is_file else f"{error.strerror or error}".lower()
    return ConfigError(
        f"{folder}: expected a folder that can be written, found {found}; name another with "
        f"{option}"
    )
