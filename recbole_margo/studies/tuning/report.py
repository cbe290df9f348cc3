"""The report of a search for hyper-parameters: tables, figures and one page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_margo.report import html
from recbole_margo.report.figures import drawings_of, figure_files
from recbole_margo.report.files import csv_text, json_text, write_texts
from recbole_margo.report.table import Table, clean, markdown_table, markdown_text
from recbole_margo.studies.tuning.figures import draw_tuning
from recbole_margo.studies.tuning.tables import (
    all_table,
    best_table,
    final_table,
    importance_table,
    space_table,
    tuning_conditions,
    tuning_failures,
)
from recbole_margo.studies.wording import metric_name

ALTERNATIVES = {
    "history": "Validation {} of each trial in their order and the best so far.",
    "slices": "Validation {} of each trial against its value, a panel per hyper-parameter.",
}


def write_tuning_report(folder: Path, summary: Mapping[str, Any]) -> list[Path]:
    """Write everything that is shown of a search; what is there already is replaced.

    Args:
        folder: where to; made if it is not there.
        summary: the search as plain data, see docs/tune.md.

    Returns:
        The files.
    """
    figures = draw_tuning(folder, summary)
    drawings = drawings_of(folder, figures)
    texts = {
        "tuning.json": json_text(summary),
        "tuning.csv": tuning_csv(summary),
        "tuning.md": tuning_markdown(summary),
        "tuning.html": tuning_page(summary, drawings),
    }
    return [*write_texts(folder, texts), *figure_files(folder, figures)]


def _tables(summary: Mapping[str, Any]) -> list[Table]:
    several = (
        final_table(summary),
        space_table(summary),
        best_table(summary),
        importance_table(summary),
        all_table(summary),
    )
    return [table for table in several if table is not None]


def _title(summary: Mapping[str, Any]) -> str:
    return (
        f"Search for hyper-parameters of {clean(summary['model'])} on {clean(summary['dataset'])}"
    )


def tuning_markdown(summary: Mapping[str, Any]) -> str:
    """Return the tables as a Markdown page.

    Args:
        summary: the search.
    """
    lines = [f"# {markdown_text(_title(summary))}", ""]
    lines += [f"- {name}: {markdown_text(value)}" for name, value in tuning_conditions(summary)]
    lines.append("")
    failures = tuning_failures(summary)
    if failures:
        lines += ["## Failures", "", *(f"- {markdown_text(line)}" for line in failures), ""]
    for table in _tables(summary):
        lines += markdown_table(table)
    if summary["importances"] is None:
        lines += [f"No importances: {markdown_text(summary['importances_note'])}.", ""]
    return "\n".join(lines).rstrip() + "\n"


def tuning_page(summary: Mapping[str, Any], drawings: Mapping[str, bytes]) -> str:
    """Return the report as an HTML page.

    Args:
        summary: the search.
        drawings: figures as SVG, of `history` and `slices`.
    """
    body = list(html.facts(tuning_conditions(summary)))
    failures = tuning_failures(summary)
    if failures:
        body += html.section("What failed", html.bullets(failures))
    metric = metric_name(summary["valid_metric"])
    final, importances = final_table(summary), importance_table(summary)
    if final is not None:
        body += html.section(None, html.table(final))
    body += html.section(None, html.table(space_table(summary), kind="text"))
    body += html.section(None, html.table(best_table(summary)))
    figures = [
        html.figure(drawings[name], f"{text.format(metric)} The tables hold the numbers.")
        for name, text in ALTERNATIVES.items()
        if name in drawings
    ]
    if figures:
        body += html.section("Course of the search", *figures)
    if importances is not None:
        body += html.section(None, html.table(importances))
    else:
        note = f"No importances: {clean(summary['importances_note'])}."
        body += html.section("Importance", html.notes([note]))
    body += html.section(None, html.table(all_table(summary)))
    return html.page(_title(summary), body)


def tuning_csv(summary: Mapping[str, Any]) -> str:
    """Return one row per trial, unrounded.

    Args:
        summary: the search.
    """
    keys = [dimension["key"] for dimension in summary["space"]]
    columns = ("number", "state", "value", "last_score", "validations", "seconds")
    rows = (
        [
            *(trial[column] for column in columns),
            *(_plain(trial["values"].get(key)) for key in keys),
            clean(trial["error"] or ""),
        ]
        for trial in summary["trials"]
    )
    return csv_text([*columns, *(f"parameter {clean(key)}" for key in keys), "error"], rows)


def _plain(value: Any) -> Any:
    """Return a number or text as it is, anything else as JSON."""
    is_plain = isinstance(value, int | float | str) and not isinstance(value, bool)
    return value if is_plain else "" if value is None else clean(json.dumps(value))
