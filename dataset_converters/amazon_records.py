"""Lines of the Amazon files: JSON, or the Python literals of the edition of 2014."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path
from typing import Any

from dataset_converters.byte_stream import text_of
from dataset_converters.errors import DataError
from dataset_converters.json_lines_table import parse_json


def parse_record(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """Parse a line; no part of it is ever executed.

    Args:
        line: a JSON object, or a Python dict of plain values.
        path: its file, for messages.
        number: its line, likewise.

    Raises:
        DataError: the line is neither.
    """
    text = text_of(line, path, number).strip()
    record = _parse_literal(text, path, number) if text[:2] == "{'" else None
    if record is None:
        record = parse_json(text, path, number)
    if not isinstance(record, dict):
        raise DataError(f"{path}, line {number}: expected an object, found {text[:80]!r}.")
    return record


def _parse_literal(text: str, path: Path, number: int) -> Any:
    try:
        with warnings.catch_warnings():
            # About escapes in the text of others, which nobody here can mend.
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise DataError(
            f"{path}, line {number}: expected a Python dict of plain values, as in the edition of "
            f"2014, found {text[:80]!r} ({error}). Repair or remove the line."
        ) from error
