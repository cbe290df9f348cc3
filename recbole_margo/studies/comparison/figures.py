"""The figures of a comparison: metrics, differences to the reference, slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recbole_margo.report import clean, shorten
from recbole_margo.report.figures import (
    COLORS,
    few_ticks,
    legend_below,
    look,
    name_rows,
    panel_grid,
    wrapped,
)
from recbole_margo.studies.comparison.result import ALPHA, ComparedModel, Comparison, Slice
from recbole_margo.studies.wording import axis_name, is_smaller_better, metric_name

PANELS_A_ROW = 2
LABEL_WIDTH, LABEL_LINES = 24, 2


def metrics_figure(compared: Comparison) -> Figure | None:
    """Draw a panel per metric: a row per model with its seeds, mean and deviation; None of none."""
    models = [entry for entry in compared.models if entry.has_results]
    metrics = [
        metric
        for metric in compared.metrics
        if any(entry.mean.get(metric) is not None for entry in models)
    ]
    if not metrics:
        return None
    labels = _labels([entry.label for entry in models])
    height = 0.75 + _row_height(labels) * len(models)
    figure, panels = panel_grid(len(metrics), PANELS_A_ROW, height, 0.8, sharey=True)
    for panel, metric in zip(panels, metrics, strict=True):
        for place, entry in enumerate(models):
            _draw_model(panel, place, entry, metric, entry.label == compared.reference)
        panel.set_xlabel(axis_name(metric))
        _finish(panel)
        _start_at_zero(panel)
    name_rows(panels[0], labels)
    _legend_of_metrics(figure, panels[0], [entry.label for entry in models], compared)
    seeds = len(compared.seeds)
    counted = f"{seeds} seeds" if seeds > 1 else "one seed, no deviation"
    figure.suptitle(f"{clean(compared.dataset)}, {counted}")
    return figure


def _draw_model(
    panel: Axes, place: int, entry: ComparedModel, metric: str, is_reference: bool
) -> None:
    mean = entry.mean.get(metric)
    if mean is None:
        return
    values = [value for value in entry.values.get(metric, ()) if value is not None]
    middle = float(place)
    if len(values) > 1:
        # Seeds lie below the mean, so that neither covers the other.
        panel.plot(values, [place + 0.22] * len(values), **SEED)
        middle -= 0.08
    style = REFERENCE if is_reference else OTHER
    deviation = entry.std.get(metric)
    panel.errorbar(mean, middle, xerr=deviation, capsize=3, linewidth=1.5, **style)


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
    figure: Figure, panel: Axes, drawn: Sequence[str], compared: Comparison
) -> None:
    entries = [entry for entry in compared.models if entry.label in drawn]
    several = any(len(compared.finished_seeds(entry)) > 1 for entry in entries)
    what = "mean ± standard deviation over seeds" if several else "value"
    looks = [(REFERENCE, "reference")] if compared.reference in drawn else []
    if set(drawn) - {compared.reference}:
        looks.append((OTHER, "other models"))
    for found, who in looks:
        style = {**found, "marker": found["fmt"], "linestyle": "-" if several else ""}
        del style["fmt"]
        panel.plot([], [], label=f"{what}, {who}", **style)
    if several:
        panel.plot([], [], label="single seeds", **SEED)
    legend_below(figure, 2)


def differences_figure(compared: Comparison) -> Figure | None:
    """Draw each model's difference to the reference on the metric of selection, if tested."""
    metric = compared.selection_metric
    tests = compared.tests.get(metric or "", ())
    if not tests:
        return None
    labels = _labels([test.label for test in tests])
    figure, (panel,) = panel_grid(1, 1, 1.9 + _row_height(labels) * len(tests), 0.0)
    for place, test in enumerate(tests):
        middle = test.difference
        panel.plot([test.low, test.high], [place, place], "-|", color=COLORS[0], lw=1.8)
        face = COLORS[0] if test.is_significant else "white"
        panel.plot(middle, place, "o", color=COLORS[0], markerfacecolor=face, markersize=8)
    panel.axvline(0.0, color="black", linestyle="--", linewidth=1.2)
    name_rows(panel, labels)
    reference = shorten(compared.reference, LABEL_WIDTH)
    better = ", smaller is better" if is_smaller_better(str(metric)) else ""
    panel.set_xlabel(
        f"{metric_name(str(metric))} of the model minus {reference}'s (test{better}),\n"
        f"mean over {compared.tested_users} users and its 95 % interval"
    )
    _finish(panel)
    for face, what in ((COLORS[0], "<"), ("white", "≥")):
        text = f"Holm-corrected Wilcoxon p {what} {ALPHA}"
        panel.plot([], [], "o", color=COLORS[0], markerfacecolor=face, markersize=8, label=text)
    legend_below(figure, 2)
    figure.suptitle(f"{clean(compared.dataset)}: difference to {reference}")
    return figure


def slices_figure(compared: Comparison) -> Figure | None:
    """Draw a panel per kind of slice, if any: a group per slice, a marker per model."""
    kinds = compared.slices_by_kind()
    there = {label for parts in kinds.values() for part in parts for label in part.values}
    names = [entry.label for entry in compared.models if entry.label in there]
    if not names:
        return None
    groups = list(kinds.items())
    grid = [groups[start : start + PANELS_A_ROW] for start in range(0, len(groups), PANELS_A_ROW)]
    height = max(0.62, 0.13 * len(names) + 0.2)
    heights = [0.8 + height * max(len(parts) for _, parts in row) for row in grid]
    extra = 0.6 + 0.25 * math.ceil(len(names) / 3)
    figure, panels = panel_grid(len(groups), PANELS_A_ROW, heights, extra)
    for panel, ((kind, metric), parts) in zip(panels, groups, strict=True):
        _draw_slices(panel, parts, names)
        panel.set(title=kind, xlabel=f"{metric_name(metric)} on test, on the slice alone")
    labels = _labels(names)
    handles = {
        label: panels[0].plot([], [], ls="", ms=5.5, **look(index))[0]
        for index, label in enumerate(labels)
    }
    longest = max(len(line) for label in labels for line in label.split("\n"))
    legend_below(figure, min(6, 100 // (longest + 6)), handles)
    figure.suptitle(f"{clean(compared.dataset)}: parts of the test set")
    return figure


def _draw_slices(panel: Axes, parts: Sequence[Slice], names: Sequence[str]) -> None:
    offsets = np.linspace(-0.36, 0.36, len(names) + 2)[1:-1]
    for index, (offset, name) in enumerate(zip(offsets, names, strict=True)):
        values = np.array([part.values.get(name) for part in parts], dtype=np.float64)
        panel.plot(values, np.arange(len(parts)) + offset, ls="", ms=5.5, **look(index))
    for place in range(1, len(parts)):
        panel.axhline(place - 0.5, color="0.7", linewidth=0.8)
    texts = [f"{wrapped(part.name, LABEL_WIDTH, LABEL_LINES)}\n({part.size})" for part in parts]
    name_rows(panel, texts, fontsize=8)
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
    few_ticks(panel.xaxis)


def _row_height(labels: Sequence[str]) -> float:
    """Return the inches of a row that the longest of its labels needs."""
    return 0.1 + 0.16 * max(1.75, *(label.count("\n") + 1 for label in labels))


def _labels(labels: Sequence[object]) -> list[str]:
    """Return labels in short lines, cut only where they stay apart."""
    cut = [wrapped(label, LABEL_WIDTH, LABEL_LINES) for label in labels]
    return cut if len(set(cut)) == len(cut) else [wrapped(label, LABEL_WIDTH) for label in labels]
