"""The figures of a comparison: metrics, differences to the reference, slices."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recbole_margo.report.figures import COLORS, MARKERS, draw_all, new_figure
from recbole_margo.report.table import clean
from recbole_margo.studies.comparison.report_summary import (
    ALPHA,
    finished_seeds,
    has_results,
    is_significant,
    is_smaller_better,
    metric_name,
    selection_metric,
    slice_size,
    slices_by_kind,
    tested_users,
)

PANELS_A_ROW = 2
LABEL_WIDTH, LABEL_LINES = 24, 2


def draw_comparison(folder: Path, summary: Mapping[str, Any]) -> list[str]:
    """Draw what there is to draw, each figure as PNG and as SVG.

    Args:
        folder: where to.
        summary: the comparison, see docs/compare.md.

    Returns:
        Names of the figures without their endings, of `metrics`, `differences`, `slices`.
    """
    return draw_all(
        folder,
        {
            "metrics": metrics_figure,
            "differences": differences_figure,
            "slices": slices_figure,
        },
        summary,
    )


def metrics_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Draw a panel per metric: a row per model with its seeds, mean and deviation.

    Args:
        summary: the comparison.

    Returns:
        The figure, None if no model has results.
    """
    models = [entry for entry in summary["models"] if has_results(entry)]
    metrics = [
        metric
        for metric in summary["metrics"]
        if any((entry.get("mean") or {}).get(metric) is not None for entry in models)
    ]
    if not metrics:
        return None
    labels = _labels([entry["label"] for entry in models])
    rows = math.ceil(len(metrics) / PANELS_A_ROW)
    figure = new_figure(rows * (0.75 + _row_height(labels) * len(models)) + 0.8)
    panels = figure.subplots(rows, min(PANELS_A_ROW, len(metrics)), sharey=True, squeeze=False)
    for panel in panels.flat[len(metrics) :]:
        panel.set_visible(False)
    for panel, metric in zip(panels.flat, metrics, strict=False):
        for place, entry in enumerate(models):
            _draw_model(panel, place, entry, metric, entry["label"] == summary["reference"])
        better = " (smaller is better)" if is_smaller_better(metric) else ""
        panel.set(xlabel=f"{metric_name(metric)} on test{better}")
        _finish(panel)
        _start_at_zero(panel)
    panels[0, 0].set_yticks(range(len(models)), labels)
    panels[0, 0].set_ylim(len(models) - 0.5, -0.5)
    _legend_of_metrics(figure, panels[0, 0], [entry["label"] for entry in models], summary)
    seeds = len(summary["seeds"])
    counted = f"{seeds} seeds" if seeds > 1 else "one seed, no deviation"
    figure.suptitle(f"{clean(summary['dataset'])}, {counted}")
    return figure


def _draw_model(
    panel: Axes, place: int, entry: Mapping[str, Any], metric: str, is_reference: bool
) -> None:
    """Draw the seeds, mean and deviation of a model in the row of its place."""
    mean = (entry.get("mean") or {}).get(metric)
    if mean is None:
        return
    values = (entry.get("values") or {}).get(metric) or []
    middle = float(place)
    if len(values) > 1:
        # Seeds lie below the mean, so that neither covers the other.
        panel.plot(values, [place + 0.22] * len(values), **SEED)
        middle -= 0.08
    look = REFERENCE if is_reference else OTHER
    deviation = (entry.get("std") or {}).get(metric)
    panel.errorbar(mean, middle, xerr=deviation, capsize=3, linewidth=1.5, **look)


SEED: dict[str, Any] = {
    "marker": "o",
    "linestyle": "",
    "markersize": 4,
    "markerfacecolor": "none",
    "markeredgecolor": "0.35",
}
REFERENCE: dict[str, Any] = {"fmt": "D", "color": COLORS[1], "markersize": 6}
OTHER: dict[str, Any] = {"fmt": "o", "color": COLORS[0], "markersize": 6}


def _legend_of_metrics(
    figure: Figure, panel: Axes, drawn: Sequence[str], summary: Mapping[str, Any]
) -> None:
    entries = [entry for entry in summary["models"] if entry["label"] in drawn]
    several = any(len(finished_seeds(summary, entry)) > 1 for entry in entries)
    what = "mean ± standard deviation over seeds" if several else "value"
    looks = [(REFERENCE, "reference")] if summary["reference"] in drawn else []
    if set(drawn) - {summary["reference"]}:
        looks.append((OTHER, "other models"))
    for look, who in looks:
        style = {**look, "marker": look["fmt"], "linestyle": "-" if several else ""}
        del style["fmt"]
        panel.plot([], [], label=f"{what}, {who}", **style)
    if several:
        panel.plot([], [], label="single seeds", **SEED)
    figure.legend(loc="outside lower center", ncols=2)


def differences_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Draw each model's difference to the reference on the metric of selection.

    Args:
        summary: the comparison.

    Returns:
        The figure, None without tests.
    """
    metric = selection_metric(summary)
    tests = (summary.get("tests") or {}).get(metric) or []
    if not tests:
        return None
    labels = _labels([test["label"] for test in tests])
    figure = new_figure(1.9 + _row_height(labels) * len(tests))
    panel = figure.subplots()
    for place, test in enumerate(tests):
        middle = test["difference"]
        panel.plot([test["low"], test["high"]], [place, place], "-|", color=COLORS[0], lw=1.8)
        face = COLORS[0] if is_significant(test) else "white"
        panel.plot(middle, place, "o", color=COLORS[0], markerfacecolor=face, markersize=8)
    panel.axvline(0.0, color="black", linestyle="--", linewidth=1.2)
    panel.set_yticks(range(len(tests)), labels)
    panel.set_ylim(len(tests) - 0.5, -0.5)
    reference = _shorten(summary["reference"])
    better = ", smaller is better" if is_smaller_better(str(metric)) else ""
    panel.set_xlabel(
        f"{metric_name(str(metric))} of the model minus {reference}'s (test{better}),\n"
        f"mean over {tested_users(summary)} users and its 95 % interval"
    )
    _finish(panel)
    for face, what in ((COLORS[0], "<"), ("white", "≥")):
        text = f"Holm-corrected Wilcoxon p {what} {ALPHA}"
        panel.plot([], [], "o", color=COLORS[0], markerfacecolor=face, markersize=8, label=text)
    figure.legend(loc="outside lower center", ncols=2)
    figure.suptitle(f"{clean(summary['dataset'])}: difference to {reference}")
    return figure


def slices_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Draw a panel per kind of slice: a group per slice, a marker per model.

    Args:
        summary: the comparison.

    Returns:
        The figure, None without slices.
    """
    kinds = slices_by_kind(summary)
    there = {label for parts in kinds.values() for part in parts for label in part["values"]}
    names = [entry["label"] for entry in summary["models"] if entry["label"] in there]
    if not names:
        return None
    groups = list(kinds.items())
    grid = [groups[start : start + PANELS_A_ROW] for start in range(0, len(groups), PANELS_A_ROW)]
    height = max(0.62, 0.13 * len(names) + 0.2)
    heights = [0.8 + height * max(len(parts) for _, parts in row) for row in grid]
    figure = new_figure(sum(heights) + 0.6 + 0.25 * math.ceil(len(names) / 3))
    panels = figure.subplots(
        len(grid), min(PANELS_A_ROW, len(groups)), squeeze=False, height_ratios=heights
    )
    for panel in panels.flat[len(groups) :]:
        panel.set_visible(False)
    for panel, ((kind, metric), parts) in zip(panels.flat, groups, strict=False):
        _draw_slices(panel, parts, names)
        panel.set(title=kind, xlabel=f"{metric_name(metric)} on test, on the slice alone")
    labels = _labels(names)
    for look, label in zip(_looks(len(names)), labels, strict=True):
        panels[0, 0].plot([], [], label=label, **look)
    longest = max(len(line) for label in labels for line in label.split("\n"))
    figure.legend(loc="outside lower center", ncols=min(6, 100 // (longest + 6)))
    figure.suptitle(f"{clean(summary['dataset'])}: parts of the test set")
    return figure


def _draw_slices(panel: Axes, parts: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    offsets = np.linspace(-0.36, 0.36, len(names) + 2)[1:-1]
    for offset, name, look in zip(offsets, names, _looks(len(names)), strict=True):
        values = [part["values"].get(name) for part in parts]
        numbers = [math.nan if value is None else value for value in values]
        panel.plot(numbers, np.arange(len(parts)) + offset, **look)
    for place in range(1, len(parts)):
        panel.axhline(place - 0.5, color="0.7", linewidth=0.8)
    texts = [f"{_wrap(part['name'])}\n({slice_size(part)})" for part in parts]
    panel.set_yticks(range(len(parts)), texts, fontsize=8)
    panel.set_ylim(len(parts) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    _finish(panel)
    _start_at_zero(panel)


def _start_at_zero(panel: Axes) -> None:
    """Leave out what is below 0, where no metric has a value, but for the room of a point."""
    low, high = panel.get_xlim()
    if low < 0 < high:
        panel.set_xlim(-0.04 * high, high)


def _finish(panel: Axes) -> None:
    """Keep points off the rim and the numbers of the ticks apart."""
    panel.margins(x=0.08)
    panel.grid(axis="x")
    panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def _looks(count: int) -> list[dict[str, Any]]:
    return [
        {
            "color": COLORS[index % len(COLORS)],
            "marker": MARKERS[index % len(MARKERS)],
            "linestyle": "",
            "markersize": 5.5,
        }
        for index in range(count)
    ]


def _row_height(labels: Sequence[str]) -> float:
    """Return the inches of a row that the longest of its labels needs."""
    return 0.1 + 0.16 * max(1.75, *(label.count("\n") + 1 for label in labels))


def _labels(labels: Sequence[object]) -> list[str]:
    """Return labels in short lines, cut only where they stay apart."""
    cut = [_wrap(label) for label in labels]
    return cut if len(set(cut)) == len(cut) else [_wrap(label, lines=99) for label in labels]


def _wrap(text: object, lines: int = LABEL_LINES) -> str:
    found = textwrap.wrap(clean(text), LABEL_WIDTH, max_lines=lines, placeholder="…")
    return "\n".join(found)


def _shorten(text: object) -> str:
    shown = clean(text)
    return shown if len(shown) <= LABEL_WIDTH else f"{shown[: LABEL_WIDTH - 1]}…"
