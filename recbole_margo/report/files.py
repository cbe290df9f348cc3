"""How the files of a report are written: whole or not at all, the same numbers the same file."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_margo.report.document import Document
from recbole_margo.report.figures import draw, drawings_of, figure_files
from recbole_margo.report.rendering import html_page, markdown_page
from recbole_margo.store.writing import replacing

# How a text begins that a spreadsheet takes for a formula; East Asian ones read the wide signs too.
FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def write_texts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write texts into a folder, made if it is not there; each replaces what was there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return [folder / name for name in texts]


def write_document(
    folder: Path,
    stem: str,
    document: Document,
    texts: Mapping[str, str] | None = None,
    page: str | None = None,
) -> list[Path]:
    """Write a report: its pages, its figures and other texts; what is there already is replaced.

    Args:
        folder: where to; made if it is not there.
        stem: name of the pages `<stem>.md` and `<stem>.html`.
        document: the report; the files of its figures that have nothing to draw are removed.
        texts: other files by name, such as the numbers that `json_text` and `csv_text` return.
        page: name of the HTML page if it is another one.
    """
    drawn = [one.name for one in document.figures() if draw(folder / one.name, one.drawing)]
    drawings = drawings_of(folder, drawn)
    pages = {
        f"{stem}.md": markdown_page(document, drawn),
        page or f"{stem}.html": html_page(document, drawings),
    }
    return [*write_texts(folder, {**(texts or {}), **pages}), *figure_files(folder, drawn)]


def csv_text(
    columns: Sequence[str], rows: Iterable[Sequence[object] | Mapping[str, object]]
) -> str:
    """Return rows as CSV below the names of their columns, for people and their spreadsheets.

    Args:
        rows: of each row the cells in the order of the columns, or values by column; None, and a
            column without a value, are left empty. Texts are written by `harmless_cell`.
    """
    text = io.StringIO(newline="")
    # It quotes what its line terminator holds: a carriage return in a cell would end the row.
    writer = csv.writer(_Lines(text), lineterminator="\r\n")
    writer.writerow(map(harmless_cell, columns))
    for row in rows:
        cells = [row.get(column) for column in columns] if isinstance(row, Mapping) else row
        writer.writerow(map(harmless_cell, cells))
    return text.getvalue()


class _Lines:
    """Writes the rows of a `csv.writer`, which come one at a time, with a line feed alone."""

    def __init__(self, text: io.StringIO) -> None:
        self._text = text

    def write(self, row: str) -> None:
        self._text.write(row.removesuffix("\r\n") + "\n")


def harmless_cell(value: Any) -> Any:
    """Return a cell that no spreadsheet runs: a text like a formula gets an apostrophe in front.

    A text that begins with apostrophes and goes on like a formula gets one more, so that to take
    one away where `FORMULA` matches gives every text back. Numbers stay as they are.
    """
    if not isinstance(value, str) or not FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def json_text(value: Any) -> str:
    """Return a value as JSON; what JSON has no number for becomes null."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False, default=str)
    # Half of a surrogate pair, as a file's name may hold one, has no UTF-8.
    return text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n"


def _finite(value: Any) -> Any:
    """Return a value with null for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
