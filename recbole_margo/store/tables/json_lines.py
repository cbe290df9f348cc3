"""Tables of JSON objects, one a line or in one array, and of Python literals taken for JSON."""

from __future__ import annotations

import ast
import codecs
import itertools
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from recbole_margo.errors import DataError
from recbole_margo.store.reading import BUFFER_BYTES, LINE_BYTES, lines, reading, text_of
from recbole_margo.store.tables.table_file import CHUNK_ROWS, TableFile

# A syntax tree takes a hundred times the memory of its text; no line of 2014 comes near.
LITERAL_CHARACTERS = 1 << 20
LITERAL = re.compile(r"\{\s*'|.*?[:\[,]\s*(?:True|False|None)\b", re.DOTALL)
CONSTANTS = {"true": True, "false": False, "null": None}
BETWEEN = re.compile(r"[\s,]*")


def is_array(head: bytes) -> bool:
    """Tell whether the beginning of a file is that of a JSON array."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["


def parse_record(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """Parse a line; no part of it is ever executed."""
    record = parse_json(text_of(line, path, number).strip(), path, number)
    if not isinstance(record, dict):
        raise DataError(
            f"{path}, line {number}: expected a JSON object, found {str(record)[:80]!r}."
        )
    return record


def parse_json(text: str, path: Path, number: int) -> Any:
    """Parse one JSON value, or one Python literal."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if len(text) <= LITERAL_CHARACTERS and LITERAL.match(text):
            return _parse_literal(text, path, number)
        raise DataError(
            f"{path}, line {number}: expected JSON, found {text[:80]!r} ({error}). Repair or "
            "remove the line; an object that spans lines becomes one line by: "
            f"jq -c . {path.name}"
        ) from error


def array_records(stream: BinaryIO, path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the number (from 1) and the value of every element of a JSON array, one at a time."""
    decoder, parser = codecs.getincrementaldecoder("utf-8-sig")(), json.JSONDecoder()
    held, position, number, started, at_end = "", 0, 0, False, False
    while True:
        if not started and "[" in held:
            started, position = True, held.index("[") + 1
        between = BETWEEN.match(held, position)
        position = between.end() if between else position
        if held[position : position + 1] == "]":
            return
        try:
            if not started:
                raise ValueError("the array has not begun")
            value, stop = parser.raw_decode(held, position)
            if stop == len(held) and not at_end:
                raise ValueError("a number may go on")
        except (ValueError, RecursionError) as error:
            if at_end or len(held) - position > LINE_BYTES:
                found = held[position : position + 80]
                raise DataError(
                    f"{path}, object {number + 1}: expected JSON in an array that ends with ], "
                    f"found {found!r} ({error}). Repair the file, or write an object a line: "
                    f"jq -c '.[]' {path.name}"
                ) from error
            content = stream.read(BUFFER_BYTES)
            at_end = not content
            try:
                held, position = held[position:] + decoder.decode(content, at_end), 0
            except UnicodeDecodeError as wrong:
                raise DataError(
                    f"{path}, after object {number}: expected UTF-8, found {wrong}. Convert the "
                    f"file: iconv -f LATIN1 -t UTF-8 {path.name}"
                ) from wrong
            continue
        number, position = number + 1, stop
        yield number, value


def _parse_literal(text: str, path: Path, number: int) -> Any:
    try:
        with warnings.catch_warnings():
            # About escapes in the text of others, which nobody here can mend.
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval")
            return ast.literal_eval(_Constants().visit(tree))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise DataError(
            f"{path}, line {number}: expected a Python dict of plain values, as in the edition of "
            f"2014, or JSON, found {text[:80]!r} ({error}). Repair or remove the line."
        ) from error


class _Constants(ast.NodeTransformer):
    """Reads true, false and null, which some programs write between Python's quotes."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in CONSTANTS:
            return ast.copy_location(ast.Constant(CONSTANTS[node.id]), node)
        return node


HEAD_RECORDS = 100
CHUNK_CHARACTERS = 1 << 26


class JsonLinesTable(TableFile):
    """A file of JSON objects; a field that an object lacks is None."""

    def __init__(self, path: Path) -> None:
        """Look at the first records."""
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
        cells: dict[str, list[Any]] = {column: [] for column in columns}
        characters = 0
        for row, record in self._records(label):
            rows.append(row)
            for column, own in cells.items():
                value = record.get(column)
                own.append(value)
                if isinstance(value, str):
                    characters += len(value)
            if len(rows) == CHUNK_ROWS or characters > CHUNK_CHARACTERS:
                yield _chunk(cells, rows)
                rows, cells, characters = [], {column: [] for column in columns}, 0
        if rows:
            yield _chunk(cells, rows)

    def location(self, row: int) -> str:
        """Return the line of a row, or which object of the array it is."""
        return f"object {row + 1}" if self._is_array else f"line {row + 1}"

    def _records(self, label: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number (from 0) of the line or object and its content."""
        with reading(self.path, label) as stream:
            if self._is_array:
                parsed = array_records(stream, self.path)
            else:
                parsed = (
                    (number, parse_record(line, self.path, number))
                    for number, line in lines(stream, self.path)
                )
            for number, value in parsed:
                if not isinstance(value, dict):
                    raise DataError(
                        f"{self.path}, {self.location(number - 1)}: expected a JSON object, found "
                        f"{str(value)[:80]!r}."
                    )
                yield number - 1, value


def _chunk(cells: dict[str, list[Any]], rows: list[int]) -> pd.DataFrame:
    chunk: pd.DataFrame = pd.DataFrame(
        {column: pd.Series(own, dtype=object, index=rows) for column, own in cells.items()}
    )
    return chunk
