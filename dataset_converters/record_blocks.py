"""Cuts csv-like text into blocks of whole records, so that no reader ever holds more than one."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dataset_converters.byte_stream import LINE_BYTES
from dataset_converters.errors import DataError

BLOCK_BYTES = 1 << 22
QUOTES = re.compile(rb'"+')


def record_blocks(
    stream: BinaryIO, path: Path, encoding: str, skip: int, separator: str, quotes: bool
) -> Iterator[tuple[int, bytes]]:
    """Yield UTF-8 blocks of whole records, each of `BLOCK_BYTES` or one record.

    Args:
        stream: the bytes of the file.
        path: the file, for messages.
        encoding: of the bytes.
        skip: characters at the beginning that are no records.
        separator: between fields.
        quotes: whether a field that begins with a quote ends with one, and may span lines.

    Returns:
        The number of lines before each block, and the block.

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
                "character of value 0. Is it in UTF-16? Give --encoding utf-16-le; else remove "
                f"them: tr -d '\\000' < {path.name} > clean.csv"
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
    end = place = 0
    while True:
        opened = opening.search(content, place)
        end = max(end, content.rfind(newline, place, opened.start() if opened else None) + 1)
        if opened is None:
            return end
        place = opened.end()
        while True:
            # Two quotes stand for one; what remains of an odd number closes the field.
            run = QUOTES.match(content, max(place, content.find(b'"', place)))
            if run is None:
                return end
            place = run.end()
            if (run.end() - run.start()) % 2:
                break
