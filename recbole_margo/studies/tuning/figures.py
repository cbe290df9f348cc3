"""The figures of a search: its course, and the score against each hyper-parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from recbole_margo.report.figures import COLORS, draw_all, new_figure
from recbole_margo.report.table import clean
from recbole_margo.studies.tuning.tables import ranked_trials, value_text
from recbole_margo.studies.wording import is_smaller_better, metric_name

PANELS_A_ROW = 3
LONGEST_TICK = 12
COMPLETE: dict[str, Any] = {"marker": "o", "color": COLORS[0], "linestyle": "", "markersize": 5}
PRUNED: dict[str, Any] = {
    "marker": "x",
    "color": "0.45",
    "linestyle": "",
    "markersize": 5,
}
BEST: dict[str, Any] = {"marker": "*", "color": COLORS[1], "linestyle": "", "markersize": 13}
OWN: dict[str, Any] = {"marker": "D", "color": COLORS[2], "linestyle": "", "markersize": 6.5}


def draw_tuning(folder: Path, summary: Mapping[str, Any]) -> list[str]:
    """Draw what there is to draw, each figure as PNG and as SVG.

    Args:
        folder: where to.
        summary: the search, see docs/tune.md.

    Returns:
        Names of the figures without their endings, of `history` and `slices`.
    """
    return draw_all(folder, {"history": history_figure, "slices": slice_figure}, summary)


def history_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Draw the score of each trial and the best so far.

    Args:
        summary: the search.

    Returns:
        The figure, None if no trial is complete.
    """
    complete = [trial for trial in summary["trials"] if trial["state"] == "complete"]
    if not complete:
        return None
    figure = new_figure(3.4)
    panel = figure.subplots()
    best_of = np.maximum if summary["bigger_is_better"] else np.minimum
    so_far = best_of.accumulate([trial["value"] for trial in complete])
    numbers = [trial["number"] for trial in complete]
    panel.step(
        [*numbers, summary["trials"][-1]["number"]],
        [*so_far, so_far[-1]],
        where="post",
        color=COLORS[1],
        linewidth=1.5,
        label="best so far",
    )
    pruned = _pruned(summary)
    panel.plot(
        [trial["number"] for trial in pruned],
        [trial["last_score"] for trial in pruned],
        **PRUNED,
        label="pruned, its last score",
    )
    panel.plot(numbers, [trial["value"] for trial in complete], **COMPLETE, label="complete trial")
    _draw_marked(panel, summary, lambda trial: trial["number"])
    panel.set(xlabel="trial", ylabel=_score_label(summary))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(panel, summary)
    _legend(figure, panel, bool(pruned))
    figure.suptitle(_title(summary))
    return figure


def slice_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Draw a panel per hyper-parameter: the score of each trial against its value.

    Args:
        summary: the search.

    Returns:
        The figure, None if no trial is complete.
    """
    if not ranked_trials(summary):
        return None
    space = summary["space"]
    across = min(PANELS_A_ROW, len(space))
    rows = math.ceil(len(space) / across)
    figure = new_figure(2.4 * rows + 0.9)
    panels = figure.subplots(rows, across, sharey=True, squeeze=False)
    for panel in panels.flat[len(space) :]:
        panel.set_visible(False)
    for panel, dimension in zip(panels.flat, space, strict=False):
        _draw_slice(panel, summary, dimension)
    for row in panels:
        row[0].set_ylabel(_score_label(summary))
    _legend(figure, panels[0, 0], bool(_pruned(summary)), labelled=False)
    figure.suptitle(_title(summary))
    return figure


def _draw_slice(panel: Axes, summary: Mapping[str, Any], dimension: Mapping[str, Any]) -> None:
    key = dimension["key"]
    best = ranked_trials(summary)[0]["value"]
    choices: list[Any] = []
    if dimension["scale"] == "choice":
        choices = list(
            dict.fromkeys(
                value_text(trial["values"][key])
                for trial in sorted(summary["trials"], key=lambda trial: _rank(trial, key))
                if key in trial["values"]
            )
        )

    def place(trial: Mapping[str, Any]) -> Any:
        value = trial["values"][key]
        return choices.index(value_text(value)) if choices else value

    pruned = [trial for trial in _pruned(summary) if key in trial["values"]]
    complete = [trial for trial in summary["trials"] if trial["state"] == "complete"]
    panel.plot([place(t) for t in pruned], [t["last_score"] for t in pruned], **PRUNED)
    panel.plot([place(t) for t in complete], [t["value"] for t in complete], **COMPLETE)
    _draw_marked(panel, summary, place)
    panel.set_xlabel(clean(key) + (", log scale" if dimension["scale"] == "log" else ""))
    if choices:
        short = [text[:LONGEST_TICK] for text in choices]
        panel.set_xticks(range(len(choices)), short if len(set(short)) == len(short) else choices)
        panel.set_xlim(-0.5, len(choices) - 0.5)
    elif dimension["scale"] == "log":
        panel.set_xscale("log")
        # The default writes powers as mathematics.
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
    _finish(panel, summary)
    if not choices:
        # The whole range, also where nothing was drawn.
        panel.update_datalim([(dimension["low"], best), (dimension["high"], best)])
        panel.autoscale_view()


def _rank(trial: Mapping[str, Any], key: str) -> tuple[bool, Any]:
    """Order numbers by size and what is no number by its text."""
    value = trial["values"].get(key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (False, value) if is_number else (True, value_text(value))


def _draw_marked(panel: Axes, summary: Mapping[str, Any], place: Any) -> None:
    """Mark the model's own values and the best trial."""
    for trial in summary["trials"]:
        if trial["own"] and trial["state"] == "complete":
            panel.plot(place(trial), trial["value"], **OWN, zorder=3)
    best = ranked_trials(summary)[0]
    panel.plot(place(best), best["value"], **BEST, zorder=4)


def _pruned(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        trial
        for trial in summary["trials"]
        if trial["state"] == "pruned" and trial["last_score"] is not None
    ]


def _score_label(summary: Mapping[str, Any]) -> str:
    metric = summary["valid_metric"]
    better = "\n(smaller is better)" if is_smaller_better(metric) else ""
    return f"{metric_name(metric)} on validation{better}"


def _finish(panel: Axes, summary: Mapping[str, Any]) -> None:
    panel.grid(axis="both")
    panel.margins(x=0.05, y=0.1)
    panel.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def _legend(figure: Figure, panel: Axes, pruned: bool, labelled: bool = True) -> None:
    looks: Sequence[tuple[dict[str, Any], str]] = (
        *(() if labelled else ((COMPLETE, "complete trial"),)),
        *(() if labelled or not pruned else ((PRUNED, "pruned, its last score"),)),
        (OWN, "own values of the model"),
        (BEST, "best trial"),
    )
    for look, label in looks:
        panel.plot([], [], label=label, **look)
    handles, labels = panel.get_legend_handles_labels()
    kept = [
        (handle, label)
        for handle, label in zip(handles, labels, strict=True)
        if pruned or not label.startswith("pruned")
    ]
    figure.legend(*zip(*kept, strict=True), loc="outside lower center", ncols=5)


def _title(summary: Mapping[str, Any]) -> str:
    return (
        f"Search for hyper-parameters of {clean(summary['model'])} on {clean(summary['dataset'])}"
    )
