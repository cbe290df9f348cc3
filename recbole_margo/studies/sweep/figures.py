"""The figure of a sweep: a panel per hyper-parameter and metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from recbole_margo.report.evaluated_parts import EvaluatedParts
from recbole_margo.report.figures import COLORS, draw, new_figure
from recbole_margo.report.table import clean
from recbole_margo.studies.comparison.report_summary import is_smaller_better, metric_name
from recbole_margo.studies.sweep.tables import mean_and_deviation, values_of

LINE, OWN = COLORS[0], COLORS[1]
ROW_HEIGHT = 2.2
LONGEST_TICK = 10
# How many fit side by side under a panel.
CHARACTERS = 26


def draw_sweep(folder: Path, swept: Mapping[str, Any]) -> bool:
    """Draw `sweep.png` and `sweep.svg`.

    Args:
        folder: where to.
        swept: the sweep, see docs/sweep.md.

    Returns:
        Whether there was something to draw.
    """
    return draw(folder / "sweep", partial(sweep_figure, swept))


def panel_metrics(swept: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what the columns of panels show: where it was measured, and the metric.

    These are the metric of selection on validation and on test, and one more metric on test, with
    the same cut-off if there is one.

    Args:
        swept: the sweep.
    """
    chosen = str(swept["valid_metric"] or "").lower()
    others = [metric for metric in swept["metrics"] if metric != chosen]
    cut_off = chosen.partition("@")[2]
    alike = [metric for metric in others if metric.partition("@")[2] == cut_off]
    tested = [chosen] if chosen in swept["metrics"] else []
    shown = [("test", metric) for metric in [*tested, *(alike or others)[:1]]]
    return [("valid", chosen), *shown] if EvaluatedParts.of_summary(swept).valid else shown


def sweep_figure(swept: Mapping[str, Any]) -> Figure | None:
    """Draw a row per hyper-parameter, a column per metric; a column shares its vertical axis.

    Args:
        swept: the sweep.

    Returns:
        The figure, None if no run finished or was evaluated.
    """
    curves = [
        curve
        for curve in swept["hyperparameters"]
        if any(point["seeds"] for point in curve["points"])
    ]
    columns = panel_metrics(swept)
    if not curves or not columns:
        return None
    figure = new_figure(ROW_HEIGHT * len(curves) + 0.9)
    panels = figure.subplots(len(curves), len(columns), sharey="col", squeeze=False)
    for row, curve in zip(panels, curves, strict=True):
        for panel, (on, metric) in zip(row, columns, strict=True):
            _draw_curve(panel, curve, on, metric)
    for panel, (on, metric) in zip(panels[0], columns, strict=True):
        better = ", smaller is better" if is_smaller_better(metric) else ""
        where = "validation" if on == "valid" else "test"
        panel.set_title(f"{metric_name(metric)} on {where}{better}")
    _legend(figure, panels[0, 0], swept)
    figure.suptitle(f"{clean(swept['model'])} on {clean(swept['dataset'])}")
    return figure


def _draw_curve(panel: Axes, curve: Mapping[str, Any], on: str, metric: str) -> None:
    """Draw the mean of each value, the band over seeds and the own value."""
    places = _places(curve)
    drawn = []
    for place, point in zip(places, curve["points"], strict=True):
        mean, deviation = mean_and_deviation(values_of(point, on, metric))
        if mean is not None:
            drawn.append((place, mean, deviation or 0.0, point))
    across = [place for place, *_ in drawn]
    means = [mean for _, mean, *_ in drawn]
    deviations = [deviation for *_, deviation, _ in drawn]
    style: dict[str, Any] = {"color": LINE, "markersize": 4.5, "linewidth": 1.5}
    if _has_names(curve):
        # There is nothing between two names that a line could show.
        bars = deviations if any(deviations) else None
        panel.errorbar(across, means, yerr=bars, fmt="o", capsize=3, **style)
    else:
        if any(deviations):
            low = [mean - deviation for mean, deviation in zip(means, deviations, strict=True)]
            high = [mean + deviation for mean, deviation in zip(means, deviations, strict=True)]
            panel.fill_between(across, low, high, color=LINE, alpha=0.2, linewidth=0)
        panel.plot(across, means, "-o", **style)
    for place, mean, _, point in drawn:
        if point["own"]:
            panel.plot(place, mean, "D", color=OWN, markersize=7, zorder=3)
    _finish(panel, curve, places)


def _has_names(curve: Mapping[str, Any]) -> bool:
    """Return whether a value is something else than a number or nothing."""
    values = [point["value"] for point in curve["points"]]
    return any(
        isinstance(one, bool) or not isinstance(one, int | float | type(None)) for one in values
    )


def _places(curve: Mapping[str, Any]) -> list[float]:
    if curve["scale"] == "ordinal":
        return [float(place) for place in range(len(curve["points"]))]
    return [float(point["value"]) for point in curve["points"]]


def _finish(panel: Axes, curve: Mapping[str, Any], places: Sequence[float]) -> None:
    """Scale and label the axes of a panel; its ticks are the values of the curve."""
    panel.set_xlabel(clean(curve["name"]) + (", log scale" if curve["scale"] == "log" else ""))
    panel.margins(x=0.08, y=0.1)
    panel.grid(axis="both")
    panel.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    panel.tick_params(labelleft=True)
    if curve["scale"] == "log":
        panel.set_xscale("log")
    texts = [_shorten(point["text"]) for point in curve["points"]]
    if curve["scale"] == "ordinal":
        kept = list(range(len(texts)))
    else:
        scale = math.log if curve["scale"] == "log" else float
        kept = _apart([scale(place) for place in places], texts)
    # Names would run into each other.
    crowded = curve["scale"] == "ordinal" and sum(map(len, texts)) > CHARACTERS
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right"} if crowded else {}
    panel.set_xticks([places[at] for at in kept], [texts[at] for at in kept], **slanted)
    panel.xaxis.set_minor_locator(NullLocator())


def _shorten(text: object) -> str:
    shown = clean(text)
    return shown if len(shown) <= LONGEST_TICK else f"{shown[: LONGEST_TICK - 1]}…"


def _apart(places: Sequence[float], texts: Sequence[str]) -> list[int]:
    """Return which ticks to label so that no two labels run into each other.

    Args:
        places: where they are on the axis, from left to right.
        texts: their labels.
    """
    width = (places[-1] - places[0]) or 1.0
    kept = [0]
    for at in range(1, len(places)):
        gap = (places[at] - places[kept[-1]]) / width * CHARACTERS
        if gap > (len(texts[at]) + len(texts[kept[-1]])) / 2 + 1:
            kept.append(at)
    return kept


def _legend(figure: Figure, panel: Axes, swept: Mapping[str, Any]) -> None:
    several = any(
        len(point["seeds"]) > 1 for curve in swept["hyperparameters"] for point in curve["points"]
    )
    count = len(swept["seeds"])
    what = f"mean over {count} seeds" if several else "one seed, no band"
    panel.plot([], [], "-o", color=LINE, markersize=4.5, label=what)
    if several:
        panel.fill_between([], [], [], color=LINE, alpha=0.2, label="± standard deviation")
    panel.plot([], [], "D", color=OWN, markersize=7, label="own value, same run in every row")
    figure.legend(loc="outside lower center", ncols=3)
