"""The one rendering of a document or a table for each format, and the files of a report.

Files are written whole or not at all, and the same numbers give the same file.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from tabulate import LATEX_ESCAPE_RULES

from recbole_margo.report.document import (
    DAGGER,
    NOTHING,
    Bullets,
    Document,
    Figure,
    Paragraphs,
    Part,
    Section,
    Table,
    clean,
    markdown_paragraphs,
    markdown_table,
    markdown_text,
    marked,
    shown_sections,
    table_text,
)
from recbole_margo.report.figures import draw, drawings_of, figure_files
from recbole_margo.store.writing import replacing

TEMPLATE = "page.html.jinja"
LATEX_SIGNS: dict[str, str | int | None] = {
    **LATEX_ESCAPE_RULES,
    "±": r"$\pm$",
    DAGGER: r"$^{\dagger}$",
    "↓": r"$\downarrow$",
    NOTHING: "--",
    # After the end of a row LaTeX would take these for an argument of the line break.
    "[": "{[}",
    "*": "{*}",
}
# How a text begins that a spreadsheet takes for a formula; East Asian ones read the wide signs too.
FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def terminal_bold() -> str:
    """Return how standard output marks the best value, with `{}` for the value."""
    return "\033[1m{}\033[0m" if sys.stdout.isatty() else "**{}**"


def terminal_text(sections: Iterable[Section], style: str = "simple", bold: str = "**{}**") -> str:
    """Return sections for a terminal: tables and sentences, without figures and folds.

    Args:
        bold: how the best of a column is marked, with `{}` for it.
    """
    blocks: list[str] = []
    for section in sections:
        before = len(blocks)
        for part in section.parts:
            if isinstance(part, Table):
                blocks.append("\n".join([part.title, table_text(part, style, bold), *part.notes]))
            elif isinstance(part, Paragraphs | Bullets):
                blocks.append("\n".join(part.lines))
        if section.title and len(blocks) > before:
            blocks.insert(before, section.title)
    return "\n\n".join(block for block in blocks if block)


def markdown_page(document: Document, drawn: Iterable[str] = ()) -> str:
    """Return a document as a Markdown page.

    Args:
        drawn: names of the figures whose SVG lies beside the page.
    """
    lines = [f"# {markdown_text(clean(document.title))}", ""]
    lines += [
        f"- {markdown_text(name)}: {markdown_text(clean(value))}" for name, value in document.facts
    ]
    lines.append("")
    for section in shown_sections(document, drawn):
        if section.title:
            lines += [f"## {markdown_text(section.title)}", ""]
        heading = "###" if section.title else "##"
        lines += [line for part in section.parts for line in _markdown_part(part, heading)]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_part(part: Part, heading: str) -> Iterator[str]:
    if isinstance(part, Table):
        yield from markdown_table(part, heading)
    elif isinstance(part, Figure):
        yield from (f"![{markdown_text(clean(part.alternative))}]({part.name}.svg)", "")
        yield from markdown_paragraphs(part.caption)
    elif isinstance(part, Paragraphs):
        yield from markdown_paragraphs(part.lines)
    elif isinstance(part, Bullets):
        yield from (*(f"- {markdown_text(line)}" for line in part.lines), "")
    else:
        yield from ("<details>", f"<summary>{html.escape(clean(part.title))}</summary>", "")
        for one in part.parts:
            yield from _markdown_part(one, heading)
        yield from ("</details>", "")


def html_page(document: Document, drawings: Mapping[str, bytes] | None = None) -> str:
    """Return a document as a page that needs nothing beside it: no scripts, figures inside.

    Args:
        drawings: SVG by name of the figure; a figure without one is left out.
    """
    images = {
        # As an image, not as elements: the identifiers of several drawings would clash.
        name: Markup("data:image/svg+xml;base64,") + base64.b64encode(drawing).decode("ascii")
        for name, drawing in (drawings or {}).items()
    }
    sections = shown_sections(document, images)
    return _template().render(document=document, sections=sections, images=images, dagger=DAGGER)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["kind"] = lambda part: type(part).__name__
    return environment.get_template(TEMPLATE)


def _shown(value: Any) -> Any:
    return value if isinstance(value, Markup) else clean(value)


def latex_table(table: Table, caption: str) -> str:
    """Return a table for a paper; the best of a column is bold.

    Args:
        table: the table; its title and notes are not shown.
    """
    rows = [
        [marked(cell, _latex, r"\textbf{{}}", r"$^{\dagger}$") for cell in row]
        for row in table.rows
    ]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.headers) - 1)}}}",
        r"\toprule",
        *_latex_rows([[_latex(header) for header in table.headers]]),
        r"\midrule",
        *_latex_rows(rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex(text: str) -> str:
    return text.translate(str.maketrans(LATEX_SIGNS))


def _latex_rows(rows: list[list[str]]) -> Iterator[str]:
    yield from (" & ".join(row) + r" \\" for row in rows)


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
    page: str = "",
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
