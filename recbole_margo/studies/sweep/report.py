"""The report of a sweep: tables, the figure and one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recbole_margo.report import html
from recbole_margo.report.files import csv_text, json_text, write_texts
from recbole_margo.report.table import (
    clean,
    markdown_paragraphs,
    markdown_table,
    markdown_text,
)
from recbole_margo.studies.comparison.report_summary import metric_name
from recbole_margo.studies.sweep.figures import draw_sweep
from recbole_margo.studies.sweep.tables import (
    sweep_conditions,
    sweep_failures,
    sweep_notes,
    sweep_tables,
)

CSV_COLUMNS = ("hyperparameter", "value", "own", "seed", "on", "metric", "number")


def write_sweep_report(folder: Path, swept: Mapping[str, Any]) -> list[Path]:
    """Write everything that is shown of a sweep; what is there already is replaced.

    Args:
        folder: where to; made if it is not there.
        swept: the sweep as plain data, see docs/sweep.md.

    Returns:
        The files.
    """
    drawn = [folder / f"sweep.{ending}" for ending in ("png", "svg")]
    drawing = drawn[1].read_bytes() if draw_sweep(folder, swept) else None
    texts = {
        "sweep.json": json_text(swept),
        "sweep.csv": sweep_csv(swept),
        "sweep.md": sweep_markdown(swept),
        "sweep.html": sweep_page(swept, drawing),
    }
    return [*write_texts(folder, texts), *(drawn if drawing else [])]


def sweep_markdown(swept: Mapping[str, Any]) -> str:
    """Return the tables as a Markdown page.

    Args:
        swept: the sweep.
    """
    lines = [f"# {markdown_text(_title(swept))}", ""]
    lines += [f"- {name}: {markdown_text(value)}" for name, value in sweep_conditions(swept)]
    lines += ["", *markdown_paragraphs(sweep_notes(swept))]
    for table in sweep_tables(swept):
        lines += markdown_table(table)
    failures = sweep_failures(swept)
    if failures:
        lines += ["## Failures", "", *(f"- {markdown_text(line)}" for line in failures), ""]
    return "\n".join(lines).rstrip() + "\n"


def sweep_page(swept: Mapping[str, Any], drawing: bytes | None) -> str:
    """Return the report as an HTML page.

    Args:
        swept: the sweep.
        drawing: the figure as SVG, None if there is none.
    """
    body = list(html.facts(sweep_conditions(swept)))
    failures = sweep_failures(swept)
    if failures:
        body += html.section("What failed", html.bullets(failures))
    if drawing:
        names = ", ".join(curve["name"] for curve in swept["hyperparameters"])
        metric = metric_name(swept["valid_metric"] or "metric")
        alternative = (
            f"Curves of {metric} on validation and of test metrics over {names}. "
            "The tables below hold the numbers."
        )
        body += html.section("Curves", html.figure(drawing, alternative))
    body += html.section(
        "Numbers", html.notes(sweep_notes(swept)), html.tables(sweep_tables(swept))
    )
    return html.page(_title(swept), body)


def _title(swept: Mapping[str, Any]) -> str:
    names = ", ".join(curve["name"] for curve in swept["hyperparameters"])
    return f"{clean(swept['model'])} over {clean(names)} on {clean(swept['dataset'])}"


def sweep_csv(swept: Mapping[str, Any]) -> str:
    """Return one row per number, unrounded, of every curve, value and seed that finished.

    Args:
        swept: the sweep.
    """
    return csv_text(CSV_COLUMNS, _csv_rows(swept))


def _csv_rows(swept: Mapping[str, Any]) -> Iterator[list[Any]]:
    for curve in swept["hyperparameters"]:
        for point in curve["points"]:
            about = [clean(curve["name"]), clean(point["text"]), str(point["own"]).lower()]
            chosen = str(swept["valid_metric"]).lower()
            measured = [("valid", chosen, point["valid"])]
            measured += [("test", clean(metric), point["test"][metric]) for metric in point["test"]]
            for on, metric, values in measured:
                for seed, value in zip(point["seeds"], values, strict=True):
                    if value is None:
                        continue
                    yield [*about, seed, on, metric, value]
