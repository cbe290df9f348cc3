"""The report of how the gradients of MARGO's two losses agree: tables, a figure and one page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_margo.report import html
from recbole_margo.report.figures import drawings_of, figure_files
from recbole_margo.report.files import json_text, write_texts
from recbole_margo.report.table import clean
from recbole_margo.studies.agreement.figures import draw_agreement
from recbole_margo.studies.agreement.tables import agreement_csv, agreement_table, runs_table

FIGURE = "agreement"
INTRODUCTION = (
    "MARGO's second stage trains the modality weights of the items with two losses: the ranking "
    "loss L_rec and the calibration loss L_cal. The paper argues in section III-D that their "
    "gradients on the weights never conflict. Each run's second stage was trained once more, and "
    "the two gradients were compared on every batch and on every triplet.",
)
FIGURE_NOTES = (
    "First row: share of an epoch's batches that agree, with Wilson's 95 % interval. Second row: "
    "median cosine of the two gradients over the batches, with quartiles. Third row: share of the "
    "triplets that are in conflict. Batches of all seeds are pooled; where the second stages of "
    "the seeds have different lengths, later epochs have fewer of them.",
)


def write_agreement_report(folder: Path, summary: Mapping[str, Any]) -> list[Path]:
    """Write everything that is shown of the replays; what is there already is replaced.

    Args:
        folder: where to; made if it is not there.
        summary: the summary, see docs/agreement.md.

    Returns:
        The files: `agreement.json`, `.csv`, `.html`, `.png` and `.svg`.
    """
    draw_agreement(folder / FIGURE, summary)
    drawing = drawings_of(folder, [FIGURE])[FIGURE]
    texts = {
        "agreement.json": json_text(summary),
        "agreement.csv": agreement_csv(summary),
        "agreement.html": agreement_page(summary, drawing),
    }
    return [*write_texts(folder, texts), *figure_files(folder, [FIGURE])]


def agreement_page(summary: Mapping[str, Any], drawing: bytes) -> str:
    """Return the report as an HTML page.

    Args:
        summary: the summary.
        drawing: the figure as SVG.
    """
    alternative = (
        "Lines over the epochs of stage 2, a row each for batches that agree, cosine and triplets "
        "in conflict, a column per coordinates. agreement.csv holds the numbers."
    )
    body = list(html.notes(INTRODUCTION))
    body += html.section(None, html.table(agreement_table(summary)))
    body += html.section(
        "Over training", html.notes(FIGURE_NOTES), html.figure(drawing, alternative)
    )
    body += html.section(None, html.table(runs_table(summary)))
    return html.page(f"Agreement of MARGO's losses on {clean(summary['dataset'])}", body)
