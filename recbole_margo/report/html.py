"""Pages that need nothing beside themselves: no scripts, figures inside, offline."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Iterator

from recbole_margo.report.table import DAGGER, Cell, Table, clean

# Nothing may be loaded but the figures inside the page.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1a1a1a; --soft: #555; --line: #ccc;
  --band: #f3f5f7; }
@media (prefers-color-scheme: dark) { :root { --ground: #16181b; --ink: #e8e8e8; --soft: #aaa;
  --line: #444; --band: #202429; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--ground);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p { margin: .4rem 0; max-width: 52rem; }
.note { color: var(--soft); font-size: .9rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .5rem 0; }
dt { color: var(--soft); }
dd { margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
th, td { padding: .25rem .9rem .25rem .5rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); position: relative; }
thead th { background: var(--band); white-space: normal; vertical-align: bottom;
  min-width: 5.5rem; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--ground);
  white-space: normal; overflow-wrap: break-word; min-width: 7rem; max-width: 16rem; z-index: 1; }
thead th:first-child { background: var(--band); }
tbody th { font-weight: normal; }
.text td, .text th { text-align: left; white-space: normal; }
.text td { overflow-wrap: anywhere; }
.mark { position: absolute; right: .3rem; }
figure { margin: 1rem 0; }
img { display: block; width: 100%; max-width: 56rem; min-width: 34rem; height: auto;
  background: #fff; border-radius: 4px; }
@media (max-width: 40rem) { body { padding: .6rem; } dl { display: block; }
  dd { margin: 0 0 .3rem; } th:first-child { max-width: 9rem; } }
@media print { :root { --ground: #fff; --ink: #000; --soft: #333; --line: #999; --band: #eee; }
  body { max-width: none; padding: 0; font-size: 9pt; } table { font-size: 7.5pt; }
  .wide { overflow: visible; } th, td { padding: 1pt 8pt 1pt 3pt; } thead th { min-width: 0; }
  th:first-child { position: static; min-width: 0; max-width: 9rem; }
  tr, figure { break-inside: avoid; } h2, h3 { break-after: avoid; } img { width: auto;
  min-width: 0; max-width: 100%; max-height: 24cm; } }
""".strip()


def page(title: str, body: Iterable[str]) -> str:
    """Return an HTML page.

    Args:
        title: its title, plain text; also its first heading.
        body: the lines below the heading, as the functions of this file return them.
    """
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(title)}</title>",
        f"<style>\n{STYLE}\n</style>",
        "</head>",
        "<body>",
        "<main>",
        f"<h1>{text(title)}</h1>",
        *body,
        "</main>",
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def text(content: object) -> str:
    """Return anything as text that HTML shows as it is, in an attribute too."""
    return html.escape(clean(content), quote=True)


def section(title: str | None, *parts: Iterable[str]) -> Iterator[str]:
    """Return the lines of a section.

    Args:
        title: its heading; none: its first part brings its own.
        parts: the lines of each part.
    """
    yield "<section>"
    if title is not None:
        yield f"<h2>{text(title)}</h2>"
    for part in parts:
        yield from part
    yield "</section>"


def facts(pairs: Iterable[tuple[str, object]]) -> Iterator[str]:
    """Return the lines of a list of names and values."""
    yield "<dl>"
    for name, value in pairs:
        yield f"<dt>{text(name)}</dt><dd>{text(value)}</dd>"
    yield "</dl>"


def bullets(lines: Iterable[str]) -> Iterator[str]:
    """Return the lines of a list."""
    yield "<ul>"
    yield from (f"<li>{text(line)}</li>" for line in lines)
    yield "</ul>"


def notes(sentences: Iterable[str]) -> Iterator[str]:
    """Return the lines of one paragraph per sentence, in small print."""
    yield from (f'<p class="note">{text(note)}</p>' for note in sentences)


def tables(several: Iterable[Table]) -> Iterator[str]:
    """Return the lines of tables below the heading of a section."""
    for one in several:
        yield from table(one, "h3")


def table(content: Table, heading: str = "h2", kind: str = "numbers") -> Iterator[str]:
    """Return the lines of a table under its title and above its notes.

    Args:
        content: the table.
        heading: level of its title.
        kind: `numbers`, or `text` for long texts.
    """
    yield f"<{heading}>{text(content.title)}</{heading}>"
    # A region that scrolls has to be reached with the keyboard too.
    yield f'<div class="wide" role="region" aria-label="{text(content.title)}" tabindex="0">'
    yield f'<table class="{kind}">'
    headers = (f'<th scope="col">{text(header)}</th>' for header in content.headers)
    yield f"<thead><tr>{''.join(headers)}</tr></thead>"
    yield "<tbody>"
    for first, *others in content.rows:
        cells = "".join(f"<td>{_cell(cell)}</td>" for cell in others)
        yield f'<tr><th scope="row">{_cell(first)}</th>{cells}</tr>'
    yield from ("</tbody>", "</table>", "</div>")
    yield from notes(content.notes)


def _cell(cell: Cell) -> str:
    shown = f"<b>{text(cell.text)}</b>" if cell.best else text(cell.text)
    return f'{shown}<span class="mark">{DAGGER}</span>' if cell.significant else shown


def figure(drawing: bytes, alternative: str) -> Iterator[str]:
    """Return the lines of a figure.

    Args:
        drawing: it, as SVG.
        alternative: what it shows, for those who do not see it.
    """
    # As an image, not as elements: the identifiers of several drawings would clash.
    data = base64.b64encode(drawing).decode("ascii")
    yield '<figure class="wide" tabindex="0">'
    yield f'<img alt="{text(alternative)}" src="data:image/svg+xml;base64,{data}">'
    yield "</figure>"
