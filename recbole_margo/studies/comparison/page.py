"""The report of a comparison as one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recbole_margo.report import html
from recbole_margo.report.table import clean
from recbole_margo.studies.comparison.report_summary import (
    conditions,
    failure_lines,
    metric_name,
    selection_metric,
)
from recbole_margo.studies.comparison.tables import (
    SLICE_NOTES,
    results_table,
    runs_table,
    settings_table,
    significance_notes,
    significance_tables,
    slice_tables,
)


def comparison_page(summary: Mapping[str, Any], drawings: Mapping[str, bytes]) -> str:
    """Return the report as an HTML page.

    Args:
        summary: the comparison, see docs/compare.md.
        drawings: figures as SVG, of `metrics`, `differences` and `slices`.
    """
    body = list(html.facts(conditions(summary)))
    failures = failure_lines(summary)
    if failures:
        body += html.section("What failed", html.bullets(failures))
    body += html.section(
        None, html.table(results_table(summary)), _figure("metrics", summary, drawings)
    )
    tests = significance_tables(summary)
    if tests:
        body += html.section(
            "Tests",
            html.notes(significance_notes(summary)),
            _figure("differences", summary, drawings),
            html.tables(tests),
        )
    slices = slice_tables(summary)
    if slices:
        body += html.section(
            "Slices",
            html.notes(SLICE_NOTES),
            _figure("slices", summary, drawings),
            html.tables(slices),
        )
    body += html.section(None, html.table(runs_table(summary)))
    body += html.section(None, html.table(settings_table(summary), kind="text"))
    return html.page(f"Comparison on {clean(summary['dataset'])}", body)


def _figure(name: str, summary: Mapping[str, Any], drawings: Mapping[str, bytes]) -> Iterator[str]:
    if name in drawings:
        yield from html.figure(drawings[name], _alt(name, summary))


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
