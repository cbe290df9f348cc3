"""The form of a csv-like file by its first lines."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections.abc import Sequence
from typing import Literal

from recbole_margo.store.tables.columns import is_column_name
from recbole_margo.store.tables.table_file import NUMBER

SEPARATORS = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar", "::": "::", " ": "space"}
HEAD_RECORDS = 20
# The first line of Excel that names the separator.
SEPARATOR_LINE = re.compile(r'\A\ufeff?"?sep=(.)"?(?:\r\n|\n|\r)', re.IGNORECASE)
COMMENT_LINE = re.compile(r"\A\ufeff?#[^\r\n]*(?:\r\n|\n|\r)")
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def misread_utf8(block: bytes, encoding: str) -> tuple[int, str]:
    """Count the lines that were read in a single-byte encoding and whose bytes are UTF-8.

    Bytes above 127 hardly ever are UTF-8 by chance: two wrong letters stand for one `ü`.

    Args:
        block: the text as it was read, in UTF-8.

    Returns:
        Their number, and what the first should have been, empty if there is none.
    """
    # In latin-1, cp1252 and the like, nearly every byte is a character.
    if len(bytes(range(256)).decode(encoding, "ignore")) <= 240:
        return 0, ""
    count, example = 0, ""
    for line in block.decode("utf-8").encode(encoding, "replace").splitlines():
        if line.isascii():
            continue
        try:
            meant = line.decode("utf-8")
        except UnicodeDecodeError:
            continue
        count, example = count + 1, example or meant
    return count, example


def encoding_of(head: bytes) -> str:
    """Return the encoding of a text by its mark, or by the zero bytes of UTF-16 without one."""
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding
    # Nearly all text in a table is ASCII: every second byte is zero, and no other is.
    whole = head[: len(head) // 2 * 2]
    zeros = whole[0::2].count(0), whole[1::2].count(0)
    if not zeros[0] and zeros[1] > len(whole) / 4:
        return "utf-16-le"
    if not zeros[1] and zeros[0] > len(whole) / 4:
        return "utf-16-be"
    return "utf-8-sig"


def preamble_of(text: str, separator: str | None, is_whole: bool) -> tuple[int, str | None]:
    """Return how many characters before the table are none of it, and the separator they name.

    A comment is left out only where it cannot be a header or a row: where it has another number of
    fields than what follows. A separator that the user names holds.
    """
    named = SEPARATOR_LINE.match(text)
    if named:
        return named.end(), separator or named[1]
    ends = [0]
    while comment := COMMENT_LINE.match(text[ends[-1] :]):
        ends.append(ends[-1] + comment.end())
    rest = text[ends[-1] :]
    between = separator or guess_separator(rest, is_whole)
    width = len(next(iter(records_of(rest, between, is_whole)), []))
    skipped = 0
    for start, end in itertools.pairwise(ends):
        first = next(iter(records_of(text[start:end], between, True)), [])
        if not width or len(first) == width:
            break
        skipped = end
    return skipped, separator


def records_of(
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
        except (csv.Error, ValueError, TypeError):
            return []
    if not is_whole and len(records) > 1:
        records.pop()
    return [record for record in records if record][:HEAD_RECORDS]


def guess_separator(text: str, is_whole: bool) -> str:
    """Return the separator that gives all first records the same, and most, fields."""

    def quality(separator: str) -> tuple[bool, int]:
        counts = [len(record) for record in records_of(text, separator, is_whole)] or [0]
        return min(counts) == max(counts) > 1, counts[0]

    return max(SEPARATORS, key=quality)


def first_names_columns(records: Sequence[Sequence[str]]) -> bool:
    """Tell whether the first record names the columns.

    It does when it has names that people give columns, or a text above numbers, or a number above
    texts; else when none of its fields is a number.
    """
    first = [field.strip() for field in records[0]]
    if sum(is_column_name(field) for field in first) >= 2 or any(
        is_column_name(field, alone=True) for field in first
    ):
        return True
    for column, name in enumerate(first):
        below = [record[column].strip() for record in records[1:] if len(record) > column]
        below = [field for field in below if field]
        numbers = sum(NUMBER.fullmatch(field) is not None for field in below)
        if name and below and numbers == len(below) and not NUMBER.fullmatch(name):
            return True
        if len(below) > 1 and not numbers and NUMBER.fullmatch(name):
            return True
    return not any(NUMBER.fullmatch(field) for field in first)
