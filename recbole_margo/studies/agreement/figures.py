"""The figure of how the gradients of MARGO's two losses agree over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from recbole_margo.report.figures import COLORS, MARKERS, draw, new_figure
from recbole_margo.report.table import clean
from recbole_margo.studies.agreement.tables import COORDINATE_NAMES

# More markers than this hide the line that they lie on.
MARKERS_A_LINE = 8
LABEL_LENGTH = 30


def draw_agreement(path: Path, summary: Mapping[str, Any]) -> bool:
    """Draw the figure as PNG and as SVG.

    Args:
        path: the files without their ending.
        summary: the summary, see docs/agreement.md.

    Returns:
        Whether there was something to draw.
    """
    return draw(path, lambda: agreement_figure(summary))


def agreement_figure(summary: Mapping[str, Any]) -> Figure:
    """Draw share of batches, cosine and share of triplets over epochs, a column per coordinates.

    Args:
        summary: the summary.
    """
    names = summary["coordinates"]
    figure = new_figure(7.4)
    panels = figure.subplots(3, len(names), sharex=True, sharey="row", squeeze=False)
    for column, name in enumerate(names):
        for index, entry in enumerate(summary["labels"]):
            look = _look(index, entry)
            epochs = entry["epochs"]
            _line(panels[0, column], epochs, _shares(epochs, name, "share_agreeing"), look)
            _line(panels[1, column], epochs, _quartiles(epochs, name), look)
            _line(panels[2, column], epochs, _shares(epochs, name, "share_in_conflict"), look)
        panels[0, column].set_title(f"gradients on\n{COORDINATE_NAMES[name]}")
        panels[2, column].set_xlabel("epoch of stage 2")
    longest = max(len(entry["epochs"]) for entry in summary["labels"])
    panels[0, 0].set_xlim(0.5 - 0.01 * longest, 0.5 + 1.01 * longest)
    for panel in panels.flat:
        panel.grid(axis="y")
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    _scale_rows(panels)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    figure.suptitle(
        f"{clean(summary['dataset'])}: do L_rec and L_cal pull the weights the same way?"
    )
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


def _line(
    panel: Axes,
    epochs: Sequence[Mapping[str, Any]],
    values: NDArray[np.float64],
    look: Mapping[str, Any],
) -> None:
    """Draw a middle line [1] over epochs and a band between [0] and [2]."""
    places = [epoch["epoch"] for epoch in epochs]
    panel.plot(places, values[1], **look)
    if len(places) == 1:
        panel.vlines(places, values[0], values[2], color=look["color"], linewidth=1.2)
    panel.fill_between(places, values[0], values[2], color=look["color"], alpha=0.2, linewidth=0)


def _shares(epochs: Sequence[Mapping[str, Any]], name: str, key: str) -> NDArray[np.float64]:
    parts = [epoch[name][key] for epoch in epochs]
    return np.array([[part[end] for part in parts] for end in ("low", "value", "high")])


def _quartiles(epochs: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    rows = [epoch[name]["cosine_quartiles"] for epoch in epochs]
    return np.transpose(np.array(rows, dtype=np.float64))


def _look(index: int, entry: Mapping[str, Any]) -> dict[str, Any]:
    label = clean(entry["label"])
    shown = label if len(label) <= LABEL_LENGTH else f"{label[: LABEL_LENGTH - 1]}…"
    seeds = len(entry["seeds"])
    return {
        "label": f"{shown} ({seeds} seed{'s' if seeds > 1 else ''})",
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 4,
        "markevery": max(1, len(entry["epochs"]) // MARKERS_A_LINE),
        "linewidth": 1.4,
    }
