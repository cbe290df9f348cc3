"""A table as data, and as text and Markdown show it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tabulate import tabulate

DAGGER = "†"
# Stands where there is no value.
NOTHING = "–"
# What Markdown or a page made from it would take for markup.
MARKDOWN_SIGNS = re.compile(r"([\\`*_\[\]|~])")


@dataclass(frozen=True)
class Interval:
    """An interval between 0 and 1, which a page draws in a cell.

    Attributes:
        low: its lower end.
        high: its upper end.
        value: the estimate.
        reference: where a dashed line stands.
        faint: whether it is drawn pale.
    """

    low: float
    high: float
    value: float
    reference: float
    faint: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: plain text, to be escaped for where it is shown.
        best: whether it is the best of its column, shown in bold.
        significant: whether it differs significantly from the reference.
        aside: small print after the text.
        below: small print on a line of its own.
        link: relative address of a page that the text leads to; on pages only.
        picture: a `data:` address of an image above the text; on pages only.
        interval: drawn above the text; on pages only.
    """

    text: str
    best: bool = False
    significant: bool = False
    aside: str = ""
    below: str = ""
    link: str = ""
    picture: str = ""
    interval: Interval | None = None


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows.

    Attributes:
        headers: names of the columns [C].
        rows: cells [R][C].
        texts: headers of the columns that hold long texts, not numbers.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


def clean(text: object) -> str:
    """Return a text of others on one line, without control characters."""
    shown = "".join(sign if sign.isprintable() else " " for sign in str(text))
    return " ".join(shown.split())


def shorten(text: object, width: int) -> str:
    """Return a text of others on one line that is cut at a width."""
    shown = clean(text)
    return shown if len(shown) <= width else f"{shown[: width - 1]}…"


def table_text(table: Table, style: str = "simple", bold: str = "**{}**") -> str:
    """Return the rows of a table for a terminal.

    Args:
        style: a table format of `tabulate`.
        bold: how the best of a column is marked, with `{}` for it.
    """
    rows = [[marked(cell, str, bold, f" {DAGGER}") for cell in row] for row in table.rows]
    return tabulate(rows, headers=table.headers, tablefmt=style, disable_numparse=True)


def markdown_text(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MARKDOWN_SIGNS.sub(r"\\\1", escaped)


def markdown_paragraphs(notes: Iterable[str]) -> Iterator[str]:
    """Return the lines of one paragraph per note."""
    for note in notes:
        yield from (markdown_text(note), "")


def markdown_table(table: Table, heading: str = "##") -> Iterator[str]:
    """Return the lines of a table under its title."""
    yield from (f"{heading} {markdown_text(table.title)}", "")
    rows = [
        [marked(cell, markdown_text, "**{}**", f" {DAGGER}") for cell in row] for row in table.rows
    ]
    headers = [markdown_text(header) for header in table.headers]
    yield tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    yield ""
    yield from markdown_paragraphs(table.notes)


def marked(cell: Cell, escape: Callable[[str], str], bold: str, mark: str) -> str:
    """Return the text of a cell with its marks, and its small print after it.

    Args:
        escape: makes plain text fit for where it is shown.
        bold: how the best of a column is marked, with `{}` for it.
        mark: what follows a significant one.
    """
    text = escape(cell.text)
    text = bold.replace("{}", text) if cell.best else text
    small = " ".join(escape(part) for part in (cell.aside, cell.below) if part)
    return (text + mark if cell.significant else text) + (f" {small}" if small else "")
