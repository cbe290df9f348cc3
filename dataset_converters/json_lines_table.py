"""Tables of JSON objects, one a line or in one array."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dataset_converters.byte_stream import lines, reading, text_of
from dataset_converters.errors import DataError
from dataset_converters.json_records import array_records, is_array, parse_json
from dataset_converters.table_file import CHUNK_ROWS, TableFile

HEAD_RECORDS = 100
CHUNK_CHARACTERS = 1 << 26


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
            self._is_array = is_array(stream.read(64))
        self.description = "a JSON array" if self._is_array else "JSON lines"
        head = itertools.islice(self._records(None), HEAD_RECORDS)
        self.columns = list(dict.fromkeys(key for _, record in head for key in record))
        if not self.columns:
            raise DataError(f"{path}: expected JSON objects with fields, found none.")

    def read(self, columns: Sequence[str], label: str) -> Iterator[pd.DataFrame]:
        """Yield the columns as the values of JSON."""
        rows: list[int] = []
        values: list[list[Any]] = []
        characters = 0
        for row, record in self._records(label):
            rows.append(row)
            values.append([record.get(column) for column in columns])
            characters += sum(len(value) for value in values[-1] if isinstance(value, str))
            if len(rows) == CHUNK_ROWS or characters > CHUNK_CHARACTERS:
                yield _chunk(values, columns, rows)
                rows, values, characters = [], [], 0
        if rows:
            yield _chunk(values, columns, rows)

    def place(self, row: int) -> str:
        """Return the line of a row, or which object of the array it is."""
        return f"object {row + 1}" if self._is_array else f"line {row + 1}"

    def _records(self, label: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number (from 0) of the line or object and its content."""
        with reading(self.path, label) as stream:
            if self._is_array:
                parsed = array_records(stream, self.path)
            else:
                parsed = (
                    (number, parse_json(text_of(text, self.path, number), self.path, number))
                    for number, text in lines(stream, self.path)
                )
            for number, value in parsed:
                if not isinstance(value, dict):
                    raise DataError(
                        f"{self.path}, {self.place(number - 1)}: expected a JSON object, found "
                        f"{str(value)[:80]!r}."
                    )
                yield number - 1, value


def _chunk(values: list[list[Any]], columns: Sequence[str], rows: list[int]) -> pd.DataFrame:
    transposed = zip(*values, strict=True)
    series = {
        column: pd.Series(list(cells), dtype=object, index=rows)
        for column, cells in zip(columns, transposed, strict=True)
    }
    chunk: pd.DataFrame = pd.DataFrame(series)
    return chunk
