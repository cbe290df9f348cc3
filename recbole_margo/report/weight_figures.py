"""Figures of the learned weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from recbole_margo.report.figures import COLORS, HATCHES

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
