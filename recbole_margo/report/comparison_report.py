"""The report of a comparison: a folder of tables, figures and one page."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tabulate import LATEX_ESCAPE_RULES, tabulate

from dataset_converters.atomic import replacing
from recbole_margo.report.comparison_figures import draw_comparison
from recbole_margo.report.comparison_summary import (
    NOTHING,
    clean,
    conditions,
    failure_lines,
    finished_seeds,
)
from recbole_margo.report.comparison_tables import (
    DAGGER,
    SLICE_NOTES,
    SMALLER,
    Cell,
    Table,
    results_table,
    runs_table,
    settings_table,
    significance_notes,
    significance_tables,
    slice_tables,
)
from recbole_margo.report.html import comparison_page

FIGURES = ("metrics", "differences", "slices")
CSV_COLUMNS = ("label", "model", "status", "on", "metric", "statistic", "seed", "value")
# What Markdown or a page made from it would take for markup.
MARKDOWN_SIGNS = re.compile(r"([\\`*_\[\]|~])")
LATEX_SIGNS: dict[str, str | int | None] = {
    **LATEX_ESCAPE_RULES,
    "±": r"$\pm$",
    DAGGER: r"$^{\dagger}$",
    SMALLER: r"$\downarrow$",
    NOTHING: "--",
    # After the end of a row LaTeX would take these for an argument of the line break.
    "[": "{[}",
    "*": "{*}",
}


def write_comparison_report(folder: Path, summary: Mapping[str, Any]) -> list[Path]:
    """Write everything that is shown of a comparison; what is there already is replaced.

    Args:
        folder: where to; made if it is not there.
        summary: the comparison as plain data, see docs/compare.md.

    Returns:
        The files: `summary.json`, `comparison.md`, `.tex` and `.csv`, `report.html` and, as PNG and
        SVG, the figures `metrics`, `differences` and `slices`, each if there is something to draw.

    Raises:
        RecBoleMargoError: if the values do not fit the seeds.
    """
    texts = {
        "summary.json": _json(summary),
        "comparison.md": comparison_markdown(summary),
        "comparison.tex": comparison_latex(summary),
        "comparison.csv": comparison_csv(summary),
    }
    folder.mkdir(parents=True, exist_ok=True)
    figures = draw_comparison(folder, summary)
    # An earlier report into this folder may have had more to draw.
    for name in set(FIGURES) - set(figures):
        for ending in ("png", "svg"):
            (folder / f"{name}.{ending}").unlink(missing_ok=True)
    drawings = {name: (folder / f"{name}.svg").read_bytes() for name in figures}
    texts["report.html"] = comparison_page(summary, drawings)
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    drawn = [folder / f"{name}.{ending}" for name in figures for ending in ("png", "svg")]
    return [*(folder / name for name in texts), *drawn]


def _json(summary: Mapping[str, Any]) -> str:
    text = json.dumps(_finite(summary), indent=2, ensure_ascii=False, allow_nan=False, default=str)
    # Half of a surrogate pair, as a file's name may hold one, has no UTF-8.
    return text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n"


def _finite(value: Any) -> Any:
    """Return a value with null for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def comparison_markdown(summary: Mapping[str, Any]) -> str:
    """Return the tables as a Markdown page.

    Args:
        summary: the comparison.
    """
    lines = ["# Comparison", ""]
    lines += [f"- {name}: {_markdown(value)}" for name, value in conditions(summary)]
    lines += ["", *_markdown_table(results_table(summary))]
    tests = significance_tables(summary)
    if tests:
        lines += ["## Tests", "", *_paragraphs(significance_notes(summary))]
        lines += [line for table in tests for line in _markdown_table(table, "###")]
    slices = slice_tables(summary)
    if slices:
        lines += ["## Slices", "", *_paragraphs(SLICE_NOTES)]
        lines += [line for table in slices for line in _markdown_table(table, "###")]
    failures = failure_lines(summary)
    if failures:
        lines += ["## Failures", "", *(f"- {_markdown(line)}" for line in failures), ""]
    lines += [*_markdown_table(runs_table(summary)), *_markdown_table(settings_table(summary))]
    return "\n".join(lines).rstrip() + "\n"


def _markdown(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MARKDOWN_SIGNS.sub(r"\\\1", escaped)


def _paragraphs(notes: tuple[str, ...]) -> Iterator[str]:
    for note in notes:
        yield from (_markdown(note), "")


def _markdown_table(table: Table, heading: str = "##") -> Iterator[str]:
    yield from (f"{heading} {_markdown(table.title)}", "")
    rows = [[_cell(cell, _markdown, "**{}**", f" {DAGGER}") for cell in row] for row in table.rows]
    headers = [_markdown(header) for header in table.headers]
    yield tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    yield ""
    yield from _paragraphs(table.notes)


def _cell(cell: Cell, escape: Callable[[str], str], bold: str, mark: str) -> str:
    text = escape(cell.text)
    text = bold.replace("{}", text) if cell.best else text
    return text + mark if cell.significant else text


def comparison_latex(summary: Mapping[str, Any]) -> str:
    """Return the test metrics as a LaTeX table for a paper.

    Args:
        summary: the comparison.
    """
    table = results_table(summary)
    # Time and memory, the last two columns, are no part of it.
    headers = [_latex(header) for header in table.headers[:-2]]
    rows = [
        [_cell(cell, _latex, r"\textbf{{}}", r"$^{\dagger}$") for cell in row[:-2]]
        for row in table.rows
    ]
    caption = f"{table.title} on {clean(summary['dataset'])}. {' '.join(table.notes)}"
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(headers) - 1)}}}",
        r"\toprule",
        *_latex_rows([headers]),
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


def comparison_csv(summary: Mapping[str, Any]) -> str:
    """Return one row per number, unrounded: the values of each seed, their mean and deviation.

    Args:
        summary: the comparison.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for entry in summary["models"]:
        about = {"label": clean(entry["label"]), "model": clean(entry["model"])}
        about["status"] = clean(entry["status"])
        for row in _csv_values(summary, entry):
            writer.writerow({**about, **row})
    return text.getvalue()


def _csv_values(summary: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    seeds = finished_seeds(summary, entry)
    for seed, value in zip(seeds, entry.get("valid") or [], strict=False):
        metric = str(summary["valid_metric"]).lower()
        yield {"on": "valid", "metric": metric, "statistic": "value", "seed": seed, "value": value}
    for metric in summary["metrics"]:
        of_test = {"on": "test", "metric": clean(metric)}
        for seed, value in zip(seeds, (entry.get("values") or {}).get(metric, []), strict=False):
            yield {**of_test, "statistic": "value", "seed": seed, "value": value}
        for statistic in ("mean", "std"):
            value = (entry.get(statistic) or {}).get(metric)
            if value is not None:
                yield {**of_test, "statistic": statistic, "value": value}
