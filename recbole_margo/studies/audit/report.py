"""The report of the catalogue audit: a folder of a page, a table, numbers and figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from recbole_margo.report.figures import draw, drawings_of, figure_files
from recbole_margo.report.files import csv_text, json_text, write_texts
from recbole_margo.report.table import clean
from recbole_margo.studies.audit.page import audit_page


def write_audit_report(
    folder: Path,
    summary: Mapping[str, Any],
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    figures: Mapping[str, Callable[[], Figure | None]],
    thumbnails: Mapping[str, str],
) -> list[Path]:
    """Write everything that is shown of an audit; what is there already is replaced.

    Args:
        folder: where to; made if it is not there.
        summary: what was found, see docs/audit.md.
        columns: columns of the table of all items.
        rows: its rows.
        figures: makes each figure, by name.
        thumbnails: pictures by item token, as `data:` addresses.

    Returns:
        The files: `audit.html`, `audit.csv`, `reliability.json`, and figures as PNG and SVG.
    """
    names = [name for name, drawing in figures.items() if draw(folder / name, drawing)]
    drawings = drawings_of(folder, names)
    texts = {
        "audit.html": audit_page(summary, drawings, thumbnails),
        "audit.csv": audit_csv(columns, rows),
        "reliability.json": json_text(summary),
    }
    return [*write_texts(folder, texts), *figure_files(folder, names)]


def audit_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the table of all items and modalities; an unknown number is an empty cell.

    Args:
        columns: names of the columns.
        rows: values by column.
    """
    return csv_text(columns, ([_csv_cell(row[column]) for column in columns] for row in rows))


def _csv_cell(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
