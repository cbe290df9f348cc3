"""The figure of a dataset: degrees, concentration, alignment and norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from recbole_margo.report.figures import COLORS, HATCHES

# Told apart by line style and marker too, for print without colours.
LINES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("users", {"color": COLORS[0], "linewidth": 1.8}),
    ("items", {"color": COLORS[1], "linewidth": 1.8, "linestyle": "--"}),
)
REAL: dict[str, Any] = {"color": COLORS[0], "markersize": 8}
SHUFFLED: dict[str, Any] = {"color": COLORS[1], "markersize": 5, "markerfacecolor": "none"}

# A name is cut where it would squeeze the panel.
LONGEST_NAME = 18


@dataclass(frozen=True)
class DatasetFigure:
    """What the figure of a dataset shows.

    Attributes:
        norms: modality -> lengths of its rows.
        coverage: modality -> share of the items that have it.
        recall: modality -> Recall@20 with the rows as they are, and with shuffled rows.
    """

    title: str
    user_degrees: NDArray[np.int64]
    item_degrees: NDArray[np.int64]
    norms: dict[str, NDArray[np.float64]]
    coverage: dict[str, float]
    recall: dict[str, tuple[float, list[float]]]

    @property
    def degrees(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Degrees of users and items."""
        return self.user_degrees, self.item_degrees


def dataset_figure(content: DatasetFigure) -> Figure:
    """Draw a dataset."""
    modalities = list(content.coverage)
    rows = 2 if modalities else 1
    heights = [3.4, max(3.4, 1.4 + 0.45 * len(modalities))][:rows]
    figure = Figure(figsize=(9.6, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, 2, squeeze=False, height_ratios=heights)
    _draw_degrees(panels[0, 0], content)
    _draw_concentration(panels[0, 1], content)
    if modalities:
        _draw_alignment(panels[1, 0], content)
        _draw_norms(panels[1, 1], content)
    for panel in panels.flat:
        panel.spines[["top", "right"]].set_visible(False)
        panel.title.set_fontsize(10)
    figure.suptitle(content.title, fontsize=12)
    return figure


def _draw_degrees(panel: Axes, content: DatasetFigure) -> None:
    """Draw which share of users and items has at least so many training interactions."""
    for (name, style), degrees in zip(LINES, content.degrees, strict=True):
        values, counts = np.unique(degrees[degrees > 0], return_counts=True)
        share = counts[::-1].cumsum()[::-1] / len(degrees)
        panel.plot(values, share, label=name, **style)
    panel.set(
        xscale="log",
        yscale="log",
        title="How active users and how popular items are",
        xlabel="at least this many training interactions",
        ylabel="% of users / items",
    )
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    panel.legend(frameon=False)
    panel.grid(alpha=0.3)


def _draw_concentration(panel: Axes, content: DatasetFigure) -> None:
    """Draw which share of the interactions falls on the most active users and popular items."""
    for (_, style), degrees in zip(LINES, content.degrees, strict=True):
        counted = np.concatenate([[0], np.sort(degrees)[::-1].cumsum()])
        panel.plot(np.linspace(0, 100, len(counted)), 100 * counted / counted[-1], **style)
    panel.set(
        title="How concentrated the interactions are",
        xlabel="% of users / items, those with most first",
        ylabel="% of interactions",
    )
    panel.grid(alpha=0.3)


def _draw_alignment(panel: Axes, content: DatasetFigure) -> None:
    """Draw Recall@20 of content kNN, and its mean and range when the rows are shuffled."""
    places = np.arange(len(content.coverage))
    for place, modality in zip(places, content.coverage, strict=True):
        if modality not in content.recall:
            continue
        real, shuffled = content.recall[modality]
        mean = float(np.mean(shuffled))
        panel.plot([mean, real], [place, place], color="0.6", linewidth=1.5, zorder=1)
        panel.plot(shuffled, [place] * len(shuffled), "o", **SHUFFLED)
        panel.plot([real], [place], "D", **REAL)
        panel.annotate(
            f"{real:.3f}", (real, place), (0, 8), textcoords="offset points", ha="center", size=9
        )
    panel.plot([], [], "D", label="rows as they are", **REAL)
    panel.plot([], [], "o", label="rows shuffled", **SHUFFLED)
    names = [f"{_cut(name)}\n{share:.0%} of items" for name, share in content.coverage.items()]
    panel.set_yticks(places, names)
    panel.set_ylim(len(places) - 0.4, -0.6)
    panel.set_xlim(0.0, 1.12 * panel.get_xlim()[1])
    panel.set(title="Do rows belong to items?", xlabel="Recall@20 of content kNN")
    # Below the panel, where it never covers a point.
    panel.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    panel.grid(axis="x", alpha=0.3)


def _draw_norms(panel: Axes, content: DatasetFigure) -> None:
    """Draw the distribution of the rows' lengths, each modality relative to its median."""
    # By hand: how a box plot is told to lie has changed between versions of matplotlib.
    places = np.arange(len(content.norms))
    for place, norms in zip(places, content.norms.values(), strict=True):
        low, first, median, third, high = np.quantile(norms, [0.01, 0.25, 0.5, 0.75, 0.99])
        for start, end in ((low, first), (high, third)):
            panel.plot([start / median, end / median], [place, place], "k-|", markevery=[0])
        panel.barh(
            place,
            (third - first) / median,
            left=first / median,
            height=0.5,
            color=COLORS[place % len(COLORS)],
            hatch=HATCHES[place % len(HATCHES)],
            edgecolor="black",
            alpha=0.6,
        )
        panel.plot([1.0, 1.0], [place - 0.25, place + 0.25], "k-", linewidth=2)
    names = [
        f"{_cut(name)}\nmedian {_short(float(np.median(norms)))}"
        for name, norms in content.norms.items()
    ]
    panel.set_yticks(places, names)
    panel.set_ylim(len(places) - 0.4, -0.6)
    panel.set(
        title="How long the feature vectors are",
        xlabel="length / median length\n(box: quartiles, whiskers: 1 % and 99 %)",
    )
    panel.grid(axis="x", alpha=0.3)


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
