"""The report of a comparison: one page, a table for a paper, the numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from recbole_margo.report import (
    Document,
    Figure,
    Paragraphs,
    Part,
    Section,
    Table,
    clean,
    csv_text,
    failure_section,
    json_text,
    latex_table,
    write_document,
)
from recbole_margo.report.document import table_text
from recbole_margo.store.plain import as_plain
from recbole_margo.studies.comparison.cold import cold_tables
from recbole_margo.studies.comparison.figures import (
    differences_figure,
    metrics_figure,
    slices_figure,
)
from recbole_margo.studies.comparison.result import ComparedModel, Comparison
from recbole_margo.studies.comparison.tables import (
    SLICE_NOTES,
    results_table,
    runs_table,
    settings_table,
    significance_notes,
    significance_tables,
    slice_tables,
)
from recbole_margo.studies.wording import metric_name

CSV_COLUMNS = ("label", "model", "status", "on", "metric", "statistic", "seed", "value")


def write_comparison_report(folder: Path, compared: Comparison) -> list[Path]:
    """Write everything that is shown of a comparison; what is there already is replaced.

    Returns:
        The files: `summary.json`, `comparison.md`, `.tex` and `.csv`, `report.html` and, as PNG and
        SVG, the figures `metrics`, `differences` and `slices`, each if there is something to draw.

    Raises:
        RecBoleMargoError: if the values do not fit the seeds.
    """
    summary = as_plain(compared)
    if compared.cold is None:  # as it was before there were cold items
        del summary["cold"]
    texts = {
        "summary.json": json_text(summary),
        "comparison.tex": comparison_latex(compared),
        "comparison.csv": comparison_csv(compared),
    }
    document = comparison_document(compared)
    return write_document(folder, "comparison", document, texts, page="report.html")


def comparison_text(compared: Comparison, style: str = "simple", bold: str = "**{}**") -> str:
    """Return the table of a comparison for a terminal, with its legend and the failures.

    Args:
        bold: how the best mean of a column is marked, with `{}` for it.
    """
    table = results_table(compared)
    return "\n".join([table_text(table, style, bold), "", *table.notes, *compared.failures()])


def comparison_document(compared: Comparison) -> Document:
    """Return the report of a comparison."""
    metrics = ", ".join(metric_name(metric) for metric in compared.metrics)
    selected = metric_name(str(compared.selection_metric))
    of_metrics = Figure(
        "metrics",
        f"Dot plot of {metrics}, a row per model. The table above holds the numbers.",
        lambda: metrics_figure(compared),
    )
    of_differences = Figure(
        "differences",
        f"Forest plot of each model's difference to {compared.reference} in {selected} with its "
        "interval. The tables below hold the numbers.",
        lambda: differences_figure(compared),
    )
    of_slices = Figure(
        "slices",
        "Dot plot of each slice of the test set by model. The tables below hold the numbers.",
        lambda: slices_figure(compared),
    )
    # Every figure is named, so that the files of one that is drawn no more are removed.
    tests = _with_notes(significance_notes(compared), significance_tables(compared))
    slices = _with_notes(SLICE_NOTES, slice_tables(compared))
    return Document(
        f"Comparison on {clean(compared.dataset)}",
        tuple(compared.conditions()),
        (
            *failure_section(compared.failures()),
            Section(None, (results_table(compared), of_metrics)),
            Section("Tests", (*tests[:1], of_differences, *tests[1:])),
            Section("Cold items", tuple(cold_tables(compared.cold))),
            Section("Slices", (*slices[:1], of_slices, *slices[1:])),
            Section(None, (runs_table(compared), settings_table(compared))),
        ),
    )


def _with_notes(notes: tuple[str, ...], tables: list[Table]) -> list[Part]:
    return [Paragraphs(notes), *tables] if tables else []


def comparison_latex(compared: Comparison) -> str:
    """Return the test metrics as a LaTeX table for a paper."""
    table = results_table(compared)
    # Time and memory, the last two columns, are no part of it.
    shown = dataclasses.replace(
        table, headers=table.headers[:-2], rows=tuple(row[:-2] for row in table.rows)
    )
    caption = f"{table.title} on {clean(compared.dataset)}. {' '.join(table.notes)}"
    return latex_table(shown, caption)


def comparison_csv(compared: Comparison) -> str:
    """Return one row per number, unrounded: the values of each seed, their mean and deviation."""
    return csv_text(CSV_COLUMNS, _csv_rows(compared))


def _csv_rows(compared: Comparison) -> Iterator[dict[str, object]]:
    for entry in compared.models:
        about = {"label": clean(entry.label), "model": clean(entry.model)}
        about["status"] = clean(entry.status)
        for row in _csv_values(compared, entry):
            yield {**about, **row}


def _csv_values(compared: Comparison, entry: ComparedModel) -> Iterator[dict[str, object]]:
    seeds = compared.finished_seeds(entry)
    for seed, value in zip(seeds, entry.valid, strict=False):
        if value is None:
            continue
        metric = str(compared.valid_metric).lower()
        yield {"on": "valid", "metric": metric, "statistic": "value", "seed": seed, "value": value}
    for metric in compared.metrics:
        of_test = {"on": "test", "metric": clean(metric)}
        for seed, value in zip(seeds, entry.values.get(metric, ()), strict=False):
            yield {**of_test, "statistic": "value", "seed": seed, "value": value}
        for statistic, of_metric in (("mean", entry.mean), ("std", entry.std)):
            value = of_metric.get(metric)
            if value is not None:
                yield {**of_test, "statistic": statistic, "value": value}
