"""A report as data: a title, facts, and sections of tables, figures and sentences.

A table is shown as text and Markdown here; the whole document in `recbole_margo.report.rendering`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from matplotlib import figure as matplotlib_figure
from tabulate import tabulate

DAGGER = "†"
# Stands where there is no value.
NOTHING = "–"
# What Markdown or a page made from it would take for markup.
MARKDOWN_SIGNS = re.compile(r"([\\`*_\[\]|~])")

Record = TypeVar("Record")
# Of a table by its headers: the cell of a record, or what a cell shows as text.
Columns: TypeAlias = Mapping[str, Callable[[Record], object]]


@dataclass(frozen=True)
class Interval:
    """An interval between 0 and 1, which a page draws in a cell.

    Attributes:
        reference: where a dashed line stands.
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

    @classmethod
    def of(
        cls,
        title: str,
        records: Iterable[Record],
        columns: Columns[Record],
        notes: Iterable[str] = (),
        texts: tuple[str, ...] = (),
    ) -> Table:
        """Return a table of a row per record."""
        rows = tuple(cells(*(of(record) for of in columns.values())) for record in records)
        return cls(title, tuple(columns), rows, tuple(notes), texts)


def cells(*values: object) -> tuple[Cell, ...]:
    """Return the cells of a row; what is no cell is shown as text."""
    return tuple(one if isinstance(one, Cell) else Cell(str(one)) for one in values)


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


@dataclass(frozen=True)
class Figure:
    """A figure, drawn when the document is written.

    Attributes:
        name: of its files, without ending.
        alternative: what it shows, for those who do not see it.
        drawing: makes it; None if there is nothing to draw, and then the figure is left out.
    """

    name: str
    alternative: str
    drawing: Callable[[], matplotlib_figure.Figure | None]
    caption: tuple[str, ...] = ()


@dataclass(frozen=True)
class Paragraphs:
    """Sentences, each a paragraph in small print."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Fold:
    """Parts that a page shows when its reader opens them; a terminal leaves them out."""

    title: str
    parts: tuple[Part, ...]


Part: TypeAlias = "Table | Figure | Paragraphs | Bullets | Fold"


@dataclass(frozen=True)
class Section:
    """Parts that belong together; one without parts is not shown.

    Attributes:
        title: its heading; None: its first part brings its own.
    """

    title: str | None
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
        facts: names and values of the conditions, shown below the title.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]

    def figures(self) -> list[Figure]:
        """Return all figures, those in folds too."""
        return list(_figures(part for section in self.sections for part in section.parts))


def _figures(parts: Iterable[Part]) -> Iterator[Figure]:
    for part in parts:
        if isinstance(part, Figure):
            yield part
        elif isinstance(part, Fold):
            yield from _figures(part.parts)


def failure_section(lines: Iterable[str]) -> tuple[Section, ...]:
    """Return the section that tells what failed, or nothing."""
    told = tuple(lines)
    return (Section("What failed", (Bullets(told),)),) if told else ()


def shown_sections(document: Document, drawn: Iterable[str]) -> list[Section]:
    """Return the sections without figures that were not drawn, and without empty sections.

    Args:
        drawn: names of the figures that exist.
    """
    names = set(drawn)

    def kept(parts: Iterable[Part]) -> Iterator[Part]:
        for part in parts:
            if isinstance(part, Fold):
                inside = tuple(kept(part.parts))
                if inside:
                    yield Fold(part.title, inside)
            elif not isinstance(part, Figure) or part.name in names:
                yield part

    sections = [Section(one.title, tuple(kept(one.parts))) for one in document.sections]
    return [section for section in sections if section.parts]
