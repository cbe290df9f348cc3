"""Writing to a disk that may be full, and saying so when it is."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dataset_converters.errors import DataError

# No space, no quota, no larger file allowed.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def disk_errors(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn what the operating system says against the files of a block into a `DataError`.

    Args:
        path: what is written, for the message.
        needed: bytes that it will have, if they are known.

    Raises:
        DataError: a file could not be read or written, or there is no space for it.
    """
    try:
        yield
    except OSError as error:
        raise disk_error(error, path, needed) from error


def disk_error(error: OSError, path: Path, needed: int | None = None) -> DataError:
    """Return an error of the operating system in our words.

    Args:
        error: what was raised.
        path: what was written, where the error does not say.
        needed: bytes that `path` would have, if they are known.
    """
    if error.errno not in FULL:
        return DataError(
            f"{error.filename or path}: expected a place to read from or write to, found: "
            f"{error.strerror or error}. Check the path and who may use it, or choose another one "
            "(datasets go to --output)."
        )
    wanted = f"{needed:,} bytes of space" if needed else "enough space"
    limit = ""
    if error.errno != errno.ENOSPC:
        limit = f" and the limit on this user or process ({error.strerror})"
    return DataError(
        f"{path}: expected {wanted} on its disk, found {_free(path):,} bytes free{limit}. Free "
        "some, or choose a folder on another disk with --output (--dry-run writes to TMPDIR)."
    )


def write_npy(
    path: Path, dtype: DTypeLike, shape: tuple[int, ...], blocks: Iterable[NDArray[Any]]
) -> None:
    """Write a `.npy` file block by block.

    Not into a memory map: where the disk is full, writing to one kills the process.

    Args:
        path: the file.
        dtype: type on disk.
        shape: of the whole array.
        blocks: its rows, in order.

    Raises:
        DataError: there is no space, or the file cannot be written.
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
