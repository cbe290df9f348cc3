"""The figure of how the gradients of MARGO's two losses agree over training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from recbole_margo.report.document import clean, shorten
from recbole_margo.report.figures import legend_below, look, new_figure
from recbole_margo.studies.agreement.replay import COORDINATES
from recbole_margo.studies.agreement.result import AgreementResult, LabelAgreement, Share

COORDINATE_NAMES = {
    "weights": "weights",
    "simplex": "weights that sum to 1",
    "logits": "logits",
}
# More markers than this hide the line that they lie on.
MARKERS_A_LINE = 8
LABEL_LENGTH = 30


def agreement_figure(result: AgreementResult) -> Figure:
    """Draw share of batches, cosine and share of triplets over epochs, a column per coordinates."""
    figure = new_figure(7.4)
    panels = figure.subplots(3, len(COORDINATES), sharex=True, sharey="row", squeeze=False)
    for column, name in zip(panels.T, COORDINATES, strict=True):
        for index, entry in enumerate(result.labels):
            _draw_label(column, entry, name, index)
        column[0].set_title(f"gradients on\n{COORDINATE_NAMES[name]}")
        column[2].set_xlabel("epoch of stage 2")
    longest = max(len(entry.epochs) for entry in result.labels)
    panels[0, 0].set_xlim(0.5 - 0.01 * longest, 0.5 + 1.01 * longest)
    for panel in panels.flat:
        panel.grid(axis="y")
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    _scale_rows(panels)
    legend_below(figure, 4)
    figure.suptitle(f"{clean(result.dataset)}: do L_rec and L_cal pull the weights the same way?")
    return figure


def _scale_rows(panels: NDArray[Any]) -> None:
    """Name the units and mark where the gradients stand at right angles."""
    panels[0, 0].set(ylabel="batches that agree", ylim=(-0.03, 1.03))
    panels[1, 0].set(ylabel="cosine of the gradients\n(median, quartiles)")
    panels[2, 0].set(ylabel="triplets in conflict")
    # From 0 on, with room for a line that lies on it.
    top = max(panels[2, 0].get_ylim()[1], 0.01)
    panels[2, 0].set_ylim(-0.03 * top, top)
    for row in (0, 2):
        panels[row, 0].yaxis.set_major_formatter(PercentFormatter(1.0))
    for panel in panels[1]:
        panel.axhline(0.0, color="0.4", linewidth=0.8, linestyle=":")


def _draw_label(column: NDArray[Any], entry: LabelAgreement, name: str, index: int) -> None:
    """Draw the lines of a label into the panels of one of the coordinates."""
    seeds = len(entry.seeds)
    style = {
        "label": f"{shorten(entry.label, LABEL_LENGTH)} ({seeds} seed{'s' if seeds > 1 else ''})",
        **look(index),
        "markersize": 4,
        "markevery": max(1, len(entry.epochs) // MARKERS_A_LINE),
        "linewidth": 1.4,
    }
    epochs = [one.epoch for one in entry.epochs]
    found = [one.pooled.coordinates[name] for one in entry.epochs]
    quartiles = np.array([one.cosine_quartiles for one in found], dtype=np.float64)
    for panel, values in zip(
        column,
        (
            _ends([one.share_agreeing for one in found]),
            quartiles.T,
            _ends([one.share_in_conflict for one in found]),
        ),
        strict=True,
    ):
        _line(panel, epochs, values, style)


def _ends(shares: list[Share]) -> NDArray[np.float64]:
    ends: NDArray[np.float64] = np.array([[one.low, one.value, one.high] for one in shares]).T
    return ends


def _line(
    panel: Axes, epochs: list[int], values: NDArray[np.float64], style: Mapping[str, Any]
) -> None:
    """Draw a middle line [1] over epochs and a band between [0] and [2]."""
    panel.plot(epochs, values[1], **style)
    if len(epochs) == 1:
        panel.vlines(epochs, values[0], values[2], color=style["color"], linewidth=1.2)
    panel.fill_between(epochs, values[0], values[2], color=style["color"], alpha=0.2, linewidth=0)
