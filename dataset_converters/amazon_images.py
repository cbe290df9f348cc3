"""Reads the binary image features of the Amazon edition of 2014."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import DataError
from recbole_margo.store.reading import reading
from recbole_margo.store.tables.columns import check_overlap
from recbole_margo.store.writing import disk_errors

ASIN_BYTES = 10
DIMENSION = 4096
RECORD_BYTES = ASIN_BYTES + 4 * DIMENSION


def extract_image_features(
    path: Path, items: Sequence[str], target: Path
) -> tuple[NDArray[Any], list[str]]:
    """Copy the vectors of wanted items from the file into a matrix on disk, record by record.

    Args:
        path: records of 10 bytes of ASIN and 4,096 little-endian float32; plain or gzip.
        items: the items that are wanted.
        target: the file of float32 to make.

    Returns:
        The matrix [rows, 4096], memory-mapped, and the item of every row. An item without an
        image has no row.

    Raises:
        DataError: the file ends within a record, is not of records, or has none of the items.
    """
    missing = set(items)
    found: list[str] = []
    others: list[str] = []
    needed = len(items) * 4 * DIMENSION
    with (
        reading(path, "reading image features") as stream,
        disk_errors(target, needed),
        target.open("wb") as matrix,
    ):
        number = 0
        while record := stream.read(RECORD_BYTES):
            number += 1
            asin = record[:ASIN_BYTES]
            if len(record) < RECORD_BYTES or not asin.isalnum():
                raise DataError(
                    f"{path}, record {number} (byte {(number - 1) * RECORD_BYTES:,}): expected "
                    f"{ASIN_BYTES} bytes of ASIN and {DIMENSION:,} float32, found {len(record):,} "
                    f"bytes that begin with {asin!r}. Fetch the file again."
                )
            item = asin.decode("ascii")
            if item in missing:
                missing.remove(item)
                matrix.write(record[ASIN_BYTES:])
                found.append(item)
            elif len(others) < 3:
                others.append(item)
    check_overlap([*found, *others], items, path)
    shape = (len(found), DIMENSION)
    if not found:
        return np.empty(shape, dtype="<f4"), found
    return np.memmap(target, dtype="<f4", mode="r", shape=shape), found
