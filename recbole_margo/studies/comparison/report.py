"""The report of a comparison: a folder of tables, figures and one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tabulate import LATEX_ESCAPE_RULES

from recbole_margo.report.figures import drawings_of, figure_files
from recbole_margo.report.files import csv_text, json_text, write_texts
from recbole_margo.report.table import (
    DAGGER,
    NOTHING,
    clean,
    markdown_paragraphs,
    markdown_table,
    markdown_text,
    marked,
)
from recbole_margo.studies.comparison.figures import draw_comparison
from recbole_margo.studies.comparison.page import comparison_page
from recbole_margo.studies.comparison.report_summary import (
    conditions,
    failure_lines,
    finished_seeds,
)
from recbole_margo.studies.comparison.tables import (
    SLICE_NOTES,
    SMALLER,
    results_table,
    runs_table,
    settings_table,
    significance_notes,
    significance_tables,
    slice_tables,
)

CSV_COLUMNS = ("label", "model", "status", "on", "metric", "statistic", "seed", "value")
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
        "summary.json": json_text(summary),
        "comparison.md": comparison_markdown(summary),
        "comparison.tex": comparison_latex(summary),
        "comparison.csv": comparison_csv(summary),
    }
    figures = draw_comparison(folder, summary)
    drawings = drawings_of(folder, figures)
    texts["report.html"] = comparison_page(summary, drawings)
    return [*write_texts(folder, texts), *figure_files(folder, figures)]


def comparison_markdown(summary: Mapping[str, Any]) -> str:
    """Return the tables as a Markdown page.

    Args:
        summary: the comparison.
    """
    lines = ["# Comparison", ""]
    lines += [f"- {name}: {markdown_text(value)}" for name, value in conditions(summary)]
    lines += ["", *markdown_table(results_table(summary))]
    tests = significance_tables(summary)
    if tests:
        lines += ["## Tests", "", *markdown_paragraphs(significance_notes(summary))]
        lines += [line for table in tests for line in markdown_table(table, "###")]
    slices = slice_tables(summary)
    if slices:
        lines += ["## Slices", "", *markdown_paragraphs(SLICE_NOTES)]
        lines += [line for table in slices for line in markdown_table(table, "###")]
    failures = failure_lines(summary)
    if failures:
        lines += ["## Failures", "", *(f"- {markdown_text(line)}" for line in failures), ""]
    lines += [*markdown_table(runs_table(summary)), *markdown_table(settings_table(summary))]
    return "\n".join(lines).rstrip() + "\n"


def comparison_latex(summary: Mapping[str, Any]) -> str:
    """Return the test metrics as a LaTeX table for a paper.

    Args:
        summary: the comparison.
    """
    table = results_table(summary)
    # Time and memory, the last two columns, are no part of it.
    headers = [_latex(header) for header in table.headers[:-2]]
    rows = [
        [marked(cell, _latex, r"\textbf{{}}", r"$^{\dagger}$") for cell in row[:-2]]
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
    return csv_text(CSV_COLUMNS, _csv_rows(summary))


def _csv_rows(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for entry in summary["models"]:
        about = {"label": clean(entry["label"]), "model": clean(entry["model"])}
        about["status"] = clean(entry["status"])
        for row in _csv_values(summary, entry):
            yield {**about, **row}


def _csv_values(summary: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    seeds = finished_seeds(summary, entry)
    for seed, value in zip(seeds, entry.get("valid") or [], strict=False):
        if value is None:
            continue
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
