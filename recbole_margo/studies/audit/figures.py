"""The figures of an audit: learned weights, weights against other values, evidence by amount."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from recbole_margo.evaluation.bootstrap import is_constant
from recbole_margo.report.document import clean
from recbole_margo.report.figures import COLORS, HATCHES, legend_below, panel_grid, wrapped
from recbole_margo.studies.audit.catalogue import FloatArray
from recbole_margo.studies.audit.result import LearnedAudit, WeightRelation

BINS = 40
# A marked mean of fewer items would be noise.
ITEMS_A_BIN = 8
MOST_BINS = 10
LOGARITHMIC = "popularity"
AXES = {
    "popularity": "training interactions of the item",
    "feature norm": "length of the raw feature row",
    "evidence": "evidence-based reliability",
}
RANKED_BY = {
    "evidence": "evidence-based reliability (share of 1)",
    "contradicted": "share of comparisons won",
}


def weights_figure(result: LearnedAudit) -> Figure | None:
    """Draw the distribution of each modality's weight, a row per model, on the same axes.

    The weights of all seeds of a model are drawn together.

    Source: MARGO (arXiv 2504.16524), Fig. 5, of any number of modalities.
    """
    modalities = result.catalogue.modalities
    drawn: list[tuple[str, list[FloatArray]]] = []
    for label in dict.fromkeys(one.label for one in result.weights):
        seeds = [one for one in result.weights if one.label == label]
        values = [
            np.concatenate([one.of_modality(index) for one in seeds])
            for index in range(len(modalities))
        ]
        rows = seeds[0].rows if len(seeds) == 1 else f"{seeds[0].rows}, {len(seeds)} seeds"
        if any(map(len, values)):
            drawn.append((f"{wrapped(label, 18)}\n% of {rows}", values))
    if not drawn:
        return None
    count = len(modalities)
    figure, panels = panel_grid(len(drawn) * count, count, 1.55, 0.9, sharex=True, sharey=True)
    for row, (name, values) in enumerate(drawn):
        for index, of_modality in enumerate(values):
            _draw_distribution(panels[row * count + index], of_modality, index)
        panels[row * count].set_ylabel(name)
    for panel, modality in zip(panels, modalities, strict=False):
        panel.annotate(
            clean(modality), (0.5, 1), (0, 16), "axes fraction", "offset points", ha="center"
        )
    for panel in panels[-count:]:
        panel.set_xlabel("weight (share of 1)")
        panel.set_xlim(0.0, 1.0)
    figure.suptitle(f"Learned modality weights on {result.dataset}")
    return figure


def _draw_distribution(panel: Axes, values: FloatArray, index: int) -> None:
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


def relations_figure(result: LearnedAudit) -> Figure | None:
    """Draw weights against other values that differ by item: a row per modality, a column each."""
    relations = {
        (one.modality, one.other): one
        for one in result.relations
        if one.other in AXES and not (is_constant(one.values) or is_constant(one.weights))
    }
    if not relations:
        return None
    modalities = [name for name in result.catalogue.modalities if name in {m for m, _ in relations}]
    others = [name for name in AXES if name in {other for _, other in relations}]
    places = list(itertools.product(modalities, others))
    figure, panels = panel_grid(len(places), len(others), 2.4, 0.5, sharey="row")
    for panel, (modality, other) in zip(panels, places, strict=True):
        if (modality, other) in relations:
            _draw_relation(panel, relations[modality, other])
        else:
            text = f"the same for all items:\n{AXES[other]}"
            panel.text(0.5, 0.5, text, ha="center", transform=panel.transAxes, color="0.35")
            panel.set_xticks([])
        if other == others[0]:
            panel.set_ylabel(f"weight of {clean(modality)} (share of 1)")
    figure.suptitle(f"What the weights of {result.label} on {result.dataset} go along with")
    return figure


def _draw_relation(panel: Axes, one: WeightRelation) -> None:
    x, y, found = one.values, one.weights, one.correlation
    if one.other == LOGARITHMIC:
        x, y = x[x > 0], y[x > 0]
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    else:
        panel.xaxis.set_major_locator(MaxNLocator(4))
    panel.plot(x, y, ".", color="0.55", markersize=2.5, alpha=0.4, rasterized=True)
    middles, means = binned_means(x, y)
    panel.plot(middles, means, "-o", color=COLORS[1], markersize=4, markeredgecolor="white")
    panel.set_xlabel(AXES[one.other])
    panel.set_title(f"ρ {found.rho:+.2f} [{found.low:+.2f}, {found.high:+.2f}]", fontsize=9)
    panel.grid()


def binned_means(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the median of x [N] and the mean of y [N] of bins of about as many items each.

    Items with equal x stay together; there are at most `MOST_BINS`.
    """
    bins = max(1, min(MOST_BINS, len(x) // ITEMS_A_BIN))
    edges = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)[1:-1]))
    of_item = np.searchsorted(edges, x, side="right")
    filled = np.unique(of_item)
    return (
        np.array([np.median(x[of_item == number]) for number in filled]),
        np.array([y[of_item == number].mean() for number in filled]),
    )


def evidence_figure(result: LearnedAudit) -> Figure | None:
    """Draw each item's reliability against its training pairs, a panel per modality if any."""
    audit = result.catalogue
    indices = range(len(audit.modalities))
    known = {
        index: np.isfinite(audit.reliability(index)[0]) & (audit.pairs > 0) for index in indices
    }
    drawn = [index for index, there in known.items() if there.any()]
    if not drawn:
        return None
    figure, panels = panel_grid(len(drawn), 2, 3.3, 0.9, sharex=True, sharey=True)
    for panel, index in zip(panels, drawn, strict=True):
        _draw_evidence(panel, result, index, known[index])
    columns = min(2, len(drawn))
    for panel in panels[::columns]:
        panel.set_ylabel(RANKED_BY[audit.ranked_by])
    # Below a panel that is not there, the one above it has to name the axis.
    for panel in panels[-columns:]:
        panel.set_xlabel("training pairs (users) of the item")
        panel.tick_params(labelbottom=True)
    legend_below(figure, 3)
    figure.suptitle(f"How sure the audit of {result.label} on {result.dataset} is")
    return figure


def _draw_evidence(panel: Axes, result: LearnedAudit, index: int, known: NDArray[np.bool_]) -> None:
    pairs, ranking = result.catalogue.pairs, result.rankings[index]
    value, low, high = result.catalogue.reliability(index)
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    groups: Mapping[str, tuple[NDArray[np.bool_], str]] = {
        "ranked items": (known & ranking.ranked, "0.5"),
        "too few pairs to be ranked": (known & ~ranking.ranked, "0.8"),
    }
    for label, (items, color) in groups.items():
        x, y = pairs[items], value[items]
        panel.plot(x, y, ".", color=color, markersize=3, alpha=0.6, rasterized=True, label=label)
    least, most = result.listed(index)
    for name, listed, color, marker in (
        ("least", least, COLORS[1], "v"),
        ("most", most, COLORS[0], "s"),
    ):
        x, y = pairs[listed], value[listed]
        errors = np.maximum([y - low[listed], high[listed] - y], 0)
        label = f"{name} reliable, with 95 % interval"
        panel.errorbar(
            x, y, errors, fmt=marker, color=color, markersize=4, linewidth=0.9, label=label
        )
    panel.axhline(ranking.average, color="black", linestyle="--", linewidth=1, label="average")
    panel.set_title(clean(result.catalogue.modalities[index]))
    panel.set_ylim(-0.03, 1.03)
    panel.grid()
