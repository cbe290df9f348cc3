"""The report of a comparison as one page that needs nothing beside itself."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from recbole_margo.report.comparison_summary import (
    clean,
    conditions,
    failure_lines,
    metric_name,
    selection_metric,
)
from recbole_margo.report.comparison_tables import (
    DAGGER,
    SLICE_NOTES,
    Cell,
    Table,
    results_table,
    runs_table,
    settings_table,
    significance_notes,
    significance_tables,
    slice_tables,
)

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


def comparison_page(summary: Mapping[str, Any], drawings: Mapping[str, bytes]) -> str:
    """Return the report as an HTML page.

    Args:
        summary: the comparison, see docs/compare.md.
        drawings: figures as SVG, of `metrics`, `differences` and `slices`.
    """
    title = f"Comparison on {clean(summary['dataset'])}"
    body = [f"<h1>{_text(title)}</h1>", *_conditions(summary)]
    body += _failures(summary)
    body += ["<section>", *_table(results_table(summary), "h2")]
    body += [*_figure("metrics", summary, drawings), "</section>"]
    tests = significance_tables(summary)
    if tests:
        body += ["<section>", "<h2>Tests</h2>", *_notes(significance_notes(summary))]
        body += _figure("differences", summary, drawings)
        body += [*_tables(tests), "</section>"]
    slices = slice_tables(summary)
    if slices:
        body += ["<section>", "<h2>Slices</h2>", *_notes(SLICE_NOTES)]
        body += [*_figure("slices", summary, drawings), *_tables(slices), "</section>"]
    body += ["<section>", *_table(runs_table(summary), "h2"), "</section>"]
    body += ["<section>", *_table(settings_table(summary), "h2", "text"), "</section>"]
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title>",
        f"<style>\n{STYLE}\n</style>",
        "</head>",
        "<body>",
        "<main>",
        *body,
        "</main>",
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def _text(text: object) -> str:
    return html.escape(clean(text), quote=True)


def _conditions(summary: Mapping[str, Any]) -> Iterator[str]:
    yield "<dl>"
    for name, value in conditions(summary):
        yield f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>"
    yield "</dl>"


def _failures(summary: Mapping[str, Any]) -> Iterator[str]:
    lines = failure_lines(summary)
    if lines:
        yield "<section>"
        yield "<h2>What failed</h2>"
        yield "<ul>"
        yield from (f"<li>{_text(line)}</li>" for line in lines)
        yield "</ul>"
        yield "</section>"


def _notes(notes: Iterable[str]) -> Iterator[str]:
    yield from (f'<p class="note">{_text(note)}</p>' for note in notes)


def _tables(tables: Iterable[Table]) -> Iterator[str]:
    for table in tables:
        yield from _table(table, "h3")


def _table(table: Table, heading: str, kind: str = "numbers") -> Iterator[str]:
    yield f"<{heading}>{_text(table.title)}</{heading}>"
    # A region that scrolls has to be reached with the keyboard too.
    yield f'<div class="wide" role="region" aria-label="{_text(table.title)}" tabindex="0">'
    yield f'<table class="{kind}">'
    headers = (f'<th scope="col">{_text(header)}</th>' for header in table.headers)
    yield f"<thead><tr>{''.join(headers)}</tr></thead>"
    yield "<tbody>"
    for first, *others in table.rows:
        cells = "".join(f"<td>{_cell(cell)}</td>" for cell in others)
        yield f'<tr><th scope="row">{_cell(first)}</th>{cells}</tr>'
    yield from ("</tbody>", "</table>", "</div>")
    yield from _notes(table.notes)


def _cell(cell: Cell) -> str:
    text = f"<b>{_text(cell.text)}</b>" if cell.best else _text(cell.text)
    return f'{text}<span class="mark">{DAGGER}</span>' if cell.significant else text


def _figure(name: str, summary: Mapping[str, Any], drawings: Mapping[str, bytes]) -> Iterator[str]:
    if name not in drawings:
        return
    # As an image, not as elements: the identifiers of several drawings would clash.
    data = base64.b64encode(drawings[name]).decode("ascii")
    yield '<figure class="wide" tabindex="0">'
    yield f'<img alt="{_text(_alt(name, summary))}" src="data:image/svg+xml;base64,{data}">'
    yield "</figure>"


def _alt(name: str, summary: Mapping[str, Any]) -> str:
    if name == "metrics":
        metrics = ", ".join(metric_name(metric) for metric in summary["metrics"])
        return f"Dot plot of {metrics}, a row per model. The table above holds the numbers."
    if name == "differences":
        return (
            f"Forest plot of each model's difference to {summary['reference']} in "
            f"{metric_name(str(selection_metric(summary)))} with its interval. "
            "The tables below hold the numbers."
        )
    return "Dot plot of each slice of the test set by model. The tables below hold the numbers."
