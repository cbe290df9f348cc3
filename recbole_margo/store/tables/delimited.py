"""Tables of lines and separators, csv, tsv and their relatives, read in blocks of whole records."""

from __future__ import annotations

import codecs
import csv
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import pandas as pd

from recbole_margo.errors import DataError
from recbole_margo.store.reading import LINE_BYTES, lines, reading, text_of
from recbole_margo.store.tables.table_file import TableFile
from recbole_margo.store.tables.table_form import (
    SEPARATORS,
    encoding_of,
    first_names_columns,
    guess_separator,
    misread_utf8,
    preamble_of,
    records_of,
)

BLOCK_BYTES = 1 << 22
QUOTES = re.compile(rb'"+')


def record_blocks(
    stream: BinaryIO, path: Path, encoding: str, skip: int, separator: str, quotes: bool
) -> Iterator[tuple[int, bytes]]:
    """Yield UTF-8 blocks of whole records, each of `BLOCK_BYTES` or one record.

    Args:
        skip: characters at the beginning that are no records.
        quotes: whether a field that begins with a quote ends with one, and may span lines.

    Raises:
        DataError: a record is longer than any text, or holds a character of value 0.
        UnicodeError: the bytes are not of the encoding.
    """
    # The quote comes first in the pattern, so that the search runs from quote to quote.
    ahead = rf'"(?:(?<=\A")|(?<=[\r\n]")|(?<={re.escape(separator)}"))'
    opening = re.compile(ahead.encode()) if quotes else None
    line = 0
    held = b""
    for text in _decoded(stream, encoding):
        content = text[skip:]
        line += _line_ends(text[:skip].encode())
        skip -= min(skip, len(text))
        if "\0" in content:
            before = held + content.partition("\0")[0].encode("utf-8")
            raise DataError(
                f"{path}, line {line + _line_ends(before) + 1}: expected text, found a "
                "character of value 0. Is it in UTF-16? Convert it: iconv -f UTF-16LE -t UTF-8 "
                f"{path.name}; else remove them: tr -d '\\000' < {path.name} > clean.csv"
            )
        held += content.encode("utf-8")
        end = _last_end(held, opening)
        if end:
            yield line, held[:end]
            line += _line_ends(held[:end])
            held = held[end:]
        elif len(held) > LINE_BYTES:
            raise DataError(
                f"{path}, line {line + 1}: expected a record of text, found more than "
                f"{LINE_BYTES >> 20} MiB without its end. Is this the right file? Often a quote "
                "is opened and not closed."
            )
    if held:
        yield line, held


def _decoded(stream: BinaryIO, encoding: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    while content := stream.read(BLOCK_BYTES):
        yield decoder.decode(content)
    yield decoder.decode(b"", final=True)


def _line_ends(content: bytes) -> int:
    return content.count(b"\n") or content.count(b"\r")


def _last_end(content: bytes, opening: re.Pattern[bytes] | None) -> int:
    """Return where the last whole record of the content ends; it begins with a record."""
    newline = b"\n" if b"\n" in content else b"\r"
    if opening is None or b'"' not in content:
        return content.rfind(newline) + 1
    end = position = 0
    while True:
        opened = opening.search(content, position)
        end = max(end, content.rfind(newline, position, opened.start() if opened else None) + 1)
        if opened is None:
            return end
        position = opened.end()
        while True:
            # Two quotes stand for one; what remains of an odd number closes the field.
            run = QUOTES.match(content, max(position, content.find(b'"', position)))
            if run is None:
                return end
            position = run.end()
            if (run.end() - run.start()) % 2:
                break


HEAD_BYTES = 1 << 16
LINE_NUMBER = re.compile(r"(\b(?:line|row) )(\d+)")


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
            separator: between fields; None recognises one of `SEPARATORS`.
            encoding: None takes UTF-8, or UTF-16 after its byte order mark. A file that begins with
                the mark of UTF-8 is UTF-8 whatever is said.
            header: whether the first line names the columns; None says so when no field of it is a
                number. Columns without names are called 1, 2, ...
        """
        self.path = path
        self._comments, self._short, self._first_short = 0, 0, ""
        self._misread, self._meant = 0, ""
        # A table whose form is prescribed: commands have no options that change how it is read.
        self._is_fixed = separator is not None and header is not None
        self._quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
        with reading(path) as stream:
            head = stream.read(HEAD_BYTES)
        is_whole = len(head) < HEAD_BYTES
        marked = head.startswith(codecs.BOM_UTF8)
        self.encoding = "utf-8-sig" if marked else encoding or encoding_of(head)
        text = self._decode(head)
        self._skip, separator = preamble_of(text, separator, is_whole)
        self._skipped_lines = len(text[: self._skip].splitlines())
        text = text[self._skip :]
        if not text.strip():
            raise DataError(f"{path}: expected a table, found a file without text.")
        self.separator = separator or guess_separator(text, is_whole)
        self._check_separator()
        records = records_of(text, self.separator, is_whole, self._quoting)
        first = records[0] if records else []
        if len(first) < 2:
            name = SEPARATORS.get(self.separator, repr(self.separator))
            remedy = f"Separate them by {name}" if separator else "Give it with --separator"
            raise DataError(
                f"{path}: expected at least two columns and a separator between them, found "
                f"{len(first)} in the first line: {text.strip().splitlines()[0][:80]!r}. {remedy}."
            )
        if header is None:
            header = first_names_columns(records)
        self.has_header = header
        numbered = [str(position) for position in range(1, len(first) + 1)]
        self.columns = [field.strip() for field in first] if header else numbered
        name = SEPARATORS.get(self.separator, repr(self.separator))
        self.description = (
            f"separator {name}, {self.encoding.upper().removesuffix('-SIG')}, "
            f"{'first line names the columns' if header else 'no header'}"
            f"{f', {self._skipped_lines} lines before it left out' if self._skip else ''}"
        )

    def read(self, columns: Sequence[str], label: str) -> Iterator[pd.DataFrame]:
        """Yield the columns as text, without rows that are blank lines."""
        positions = [self.columns.index(column) for column in columns]
        self._comments, self._short, self._first_short = 0, 0, ""
        self._misread, self._meant = 0, ""
        with reading(self.path, label) as stream:
            for piece in self._pieces(stream):
                lacking = piece.iloc[:, -1].isna()
                texts = piece.fillna("") if lacking.any() else piece
                filled = texts[0] != ""
                # Most rows have a first field; only of others are all fields looked at.
                if not filled.all():
                    filled = (texts != "").any(axis=1)
                short = lacking & filled
                comment = short & texts[0].str.startswith("#") if short.any() else short
                self._comments += int(comment.sum())
                rows = short.index[short & ~comment]
                if len(rows):
                    self._first_short = self._first_short or self.location(rows[0])
                    self._short += len(rows)
                kept = texts[filled & ~comment]
                yield kept[positions].set_axis(list(columns), axis=1)

    def notes(self) -> list[str]:
        """Return notes on the encoding, on comments between rows, on rows that lack fields."""
        notes = []
        if self._misread:
            notes.append(
                f"warning: {self._misread:,} lines of {self.path.name} are UTF-8 but were read as "
                f"{self.encoding}, such as {self._meant[:80]!r}; give the encoding of each file"
            )
        if self._comments:
            notes.append(
                f"{self._comments:,} lines of {self.path.name} that begin with # and lack fields "
                "are taken for comments; left out"
            )
        if self._short:
            notes.append(
                f"{self._short:,} rows of {self.path.name} have fewer than {len(self.columns)} "
                f"fields, first in {self._first_short}; what they lack is taken for empty"
            )
        return notes

    def location(self, row: int) -> str:
        """Return the line of a row; fields that span lines are not counted."""
        return f"line {row + 1 + self.has_header + self._skipped_lines}"

    def _pieces(self, stream: BinaryIO) -> Iterator[pd.DataFrame]:
        rows = 0
        multiple = len(self.separator) > 1
        quotes = self._quoting == csv.QUOTE_MINIMAL and not multiple
        blocks = record_blocks(stream, self.path, self.encoding, self._skip, self.separator, quotes)
        try:
            for number, (line, block) in enumerate(blocks):
                piece = self._parse(block, line, self.has_header and not number)
                if not block.isascii():
                    count, meant = misread_utf8(block, self.encoding)
                    self._misread, self._meant = self._misread + count, self._meant or meant
                yield piece.set_axis(range(rows, rows + len(piece)))
                rows += len(piece)
        except UnicodeError as error:
            raise self._undecodable(error) from error

    def _parse(self, block: bytes, line: int, has_header: bool) -> pd.DataFrame:
        multiple = len(self.separator) > 1
        try:
            with warnings.catch_warnings():
                # pandas would cut off rows that are longer than the header, with a warning only.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                table: pd.DataFrame = pd.read_csv(
                    io.BytesIO(block),
                    sep=re.escape(self.separator) if multiple else self.separator,
                    engine="python" if multiple or not self.separator.isascii() else "c",
                    header=0 if has_header else None,
                    names=range(len(self.columns)),
                    # usecols would make the parser ignore rows with too many fields.
                    index_col=False,
                    quoting=self._quoting,
                    dtype=str,
                    na_filter=False,
                    skip_blank_lines=False,
                    encoding="utf-8-sig" if not line else "utf-8",
                )
            if not multiple and (table.iloc[:, -1] == "").any():
                self._mark_short(table, block, has_header)
            return table
        except pd.errors.EmptyDataError:
            nothing: pd.DataFrame = pd.DataFrame(columns=range(len(self.columns)), dtype=str)
            return nothing
        except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
            found = LINE_NUMBER.sub(lambda match: f"{match[1]}{int(match[2]) + line}", str(error))
            options = ", or give the form with --separator, --encoding or --no_header"
            raise DataError(
                f"{self.path}: expected {len(self.columns)} fields in every line "
                f"({self.description}), found: {found.strip()}. Repair the line"
                f"{'' if self._is_fixed else options}."
            ) from error

    def _mark_short(self, table: pd.DataFrame, block: bytes, has_header: bool) -> None:
        """Set what a row lacks to None, for which the fast parser of pandas has empty text."""
        text = io.StringIO(block.decode("utf-8"), newline="")
        limit = csv.field_size_limit(LINE_BYTES)
        try:
            records = csv.reader(text, delimiter=self.separator, quoting=self._quoting)
            counts = [len(record) for record in records][int(has_header) :]
        finally:
            csv.field_size_limit(limit)
        if len(counts) == len(table):
            table.loc[np.array(counts) < len(self.columns), table.columns[-1]] = None

    def _check_separator(self) -> None:
        try:
            csv.reader([], delimiter=self.separator[:1])
            wrong = '"' in self.separator or not self.separator.strip("\r\n\0")
        except (ValueError, TypeError):
            wrong = True
        if wrong:
            raise DataError(
                f"--separator: expected what stands between fields, such as ';', found "
                f"{self.separator!r}."
            )

    def _decode(self, head: bytes) -> str:
        try:
            # The piece may end within a character, which is no error.
            with suppress(UnicodeError):  # refuses what is a codec but no encoding of text
                b"a".decode(self.encoding)
            return codecs.getincrementaldecoder(self.encoding)().decode(head)
        except UnicodeError as error:
            raise self._undecodable(error) from error
        except (LookupError, ValueError, TypeError) as error:
            raise DataError(
                f"--encoding: expected the name of an encoding such as latin-1, found "
                f"{self.encoding!r}."
            ) from error

    def _undecodable(self, error: UnicodeError) -> DataError:
        remedy = "Give its encoding, for example --encoding latin-1."
        if self._is_fixed:
            remedy = "Convert the file to UTF-8."
        if self.encoding == "utf-8-sig":
            try:
                with reading(self.path) as stream:
                    for number, line in lines(stream, self.path):
                        text_of(line, self.path, number)
            except DataError as found:
                return found if self._is_fixed else DataError(f"{found} Or: {remedy}")
        return DataError(f"{self.path}: expected {self.encoding}, found {error}. {remedy}")
