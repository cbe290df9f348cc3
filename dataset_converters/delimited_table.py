"""Tables of lines and separators: csv, tsv and their relatives."""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import pandas as pd

from dataset_converters.byte_stream import lines, reading, text_of
from dataset_converters.errors import DataError
from dataset_converters.table_file import CHUNK_ROWS, TableFile
from dataset_converters.token_codes import NUMBER

SEPARATORS = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar", "::": "::", " ": "space"}
HEAD_BYTES = 1 << 16
HEAD_RECORDS = 20


class DelimitedTable(TableFile):
    """A csv-like file; what is not said of its form is read off its first records."""

    def __init__(
        self,
        path: Path,
        separator: str | None = None,
        encoding: str | None = None,
        header: bool | None = None,
        quotes: bool = True,
    ) -> None:
        """Look at the beginning of the file.

        Args:
            path: the file, perhaps gzip compressed.
            separator: between fields; None recognises one of `SEPARATORS`.
            encoding: None takes UTF-8, or UTF-16 after its byte order mark.
            header: whether the first line names the columns; None says so when no field of it is a
                number. Columns without names are called 1, 2, ...
            quotes: whether a field may stand in quotes.

        Raises:
            DataError: the file is missing, empty, not of the encoding, or not a table.
        """
        self.path = path
        self._quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
        with reading(path) as stream:
            head = stream.read(HEAD_BYTES)
        is_whole = len(head) < HEAD_BYTES
        self.encoding = encoding or _encoding_of(head)
        text = self._decode(head)
        if not text.strip():
            raise DataError(f"{path}: expected a table, found a file without text.")
        self.separator = separator or _guess_separator(text, is_whole)
        first = next(iter(_records(text, self.separator, is_whole, self._quoting)), [])
        if len(first) < 2:
            raise DataError(
                f"{path}: expected at least two columns, found {len(first)} in the first line: "
                f"{text.strip().splitlines()[0][:80]!r}. Give the separator with --separator."
            )
        if header is None:
            header = not any(NUMBER.fullmatch(field.strip()) for field in first)
        self.has_header = header
        numbered = [str(position) for position in range(1, len(first) + 1)]
        self.columns = [field.strip() for field in first] if header else numbered
        name = SEPARATORS.get(self.separator, repr(self.separator))
        self.description = (
            f"separator {name}, {self.encoding.upper().removesuffix('-SIG')}, "
            f"{'first line names the columns' if header else 'no header'}"
        )

    def read(self, columns: Sequence[str], label: str) -> Iterator[pd.DataFrame]:
        """Yield the columns as text, without rows that are blank lines."""
        positions = [self.columns.index(column) for column in columns]
        with reading(self.path, label) as stream:
            pieces = self._pieces(stream)
            while (piece := self._next(pieces)) is not None:
                piece = piece[(piece != "").any(axis=1)]
                yield piece[positions].set_axis(list(columns), axis=1)

    def place(self, row: int) -> str:
        """Return the line of a row; fields that span lines are not counted."""
        return f"line {row + 1 + self.has_header}"

    def _pieces(self, stream: BinaryIO) -> Iterator[pd.DataFrame]:
        multiple = len(self.separator) > 1
        # The reader is opened on the first `next`, so that all its errors arise there.
        yield from pd.read_csv(
            stream,
            sep=re.escape(self.separator) if multiple else self.separator,
            engine="python" if multiple else "c",
            header=0 if self.has_header else None,
            names=range(len(self.columns)),
            # usecols would make the parser ignore rows with too many fields.
            index_col=False,
            quoting=self._quoting,
            dtype=str,
            na_filter=False,
            skip_blank_lines=False,
            encoding=self.encoding,
            chunksize=CHUNK_ROWS,
        )

    def _next(self, pieces: Iterator[pd.DataFrame]) -> pd.DataFrame | None:
        try:
            with warnings.catch_warnings():
                # pandas would cut off rows that are longer than the header, with a warning only.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                return next(pieces, None)
        except UnicodeError as error:
            raise self._undecodable(error) from error
        except pd.errors.EmptyDataError:
            return None
        except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
            raise DataError(
                f"{self.path}: expected {len(self.columns)} fields in every line "
                f"({self.description}), found: {str(error).strip()}. Repair the line, or give the "
                "form with --separator, --encoding or --no-header."
            ) from error

    def _decode(self, head: bytes) -> str:
        try:
            # The piece may end within a character, which is no error.
            return codecs.getincrementaldecoder(self.encoding)().decode(head)
        except UnicodeError as error:
            raise self._undecodable(error) from error
        except LookupError as error:
            raise DataError(
                f"--encoding: expected the name of an encoding such as latin-1, found "
                f"{self.encoding!r}."
            ) from error

    def _undecodable(self, error: UnicodeError) -> DataError:
        remedy = "Give its encoding, for example --encoding latin-1."
        if self.encoding == "utf-8-sig":
            try:
                with reading(self.path) as stream:
                    for number, line in lines(stream, self.path):
                        text_of(line, self.path, number)
            except DataError as found:
                return DataError(f"{found} Or: {remedy}")
        return DataError(f"{self.path}: expected {self.encoding}, found {error}. {remedy}")


def _encoding_of(head: bytes) -> str:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig"


def _records(
    text: str, separator: str, is_whole: bool, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
) -> list[list[str]]:
    """Return the first records that are not blank; the last of a piece may be cut and is left."""
    if len(separator) > 1:
        records = [line.split(separator) for line in text.splitlines()]
    else:
        try:
            records = list(
                csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting)
            )
        except csv.Error:
            return []
    if not is_whole and len(records) > 1:
        records.pop()
    return [record for record in records if record][:HEAD_RECORDS]


def _guess_separator(text: str, is_whole: bool) -> str:
    """Return the separator that gives all first records the same, and most, fields."""

    def quality(separator: str) -> tuple[bool, int]:
        counts = [len(record) for record in _records(text, separator, is_whole)] or [0]
        return min(counts) == max(counts) > 1, counts[0]

    return max(SEPARATORS, key=quality)
