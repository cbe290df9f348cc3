"""Small text and JSON files that may come from a stranger: bounded in size, depth and kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dataset_converters.byte_stream import require_regular_file
from dataset_converters.errors import DataError

JSON_BYTES = 16 << 20


def read_small(path: Path, limit: int) -> str:
    """Return the text of a UTF-8 file of bounded size.

    Args:
        path: the file.
        limit: the largest size in bytes.

    Raises:
        OSError: the file cannot be opened.
        DataError: it is no regular file, is larger or is not UTF-8.
    """
    path.stat()  # that a file is missing is for the caller to say
    require_regular_file(path)
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DataError(
            f"{path}: expected at most {limit >> 10:,} KiB, found more. It is not a file of the "
            "kind that is read here."
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text, found {error}") from error


def read_json(path: Path) -> Any:
    """Return what a JSON file of bounded size holds.

    Args:
        path: the file.

    Raises:
        OSError: the file cannot be opened.
        DataError: as of `read_small`; or it is not JSON, is nested too deeply, holds a number of
            thousands of digits or a key twice in one object.
    """
    text = read_small(path, JSON_BYTES)
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise DataError(f"{path}: expected JSON, found too many brackets in brackets") from None
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, found a file that does not parse ({error})") from (
            error
        )


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} twice in one object")
    return values
