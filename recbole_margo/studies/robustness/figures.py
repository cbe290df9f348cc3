"""The figures of a robustness study: quality, detection, weights of corrupted items."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from recbole_margo.report.document import clean
from recbole_margo.report.figures import (
    COLORS,
    HATCHES,
    few_ticks,
    legend_below,
    look,
    name_rows,
    panel_grid,
    wrapped,
)
from recbole_margo.studies.robustness.result import (
    HEADLINE,
    POPULAR,
    RobustnessResult,
    WeightHistogram,
    shares_name,
)
from recbole_margo.studies.wording import axis_name

PANELS_A_ROW = 2
PANEL_WIDTH = 3.6
LABEL_WIDTH = 45
LINES = ("-", "--", "-.", (0, (9, 2)), (0, (5, 1, 1, 1, 1, 1)), (0, (2, 1)))
ALL_ITEMS: dict[str, Any] = {"marker": "o", "markersize": 6}
POPULAR_ITEMS: dict[str, Any] = {
    "marker": "D",
    "linestyle": "",
    "markersize": 5,
    "markerfacecolor": "white",
}


def quality_figure(result: RobustnessResult) -> Figure | None:
    """Draw a panel per metric: a line per model over the share corrupted; None without any."""
    metrics = result.shown_metrics
    if not metrics:
        return None
    figure, panels = panel_grid(len(metrics), PANELS_A_ROW, 3.1, 0.7)
    lines: dict[str, Line2D] = {}
    for panel, metric in zip(panels, metrics, strict=True):
        for index, model in enumerate(result.models):
            line = _draw_quality(panel, result, metric, index)
            if line is not None:
                lines[model] = line
        panel.set_ylabel(axis_name(metric))
        panel.set_xlabel(_share_label(result))
        panel.set_xticks([_share_of(result, step) for step in result.steps])
        panel.margins(x=0.06, y=0.12)
        panel.grid(axis="y")
    legend_below(figure, 5, lines)
    seeds = len(result.seeds)
    band = f"mean and deviation over {seeds} seeds" if seeds > 1 else "one seed"
    figure.suptitle(f"{clean(result.dataset)}, {result.kind}: {band}")
    return figure


def _draw_quality(panel: Axes, result: RobustnessResult, metric: str, index: int) -> Line2D | None:
    model = result.models[index]
    rows = [result.quality_of(model, step) for step in result.steps]
    rows = [row for row in rows if row.mean.get(metric) is not None]
    if not rows:
        return None
    shares = [_share_of(result, row.step) for row in rows]
    means = np.array([row.mean[metric] for row in rows])
    deviations = np.array([row.std.get(metric) or 0.0 for row in rows])
    style: dict[str, Any] = {**look(index), "linestyle": LINES[index % len(LINES)]}
    (line,) = panel.plot(shares, means, markersize=6, linewidth=1.6, **style)
    if deviations.any():
        panel.fill_between(
            shares, means - deviations, means + deviations, color=style["color"], alpha=0.15, lw=0
        )
    return line


def _share_of(result: RobustnessResult, step: float) -> float:
    """Return the share of a step in percent, or the step itself if modalities differ in it."""
    shares = set(result.share.values())
    return 100 * step * next(iter(shares)) if len(shares) == 1 else step


def _share_label(result: RobustnessResult) -> str:
    if len(set(result.share.values())) == 1:
        return f"items with corrupted {' and '.join(map(clean, result.share))} (%)"
    return wrapped(f"corrupted share, 1 stands for {shares_name(result.share)}", LABEL_WIDTH)


def detection_figure(result: RobustnessResult) -> Figure | None:
    """Draw ROC-AUC and ROC curves at the last step, a column per modality; None without any."""
    step = result.steps[-1]
    modalities = [name for name in result.share if result.detectors(step, name, HEADLINE)]
    if not modalities:
        return None
    names = list(dict.fromkeys(row.detector for row in result.detection))
    height = 0.34 * len(names) + 0.9
    figure, panels = panel_grid(
        2 * len(modalities), len(modalities), [height, 3.2], 0.7, sharex="row", sharey="row"
    )
    figure.set_figwidth(max(figure.get_figwidth(), PANEL_WIDTH * len(modalities) + 1))
    areas, curves = panels[: len(modalities)], panels[len(modalities) :]
    lines: dict[str, Line2D] = {}
    for area, curve, modality in zip(areas, curves, modalities, strict=True):
        _draw_areas(area, result, modality, names)
        area.set_title(f"{clean(modality)} corrupted")
        lines.update(_draw_curves(curve, result, modality))
    name_rows(areas[0], [clean(name) for name in names])
    curves[0].set_ylabel("corrupted items found (share)")
    for label, style in (("all items, 95 % interval", ALL_ITEMS), ("popular half", POPULAR_ITEMS)):
        (lines[label],) = areas[0].plot([], [], color="0.2", **style)
    legend_below(figure, 4, lines)
    figure.suptitle(f"{_about(result)}: do low weights mark the corrupted items?")
    return figure


def _draw_areas(panel: Axes, result: RobustnessResult, modality: str, names: list[str]) -> None:
    step = result.steps[-1]
    for row in result.detectors(step, modality, HEADLINE):
        height, auc = names.index(row.detector), row.auc
        color = _color(_index(result, row.detector))
        panel.plot([auc.low, auc.high], [height, height], "-|", color=color, linewidth=1.8)
        panel.plot(auc.mean, height, color=color, **ALL_ITEMS)
    for row in result.detectors(step, modality, POPULAR):
        color = _color(_index(result, row.detector))
        # Below the other, so that neither covers the other.
        panel.plot(row.auc.mean, names.index(row.detector) + 0.25, color=color, **POPULAR_ITEMS)
    panel.axvline(0.5, color="black", linestyle=":", linewidth=1.2)
    panel.set_xlabel("ROC-AUC (0.5 = chance)")
    panel.margins(x=0.08)
    few_ticks(panel.xaxis)
    panel.grid(axis="x")


def _draw_curves(panel: Axes, result: RobustnessResult, modality: str) -> dict[str, Line2D]:
    lines = {}
    for curve in result.roc:
        if (curve.step, curve.modality) == (result.steps[-1], modality):
            index = _index(result, curve.detector)
            (lines[curve.detector],) = panel.plot(
                curve.false_positive_rate,
                curve.true_positive_rate,
                color=_color(index),
                linestyle=LINES[index % len(LINES)],
                linewidth=1.6,
            )
    (lines["chance"],) = panel.plot([0, 1], [0, 1], color="black", linestyle=":", linewidth=1.2)
    panel.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    panel.set_xlabel("other items taken for corrupted (share)")
    panel.grid()
    return lines


def weights_figure(result: RobustnessResult) -> Figure | None:
    """Draw histograms of the weights at the last step, of MARGO or else of the first model."""
    last = [one for one in result.weights if one.step == result.steps[-1]]
    models = [one.model for one in last]
    if not models:
        return None
    model = result.reference if result.reference in models else models[0]
    histograms = [one for one in last if one.model == model]
    figure, panels = panel_grid(len(histograms), len(histograms), 3.6, 0.0, sharey=True)
    figure.set_figwidth(max(figure.get_figwidth(), PANEL_WIDTH * len(histograms)))
    for panel, histogram in zip(panels, histograms, strict=True):
        _draw_weights(panel, histogram)
    panels[0].set_ylabel("items of the group (%)")
    legend_below(figure, 2)
    figure.suptitle(f"{_about(result)}: weights of {clean(model)}")
    return figure


def _draw_weights(panel: Axes, histogram: WeightHistogram) -> None:
    groups = (
        ("other items", histogram.intact, histogram.mean_intact, "-"),
        ("corrupted items", histogram.corrupted, histogram.mean_corrupted, "--"),
    )
    for (label, counts, mean, line), color, hatch in zip(groups, COLORS, HATCHES, strict=False):
        panel.stairs(
            100 * np.array(counts) / max(sum(counts), 1),
            histogram.edges,
            fill=True,
            alpha=0.45,
            facecolor=color,
            edgecolor=color,
            hatch=hatch,
            label=label,
        )
        panel.axvline(mean, color=color, linestyle=line, linewidth=1.6)
    modality = clean(histogram.modality)
    means = f"{histogram.mean_intact:.3f} and {histogram.mean_corrupted:.3f}"
    panel.set_title(f"{modality} (means {means})")
    panel.set_xlabel(f"weight of {modality} (share of 1)")
    panel.set_xlim(histogram.edges[0], histogram.edges[-1])


def _about(result: RobustnessResult) -> str:
    return f"{clean(result.dataset)}, {result.kind}, {result.step_name(result.steps[-1])}"


def _index(result: RobustnessResult, name: str) -> int:
    """Return the index of a model or a control, so that it looks the same in every figure."""
    detectors = (row.detector for row in result.detection)
    names = list(dict.fromkeys((*result.models, *detectors)))
    return names.index(name)


def _color(index: int) -> str:
    """Return a colour that is not again the first model's; beyond them lines tell apart."""
    return COLORS[min(index, len(COLORS) - 1)]
