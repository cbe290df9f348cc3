"""The report of a robustness study: a folder of tables, figures and one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recbole_margo.report import html
from recbole_margo.report.figures import drawings_of, figure_files
from recbole_margo.report.files import csv_text, json_text, write_texts
from recbole_margo.report.table import clean, markdown_paragraphs, markdown_table, markdown_text
from recbole_margo.studies.robustness.figures import draw_robustness
from recbole_margo.studies.robustness.tables import (
    detection_notes,
    detection_tables,
    failure_lines,
    quality_tables,
    robustness_conditions,
)

CSV_COLUMNS = (
    *("about", "name", "step", "modality", "items", "negatives"),
    *("metric", "statistic", "seed", "value"),
)
ALTERNATIVES = {
    "quality": "Lines of the test metrics over the share of corrupted items, one per model. The "
    "tables above hold the numbers.",
    "detection": "ROC-AUC of each detector with its interval, and ROC curves, a column per "
    "modality. The tables below hold the numbers.",
    "weights-of-corrupted": "Histograms of the weight of corrupted and of other items, a panel per "
    "modality.",
}


def write_robustness_report(folder: Path, summary: Mapping[str, Any]) -> list[Path]:
    """Write everything that is shown of a study; what is there already is replaced.

    Args:
        folder: where to; made if it is not there.
        summary: the study as plain data, see docs/robustness.md.

    Returns:
        The files: `robustness.json`, `.csv`, `.md` and `.html` and, as PNG and SVG, the figures
        `quality`, `detection` and `weights-of-corrupted`, each if there is something to draw.
    """
    texts = {
        "robustness.json": json_text(summary),
        "robustness.csv": robustness_csv(summary),
        "robustness.md": robustness_markdown(summary),
    }
    figures = draw_robustness(folder, summary)
    drawings = drawings_of(folder, figures)
    texts["robustness.html"] = robustness_page(summary, drawings)
    return [*write_texts(folder, texts), *figure_files(folder, figures)]


def robustness_markdown(summary: Mapping[str, Any]) -> str:
    """Return the tables as a Markdown page.

    Args:
        summary: the study.
    """
    lines = [f"# Robustness on {markdown_text(clean(summary['dataset']))}", ""]
    lines += [f"- {name}: {markdown_text(value)}" for name, value in robustness_conditions(summary)]
    lines += ["", "## Recommendation quality", ""]
    for table in quality_tables(summary):
        lines += markdown_table(table, "###")
    lines += ["## Detection", "", *markdown_paragraphs(detection_notes(summary))]
    for table in detection_tables(summary):
        lines += markdown_table(table, "###")
    failures = failure_lines(summary)
    if failures:
        lines += ["## Failures", "", *(f"- {markdown_text(line)}" for line in failures), ""]
    return "\n".join(lines).rstrip() + "\n"


def robustness_page(summary: Mapping[str, Any], drawings: Mapping[str, bytes]) -> str:
    """Return the report as an HTML page.

    Args:
        summary: the study.
        drawings: figures as SVG by name.
    """

    def figure(name: str) -> Iterator[str]:
        if name in drawings:
            yield from html.figure(drawings[name], ALTERNATIVES[name])

    body = list(html.facts(robustness_conditions(summary)))
    failures = failure_lines(summary)
    if failures:
        body += html.section("What failed", html.bullets(failures))
    body += html.section(
        "Recommendation quality", html.tables(quality_tables(summary)), figure("quality")
    )
    body += html.section(
        "Detection",
        html.notes(detection_notes(summary)),
        figure("detection"),
        html.tables(detection_tables(summary)),
        figure("weights-of-corrupted"),
    )
    return html.page(f"Robustness on {clean(summary['dataset'])}", body)


def robustness_csv(summary: Mapping[str, Any]) -> str:
    """Return one row per number, unrounded.

    Args:
        summary: the study.
    """
    return csv_text(CSV_COLUMNS, [*_quality_rows(summary), *_detection_rows(summary)])


def _quality_rows(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in summary["quality"]:
        about = {"about": "quality", "name": clean(row["model"]), "step": row["step"]}
        for metric in summary["metrics"]:
            on = {**about, "metric": metric}
            for seed, value in zip(row["seeds"], row["values"].get(metric, []), strict=True):
                yield {**on, "statistic": "value", "seed": seed, "value": value}
            for statistic in ("mean", "std"):
                value = row[statistic].get(metric)
                if value is not None:
                    yield {**on, "statistic": statistic, "value": value}


def _detection_rows(summary: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for row in summary["detection"]:
        about = {"about": "detection", "name": clean(row["detector"])}
        about |= {key: row[key] for key in ("step", "modality", "items", "negatives")}
        for of_seed in row["seeds"]:
            for key, value in of_seed.items():
                if key != "seed":
                    yield {
                        **about,
                        "metric": key,
                        "statistic": "value",
                        "seed": of_seed["seed"],
                        "value": value,
                    }
        for metric in ("auc", "average_precision", "auc_above_reference"):
            for statistic, value in (row[metric] or {}).items():
                if value is not None:
                    yield {**about, "metric": metric, "statistic": statistic, "value": value}
