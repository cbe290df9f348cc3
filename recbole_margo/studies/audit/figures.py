"""The figures of what MARGO learned: weights against other things, evidence against its amount."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from recbole_margo.report.figures import COLORS, new_figure
from recbole_margo.report.table import clean

FloatArray = NDArray[np.float64]
# A marked mean of fewer items would be noise.
ITEMS_A_BIN = 8
MOST_BINS = 10
LOGARITHMIC = "popularity"
AXES = {
    "popularity": "training interactions of the item",
    "feature norm": "length of the raw feature row",
    "evidence": "evidence-based reliability",
}


@dataclass(frozen=True)
class WeightRelation:
    """The weights of a modality and another value of the same items.

    Attributes:
        modality: the modality.
        other: what the value is, a key of `AXES`.
        weights: weights [N].
        values: the other value [N].
        rho: Spearman's rank correlation.
        low: lower end of its 95 % interval.
        high: its upper end.
    """

    modality: str
    other: str
    weights: FloatArray
    values: FloatArray
    rho: float
    low: float
    high: float


@dataclass(frozen=True)
class EvidenceFigure:
    """The evidence of a modality by how much of it there is.

    Attributes:
        modality: the modality.
        pairs: training pairs of each item [N], at least 1.
        reliability: what the items are ranked by [N].
        low: lower end of its interval [N].
        high: upper end [N].
        ranked: which items have pairs enough to be ranked [N].
        average: mean reliability of the ranked items.
        chosen: `least` and `most` -> positions of the items that are listed.
    """

    modality: str
    pairs: NDArray[np.intp]
    reliability: FloatArray
    low: FloatArray
    high: FloatArray
    ranked: NDArray[np.bool_]
    average: float
    chosen: Mapping[str, NDArray[np.intp]] = field(default_factory=dict)


def relations_figure(relations: Sequence[WeightRelation], title: str) -> Figure | None:
    """Draw weights against other values of the items: a row per modality, a column per value.

    Args:
        relations: without those of a value that is the same for all items.
        title: title of the figure.

    Returns:
        The figure, None without relations.
    """
    if not relations:
        return None
    modalities = list(dict.fromkeys(one.modality for one in relations))
    others = [name for name in AXES if any(one.other == name for one in relations)]
    figure = new_figure(0.5 + 2.4 * len(modalities))
    panels = figure.subplots(len(modalities), len(others), sharey="row", squeeze=False)
    by_place = {(one.modality, one.other): one for one in relations}
    for row, modality in zip(panels, modalities, strict=True):
        for panel, other in zip(row, others, strict=True):
            if (modality, other) in by_place:
                _draw_relation(panel, by_place[modality, other])
            else:
                text = f"the same for all items:\n{AXES[other]}"
                panel.text(0.5, 0.5, text, ha="center", transform=panel.transAxes, color="0.35")
                panel.set_xticks([])
        row[0].set_ylabel(f"weight of {clean(modality)} (share of 1)")
    figure.suptitle(title)
    return figure


def _draw_relation(panel: Axes, one: WeightRelation) -> None:
    known = np.isfinite(one.values)
    if one.other == LOGARITHMIC:
        known &= one.values > 0
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    else:
        panel.xaxis.set_major_locator(MaxNLocator(4))
    x, y = one.values[known], one.weights[known]
    panel.plot(x, y, ".", color="0.55", markersize=2.5, alpha=0.4, rasterized=True)
    middles, means = binned_means(x, y)
    panel.plot(middles, means, "-o", color=COLORS[1], markersize=4, markeredgecolor="white")
    panel.set_xlabel(AXES[one.other])
    panel.set_title(f"ρ {one.rho:+.2f} [{one.low:+.2f}, {one.high:+.2f}]", fontsize=9)
    panel.grid()


def binned_means(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the median x and the mean y of bins of about as many items each.

    Items with equal x stay together.

    Args:
        x: [N].
        y: [N].

    Returns:
        One number per bin, at most `MOST_BINS`.
    """
    bins = max(1, min(MOST_BINS, len(x) // ITEMS_A_BIN))
    edges = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)[1:-1]))
    of_item = np.searchsorted(edges, x, side="right")
    filled = np.unique(of_item)
    return (
        np.array([np.median(x[of_item == number]) for number in filled]),
        np.array([y[of_item == number].mean() for number in filled]),
    )


def evidence_figure(parts: Sequence[EvidenceFigure], what: str, title: str) -> Figure | None:
    """Draw each item's reliability against its number of training pairs.

    Args:
        parts: one per modality.
        what: what the reliability is, for the axis.
        title: title of the figure.

    Returns:
        The figure, None if there is no evidence at all.
    """
    drawn = [part for part in parts if len(part.pairs)]
    if not drawn:
        return None
    columns = min(2, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = new_figure(0.9 + 3.3 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for panel in panels.flat[len(drawn) :]:
        panel.set_visible(False)
    for panel, part in zip(panels.flat, drawn, strict=False):
        _draw_evidence(panel, part)
    for panel in panels[:, 0]:
        panel.set_ylabel(what)
    # Below a panel that is not there, the one above it has to name the axis.
    for number, panel in enumerate(panels.flat):
        if len(drawn) - columns <= number < len(drawn):
            panel.set_xlabel("training pairs (users) of the item")
            panel.tick_params(labelbottom=True)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    figure.suptitle(title)
    return figure


def _draw_evidence(panel: Axes, part: EvidenceFigure) -> None:
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    for which, color, label in (
        (part.ranked, "0.5", "ranked items"),
        (~part.ranked, "0.8", "too few pairs to be ranked"),
    ):
        x, y = part.pairs[which], part.reliability[which]
        panel.plot(x, y, ".", color=color, markersize=3, alpha=0.6, rasterized=True, label=label)
    for (name, items), color, marker in zip(
        part.chosen.items(), (COLORS[1], COLORS[0]), "vs", strict=False
    ):
        x, y = part.pairs[items], part.reliability[items]
        errors = np.maximum([y - part.low[items], part.high[items] - y], 0)
        label = f"{name} reliable, with 95 % interval"
        panel.errorbar(
            x, y, errors, fmt=marker, color=color, markersize=4, linewidth=0.9, label=label
        )
    panel.axhline(part.average, color="black", linestyle="--", linewidth=1, label="average")
    panel.set_title(clean(part.modality))
    panel.set_ylim(-0.03, 1.03)
    panel.grid()
