"""Tables of JSON objects, one a line or in one array."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from dataset_converters.byte_stream import lines, reading, text_of
from dataset_converters.errors import DataError
from dataset_converters.table_file import CHUNK_ROWS, TableFile

HEAD_RECORDS = 100
# An array is parsed as a whole.
ARRAY_BYTES = 1 << 30


class JsonLinesTable(TableFile):
    """A file of JSON objects; a field that an object lacks is None."""

    def __init__(self, path: Path) -> None:
        """Look at the first records.

        Args:
            path: the file, perhaps gzip compressed.

        Raises:
            DataError: the file is missing, empty or not of JSON objects.
        """
        self.path = path
        with reading(path) as stream:
            self._is_array = stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["
        self.description = "a JSON array" if self._is_array else "JSON lines"
        head = itertools.islice(self._records(None), HEAD_RECORDS)
        self.columns = list(dict.fromkeys(key for _, record in head for key in record))
        if not self.columns:
            raise DataError(f"{path}: expected JSON objects with fields, found none.")

    def read(self, columns: Sequence[str], label: str) -> Iterator[pd.DataFrame]:
        """Yield the columns as the values of JSON."""
        records = self._records(label)
        while chunk := list(itertools.islice(records, CHUNK_ROWS)):
            yield pd.DataFrame(
                {
                    column: pd.Series([record.get(column) for _, record in chunk], dtype=object)
                    for column in columns
                }
            ).set_axis([number for number, _ in chunk])

    def place(self, row: int) -> str:
        """Return the line of a row, or which object of the array it is."""
        return f"object {row + 1}" if self._is_array else f"line {row + 1}"

    def _records(self, label: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number (from 0) of the line or object and its content."""
        with reading(self.path, label) as stream:
            texts = self._whole(stream) if self._is_array else lines(stream, self.path)
            parsed = (
                (number - 1, parse_json(text_of(text, self.path, number), self.path, number))
                for number, text in texts
            )
            for row, value in enumerate(next(parsed)[1]) if self._is_array else parsed:
                if not isinstance(value, dict):
                    raise DataError(
                        f"{self.path}, {self.place(row)}: expected a JSON object, found "
                        f"{str(value)[:80]!r}."
                    )
                yield row, value

    def _whole(self, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
        content = stream.read(ARRAY_BYTES + 1)
        if len(content) > ARRAY_BYTES:
            raise DataError(
                f"{self.path}: expected a JSON array of at most {ARRAY_BYTES >> 20} MiB, found "
                "more. Write JSON lines, an object a line, which may be of any size."
            )
        yield 1, content


def parse_json(text: str, path: Path, number: int) -> Any:
    """Parse one JSON value.

    Args:
        text: the JSON.
        path: its file, for the message.
        number: its line, likewise.

    Raises:
        DataError: the text is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}, line {number}: expected JSON, found {text[:80]!r} ({error}). Repair or "
            "remove the line."
        ) from error
