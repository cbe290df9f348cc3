"""Figures of the learned weights."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from recbole_margo.report.figures import COLORS, HATCHES, new_figure
from recbole_margo.report.table import clean

BINS = 40


def weight_histograms(
    path: Path,
    modalities: tuple[str, ...],
    weights: NDArray[np.float32],
    present: NDArray[np.bool_],
    title: str,
) -> None:
    """Draw the distribution of each modality's weight over the items that have it.

    Args:
        path: the file; its ending chooses PNG, SVG or PDF.
        modalities: names of the modalities [M].
        weights: weights [I, M].
        present: presence mask [I, M].
        title: title of the figure.
    """
    count = len(modalities)
    figure = Figure(figsize=(1.0 + 3.2 * count, 3.4))
    FigureCanvasAgg(figure)
    # The tick labels 1.0 and 0.0 of neighbouring panels must not run into each other.
    figure.set_layout_engine("constrained", wspace=0.08)
    panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    bins = np.linspace(0.0, 1.0, BINS + 1)
    # With a single modality an item's weight is 1 by definition; so it is where the others miss.
    choice = present.sum(axis=1) > 1
    for index, (panel, modality) in enumerate(zip(panels, modalities, strict=True)):
        values = weights[choice & present[:, index], index]
        color = COLORS[index % len(COLORS)]
        panel.hist(
            values, bins, color=color, edgecolor="white", hatch=HATCHES[index % len(HATCHES)]
        )
        if len(values):
            mean = float(values.mean())
            panel.axvline(mean, color="black", linestyle="--", linewidth=1.2)
            panel.set_title(f"{modality} (mean {mean:.2f}, n = {len(values)})", fontsize=10)
        else:
            panel.set_title(f"{modality} (no item has a choice)", fontsize=10)
        panel.set_xlim(0.0, 1.0)
        panel.set_xlabel("weight (share of 1)")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("items with two or more modalities")
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=150)


@dataclass(frozen=True)
class WeightDistribution:
    """The weights that a model learned, those of all its seeds together.

    Attributes:
        label: what the model is called.
        rows: what a weight belongs to, `items` or `users`.
        seeds: number of seeds.
        values: modality -> weights.
    """

    label: str
    rows: str
    seeds: int
    values: dict[str, NDArray[np.float64]]


def weight_comparison_figure(
    distributions: Sequence[WeightDistribution], modalities: Sequence[str], title: str
) -> Figure | None:
    """Draw the distribution of each modality's weight, a row per model, on the same axes.

    Args:
        distributions: one per model.
        modalities: names of the modalities [M].
        title: title of the figure.

    Returns:
        The figure, None if no model has a weight to learn.

    Source: MARGO (arXiv 2504.16524), Fig. 5, of any number of modalities.
    """
    drawn = [one for one in distributions if any(map(len, one.values.values()))]
    if not drawn:
        return None
    figure = new_figure(0.9 + 1.55 * len(drawn))
    panels = figure.subplots(len(drawn), len(modalities), sharex=True, sharey=True, squeeze=False)
    for row, one in zip(panels, drawn, strict=True):
        for index, (panel, modality) in enumerate(zip(row, modalities, strict=True)):
            _draw_distribution(panel, one.values[modality], index)
        rows = one.rows if one.seeds == 1 else f"{one.rows}, {one.seeds} seeds"
        row[0].set_ylabel(f"{textwrap.fill(clean(one.label), 18)}\n% of {rows}")
    for panel, modality in zip(panels[0], modalities, strict=True):
        panel.annotate(
            clean(modality), (0.5, 1), (0, 16), "axes fraction", "offset points", ha="center"
        )
    for panel in panels[-1]:
        panel.set_xlabel("weight (share of 1)")
        panel.set_xlim(0.0, 1.0)
    figure.suptitle(title)
    return figure


def _draw_distribution(panel: Axes, values: NDArray[np.float64], index: int) -> None:
    if not len(values):
        panel.set_title("no item has a choice", fontsize=9)
        return
    panel.hist(
        values,
        np.linspace(0.0, 1.0, BINS + 1).tolist(),
        weights=np.full(len(values), 100 / len(values)),
        color=COLORS[index % len(COLORS)],
        edgecolor="white",
        linewidth=0.5,
        hatch=HATCHES[index % len(HATCHES)],
    )
    mean, deviation = float(values.mean()), float(values.std())
    panel.axvline(mean, color="black", linestyle="--", linewidth=1.2)
    panel.set_title(f"mean {mean:.2f}, standard deviation {deviation:.3f}", fontsize=8)
    panel.grid(axis="y")
