"""NumPy's `.npz` archives and arrays of text that may come from a stranger, within bounds."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import DataError
from recbole_margo.store.feature_files import NPY_ERRORS, numpy_silent
from recbole_margo.store.reading import require_regular_file
from recbole_margo.store.writing import replacing

# A file that is compressed may take so much, or so many times its size, whichever is more.
LARGEST_BYTES = 1 << 28
LARGEST_RATIO = 100
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ERRORS = (*NPY_ERRORS, KeyError, zlib.error, NotImplementedError, RuntimeError, AttributeError)


def write_archive(path: Path, arrays: Mapping[str, Any], compressed: bool = True) -> None:
    """Write arrays of numbers and text as an `.npz` archive, whole or not at all."""
    save: Any = np.savez_compressed if compressed else np.savez
    with replacing(path) as temporary, temporary.open("wb") as file:
        save(file, **arrays)


def read_archive(path: Path, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read arrays of an `.npz` archive, of numbers and text only.

    Args:
        names: the arrays; None reads all.

    Raises:
        DataError: the file is missing, damaged or no such archive, lacks an array, holds Python
            objects, or expands to far more than its size.
    """
    require_regular_file(path, "an .npz archive of plain arrays")
    try:
        _check_expansion(path)
        with numpy_silent(), np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in names or archive.files}
    except DataError:
        raise
    # A damaged archive may name a method of compression that does not exist, or ask for a password.
    except ERRORS as error:
        raise DataError(
            f"{path}: expected an .npz archive of plain arrays, found a file that does not open as "
            f"such ({error}). Save it again, without pickled objects."
        ) from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise DataError(f"{path}: expected plain arrays, found that {name!r:.60} is none.")
        check_array(array, path)
    return arrays


def check_array(array: NDArray[Any], path: Path) -> None:
    """Refuse an array whose elements take no space, of which a small file may hold billions."""
    if array.size and not array.dtype.itemsize:
        raise DataError(
            f"{path}: expected numbers or text, found {array.size:,} elements of type "
            f"{array.dtype.str}, which holds neither."
        )


def expands_too_far(expanded: int, compressed: int) -> bool:
    """Return whether what is compressed is a bomb, by its sizes in bytes."""
    return expanded > max(LARGEST_BYTES, LARGEST_RATIO * compressed)


def _check_expansion(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    # The reader goes no further than this size, whatever the content holds.
    expanded = sum(member.file_size for member in members)
    if expands_too_far(expanded, path.stat().st_size):
        raise DataError(
            f"{path}: expected an archive that expands {LARGEST_RATIO} times at most, found "
            f"{expanded:,} bytes in a file of {path.stat().st_size:,}. If it is yours, save it "
            "without compression: numpy.savez."
        )
    unusual = next((member for member in members if member.compress_type not in METHODS), None)
    if unusual is not None:
        raise DataError(
            f"{path}: expected an archive of numpy.savez, found {unusual.filename!r:.60} "
            "compressed in another way. Save it again."
        )
