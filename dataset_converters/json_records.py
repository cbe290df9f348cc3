"""JSON objects, one a line or in one array, and the Python literals that are taken for JSON."""

from __future__ import annotations

import ast
import codecs
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dataset_converters.byte_stream import BUFFER_BYTES, LINE_BYTES, text_of
from dataset_converters.errors import DataError

# A syntax tree takes a hundred times the memory of its text; no line of 2014 comes near.
LITERAL_CHARACTERS = 1 << 20
LITERAL = re.compile(r"\{\s*'|.*?[:\[,]\s*(?:True|False|None)\b", re.DOTALL)
CONSTANTS = {"true": True, "false": False, "null": None}
# Half of a character beyond U+FFFF, as text that was cut in its middle has it.
SURROGATES = re.compile("[\ud800-\udfff]")
BETWEEN = re.compile(r"[\s,]*")


def is_array(head: bytes) -> bool:
    """Tell whether the beginning of a file is that of a JSON array."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["


def parse_record(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """Parse a line; no part of it is ever executed.

    Args:
        line: a JSON object, or a Python dict of plain values.
        path: its file, for messages.
        number: its line, likewise.

    Raises:
        DataError: the line is neither.
    """
    record = parse_json(text_of(line, path, number).strip(), path, number)
    if not isinstance(record, dict):
        raise DataError(f"{path}, line {number}: expected an object, found {str(record)[:80]!r}.")
    return record


def parse_json(text: str, path: Path, number: int) -> Any:
    """Parse one JSON value, or one Python literal.

    Args:
        text: the value.
        path: its file, for the message.
        number: its line, likewise.

    Raises:
        DataError: the text is neither.
    """
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
    """Yield the number (from 1) and the value of every element of a JSON array, one at a time.

    Args:
        stream: the bytes of the file.
        path: the file, for messages.

    Raises:
        DataError: an element is no JSON, or longer than any text, or the array does not end.
    """
    decoder, parser = codecs.getincrementaldecoder("utf-8-sig")(), json.JSONDecoder()
    held, place, number, started, at_end = "", 0, 0, False, False
    while True:
        if not started and "[" in held:
            started, place = True, held.index("[") + 1
        between = BETWEEN.match(held, place)
        place = between.end() if between else place
        if held[place : place + 1] == "]":
            return
        try:
            if not started:
                raise ValueError("the array has not begun")
            value, stop = parser.raw_decode(held, place)
            if stop == len(held) and not at_end:
                raise ValueError("a number may go on")
        except (ValueError, RecursionError) as error:
            if at_end or len(held) - place > LINE_BYTES:
                found = held[place : place + 80]
                raise DataError(
                    f"{path}, object {number + 1}: expected JSON in an array that ends with ], "
                    f"found {found!r} ({error}). Repair the file, or write an object a line: "
                    f"jq -c '.[]' {path.name}"
                ) from error
            content = stream.read(BUFFER_BYTES)
            at_end = not content
            try:
                held, place = held[place:] + decoder.decode(content, at_end), 0
            except UnicodeDecodeError as wrong:
                raise DataError(
                    f"{path}, after object {number}: expected UTF-8, found {wrong}. Convert the "
                    f"file: iconv -f LATIN1 -t UTF-8 {path.name}"
                ) from wrong
            continue
        number, place = number + 1, stop
        yield number, value


def is_broken(text: str) -> bool:
    """Tell whether a text holds half a character, which no file can."""
    return not text.isascii() and SURROGATES.search(text) is not None


def whole_characters(text: str) -> str:
    """Return a text that can be written: halves of a character joined, or replaced by U+FFFD."""
    if not is_broken(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


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
