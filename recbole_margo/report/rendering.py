"""The one rendering of a document or a table for each format: terminal, Markdown, HTML, LaTeX."""

from __future__ import annotations

import base64
import html
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from tabulate import LATEX_ESCAPE_RULES

from recbole_margo.report.document import (
    Bullets,
    Document,
    Figure,
    Paragraphs,
    Part,
    Section,
    shown_sections,
)
from recbole_margo.report.table import (
    DAGGER,
    NOTHING,
    Table,
    clean,
    markdown_paragraphs,
    markdown_table,
    markdown_text,
    marked,
    table_text,
)

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


def terminal_bold() -> str:
    """Return how standard output marks the best value, with `{}` for the value."""
    return "\033[1m{}\033[0m" if sys.stdout.isatty() else "**{}**"


def terminal_text(sections: Iterable[Section], style: str = "simple", bold: str = "**{}**") -> str:
    """Return sections for a terminal: tables and sentences, without figures and folds.

    Args:
        style: a table format of `tabulate`.
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
