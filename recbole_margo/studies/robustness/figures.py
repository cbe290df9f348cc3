"""The figures of a robustness study: quality, detection, weights of corrupted items."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recbole_margo.report.figures import COLORS, HATCHES, MARKERS, draw_all, new_figure
from recbole_margo.report.table import clean
from recbole_margo.studies.robustness.tables import (
    detection_rows,
    headline_rows,
    shares_name,
    shown_metrics,
    step_name,
)
from recbole_margo.studies.wording import is_smaller_better, metric_name

PANELS_A_ROW = 2
LABEL_WIDTH = 45
LINES = ("-", "--", "-.", (0, (9, 2)), (0, (5, 1, 1, 1, 1, 1)), (0, (2, 1)))


def draw_robustness(folder: Path, summary: Mapping[str, Any]) -> list[str]:
    """Draw what there is to draw, each figure as PNG and as SVG.

    Args:
        folder: where to.
        summary: the study, see docs/robustness.md.

    Returns:
        Names of the figures without their endings, of `quality`, `detection` and
        `weights-of-corrupted`.
    """
    return draw_all(
        folder,
        {
            "quality": quality_figure,
            "detection": detection_figure,
            "weights-of-corrupted": weights_figure,
        },
        summary,
    )


def quality_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Draw a panel per metric: a line per model over the share corrupted, with its deviation.

    Args:
        summary: the study.

    Returns:
        The figure, None if no run has finished.
    """
    metrics = shown_metrics(summary)
    if not metrics:
        return None
    rows = math.ceil(len(metrics) / PANELS_A_ROW)
    figure = new_figure(3.1 * rows + 0.7)
    panels = figure.subplots(rows, min(PANELS_A_ROW, len(metrics)), squeeze=False)
    for panel in panels.flat[len(metrics) :]:
        panel.set_visible(False)
    drawn: dict[str, Any] = {}
    for panel, metric in zip(panels.flat, metrics, strict=False):
        for place, model in enumerate(summary["models"]):
            line = _draw_quality(panel, summary, metric, place, model)
            if line is not None:
                drawn[model] = line
        better = " (smaller is better)" if is_smaller_better(metric) else ""
        panel.set_ylabel(f"{metric_name(metric)} on test{better}")
        panel.set_xlabel(_share_label(summary))
        panel.set_xticks([_share_of(summary, step) for step in summary["steps"]])
        panel.margins(x=0.06, y=0.12)
        panel.grid(axis="y")
    labels = [clean(model) for model in drawn]
    figure.legend(list(drawn.values()), labels, loc="outside lower center", ncols=5)
    seeds = len(summary["seeds"])
    band = f"mean and deviation over {seeds} seeds" if seeds > 1 else "one seed"
    figure.suptitle(f"{clean(summary['dataset'])}, {summary['kind']}: {band}")
    return figure


def _draw_quality(
    panel: Axes, summary: Mapping[str, Any], metric: str, place: int, model: str
) -> Any | None:
    rows = [row for row in summary["quality"] if row["model"] == model]
    rows = [row for row in rows if row["mean"].get(metric) is not None]
    if not rows:
        return None
    shares = [_share_of(summary, row["step"]) for row in rows]
    means = np.array([row["mean"][metric] for row in rows])
    deviations = np.array([row["std"].get(metric) or 0.0 for row in rows])
    look = {**_look(place), "linestyle": LINES[place % len(LINES)]}
    (line,) = panel.plot(shares, means, markersize=6, linewidth=1.6, **look)
    if deviations.any():
        panel.fill_between(
            shares, means - deviations, means + deviations, color=look["color"], alpha=0.15, lw=0
        )
    return line


def _share_of(summary: Mapping[str, Any], step: float) -> float:
    """Return the share of a step in percent, or the step itself if modalities differ in it."""
    shares = set(summary["share"].values())
    return 100 * step * next(iter(shares)) if len(shares) == 1 else step


def _share_label(summary: Mapping[str, Any]) -> str:
    names = " and ".join(clean(modality) for modality in summary["share"])
    if len(set(summary["share"].values())) == 1:
        return f"items with corrupted {names} (%)"
    text = f"corrupted share, 1 stands for {shares_name(summary['share'])}"
    return "\n".join(textwrap.wrap(text, LABEL_WIDTH))


def detection_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Draw ROC-AUC with intervals and ROC curves, a column per modality, at the last step.

    Args:
        summary: the study.

    Returns:
        The figure, None without detection.
    """
    step = summary["steps"][-1]
    modalities = [name for name in summary["share"] if headline_rows(summary, step, name)]
    if not modalities:
        return None
    names = list(dict.fromkeys(row["detector"] for row in summary["detection"]))
    height = 0.34 * len(names) + 0.9
    figure = new_figure(height + 3.9)
    figure.set_size_inches(max(8.4, 3.6 * len(modalities) + 1), height + 3.9)
    panels = figure.subplots(
        2, len(modalities), squeeze=False, height_ratios=[height, 3.2], sharex="row", sharey="row"
    )
    lines: dict[str, Any] = {}
    for (areas, curves), modality in zip(panels.T, modalities, strict=True):
        _draw_areas(areas, summary, modality, names)
        areas.set_title(f"{clean(modality)} corrupted")
        lines.update(_draw_curves(curves, summary, modality))
    panels[0, 0].set_yticks(range(len(names)), [clean(name) for name in names])
    panels[0, 0].set_ylim(len(names) - 0.5, -0.5)
    panels[1, 0].set_ylabel("corrupted items found (share)")
    for look in (HEADLINE, POPULAR):
        style = {**look, "color": "0.2", "label": look["label"]}
        lines[look["label"]] = panels[0, 0].plot([], [], **style)[0]
    figure.legend(
        list(lines.values()),
        [clean(name) for name in lines],
        loc="outside lower center",
        ncols=4,
    )
    figure.suptitle(
        f"{clean(summary['dataset'])}, {summary['kind']}, {step_name(summary, step)}: "
        "do low weights mark the corrupted items?"
    )
    return figure


HEADLINE: dict[str, Any] = {
    "marker": "o",
    "linestyle": "-",
    "markersize": 6,
    "label": "all items, 95 % interval",
}
POPULAR: dict[str, Any] = {
    "marker": "D",
    "linestyle": "",
    "markersize": 5,
    "markerfacecolor": "white",
    "label": "popular half",
}


def _draw_areas(panel: Axes, summary: Mapping[str, Any], modality: str, names: list[str]) -> None:
    step = summary["steps"][-1]
    for row in headline_rows(summary, step, modality):
        place, auc = names.index(row["detector"]), row["auc"]
        color = _look(_order(summary, row["detector"]))["color"]
        panel.plot([auc["low"], auc["high"]], [place, place], "-|", color=color, linewidth=1.8)
        panel.plot(auc["mean"], place, "o", color=color, markersize=6)
    for row in detection_rows(summary, step, modality, "popular", "all others"):
        place = names.index(row["detector"])
        color = _look(_order(summary, row["detector"]))["color"]
        style = {**POPULAR, "color": color, "label": None}
        # Below the other, so that neither covers the other.
        panel.plot(row["auc"]["mean"], place + 0.25, **style)
    panel.axvline(0.5, color="black", linestyle=":", linewidth=1.2)
    panel.set_xlabel("ROC-AUC (0.5 = chance)")
    panel.margins(x=0.08)
    panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    panel.grid(axis="x")


def _draw_curves(panel: Axes, summary: Mapping[str, Any], modality: str) -> dict[str, Any]:
    lines = {}
    for curve in summary["roc"]:
        if (curve["step"], curve["modality"]) != (summary["steps"][-1], modality):
            continue
        place = _order(summary, curve["detector"])
        (lines[curve["detector"]],) = panel.plot(
            curve["false_positive_rate"],
            curve["true_positive_rate"],
            color=_look(place)["color"],
            linestyle=LINES[place % len(LINES)],
            linewidth=1.6,
        )
    (lines["chance"],) = panel.plot([0, 1], [0, 1], color="black", linestyle=":", linewidth=1.2)
    panel.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    panel.set_xlabel("other items taken for corrupted (share)")
    panel.grid()
    return lines


def weights_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Draw histograms of the weight of corrupted and other items at the last step.

    Args:
        summary: the study.

    Returns:
        The figure of MARGO, or else of the first model with weights; None if there is none.
    """
    found = [row for row in summary["weights"] if row["step"] == summary["steps"][-1]]
    models = list(dict.fromkeys(row["model"] for row in found))
    if not models:
        return None
    model = summary["reference"] if summary["reference"] in models else models[0]
    found = [row for row in found if row["model"] == model]
    figure = new_figure(3.6)
    figure.set_size_inches(max(8.4, 3.6 * len(found)), 3.6)
    panels = figure.subplots(1, len(found), squeeze=False, sharey=True)[0]
    for panel, row in zip(panels, found, strict=True):
        _draw_weights(panel, row)
    panels[0].set_ylabel("items of the group (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    figure.suptitle(
        f"{clean(summary['dataset'])}, {summary['kind']}, "
        f"{step_name(summary, summary['steps'][-1])}: weights of {clean(model)}"
    )
    return figure


def _draw_weights(panel: Axes, row: Mapping[str, Any]) -> None:
    looks = (("intact", "other items", 0, ""), ("corrupted", "corrupted items", 1, HATCHES[1]))
    means = []
    for part, label, color, hatch in looks:
        counts = np.array(row[part], dtype=np.float64)
        panel.stairs(
            100 * counts / max(counts.sum(), 1),
            row["edges"],
            fill=True,
            alpha=0.45,
            facecolor=COLORS[color],
            edgecolor=COLORS[color],
            hatch=hatch,
            label=label,
        )
        mean = row[f"mean_{part}"]
        if mean is not None:
            style = "-" if part == "intact" else "--"
            panel.axvline(mean, color=COLORS[color], linestyle=style, linewidth=1.6)
            means.append(f"{mean:.3f}")
    panel.set_title(f"{clean(row['modality'])} (means {' and '.join(means)})")
    panel.set_xlabel(f"weight of {clean(row['modality'])} (share of 1)")
    panel.set_xlim(row["edges"][0], row["edges"][-1])


def _order(summary: Mapping[str, Any], name: str) -> int:
    """Return the place of a model or a control, so that it looks the same in every figure."""
    models = list(summary["models"])
    return models.index(name) if name in models else len(models)


def _look(place: int) -> dict[str, Any]:
    return {"color": COLORS[place % len(COLORS)], "marker": MARKERS[place % len(MARKERS)]}
