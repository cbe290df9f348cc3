"""The figures of a search: its course, and the score against each hyper-parameter."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from recbole_margo.report.document import clean
from recbole_margo.report.figures import COLORS, legend_below, panel_grid
from recbole_margo.studies.tuning.result import SearchedKey, TrialResult, Tuning
from recbole_margo.studies.wording import is_smaller_better, metric_name

PANELS_A_ROW = 3
LONGEST_TICK = 12
COMPLETE: dict[str, Any] = {"marker": "o", "color": COLORS[0], "linestyle": "", "markersize": 5}
PRUNED: dict[str, Any] = {"marker": "x", "color": "0.45", "linestyle": "", "markersize": 5}
BEST: dict[str, Any] = {"marker": "*", "color": COLORS[1], "linestyle": "", "markersize": 13}
OWN: dict[str, Any] = {"marker": "D", "color": COLORS[2], "linestyle": "", "markersize": 6.5}

Place = Callable[[TrialResult], Any]


def title_of(found: Tuning) -> str:
    """Return the title of a search."""
    return f"Search for hyper-parameters of {clean(found.model)} on {clean(found.dataset)}"


def value_text(value: Any) -> str:
    """Return a value of a hyper-parameter as it is shown: four digits of a number."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def draw_history(found: Tuning) -> Figure | None:
    """Draw the score of each trial and the best so far; None if no trial is complete."""
    complete = [(trial.number, trial.value) for trial in found.trials if trial.value is not None]
    if not complete:
        return None
    figure, (panel,) = panel_grid(1, 1, 3.4, 0.0)
    best_of = np.maximum if found.bigger_is_better else np.minimum
    so_far = best_of.accumulate([value for _, value in complete])
    panel.step(
        [*(number for number, _ in complete), found.trials[-1].number],
        [*so_far, so_far[-1]],
        where="post",
        color=COLORS[1],
        linewidth=1.5,
        label="best so far",
    )
    _draw_trials(panel, found, found.trials, lambda trial: trial.number)
    panel.set(xlabel="trial", ylabel=_score_label(found))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(figure, [panel], found)
    return figure


def draw_slices(found: Tuning) -> Figure | None:
    """Draw the score of each trial against its value, a panel per hyper-parameter.

    Returns:
        The figure, None if no trial is complete.
    """
    if not found.ranked():
        return None
    count = len(found.space)
    figure, panels = panel_grid(count, PANELS_A_ROW, 2.4, 0.9, sharey=True)
    for panel, searched in zip(panels, found.space, strict=True):
        _draw_slice(panel, found, searched)
    for panel in panels[::PANELS_A_ROW]:
        panel.set_ylabel(_score_label(found))
    _finish(figure, panels, found)
    for panel, searched in zip(panels, found.space, strict=True):
        if searched.low is not None and searched.high is not None:
            # The whole range, also where nothing was drawn.
            best = found.ranked()[0][0]
            panel.update_datalim([(searched.low, best), (searched.high, best)])
            panel.autoscale_view()
    return figure


def _draw_slice(panel: Axes, found: Tuning, searched: SearchedKey) -> None:
    key = searched.key
    trials = [trial for trial in found.trials if key in trial.values]
    panel.set_xlabel(clean(key) + (", log scale" if searched.scale == "log" else ""))
    if searched.scale != "choice":
        _draw_trials(panel, found, trials, lambda trial: trial.values[key])
        if searched.scale == "log":
            panel.set_xscale("log")
            # The default writes powers as mathematics.
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.xaxis.set_minor_formatter(NullFormatter())
        return
    values = sorted((trial.values[key] for trial in trials), key=_by_size)
    choices = list(dict.fromkeys(map(value_text, values)))
    _draw_trials(panel, found, trials, lambda trial: choices.index(value_text(trial.values[key])))
    short = [text[:LONGEST_TICK] for text in choices]
    panel.set_xticks(range(len(choices)), short if len(set(short)) == len(short) else choices)
    panel.set_xlim(-0.5, len(choices) - 0.5)


def _by_size(value: Any) -> tuple[bool, Any]:
    """Order numbers by size and after them what is no number by its text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (False, value) if is_number else (True, value_text(value))


def _draw_trials(panel: Axes, found: Tuning, trials: Any, place: Place) -> None:
    best = found.ranked()[0][1]
    complete = [(place(each), each.value) for each in trials if each.state == "complete"]
    pruned = [
        (place(each), each.last_score)
        for each in trials
        if each.state == "pruned" and each.last_score is not None
    ]
    own = [(place(each), each.value) for each in trials if each.own and each.state == "complete"]
    looks = (
        (pruned, PRUNED, "pruned, its last score"),
        (complete, COMPLETE, "complete trial"),
        (own, {**OWN, "zorder": 3}, "own values of the model"),
        ([(place(best), best.value)], {**BEST, "zorder": 4}, "best trial"),
    )
    for points, style, label in looks:
        if points:
            panel.plot(*zip(*points, strict=True), **style, label=label)


def _score_label(found: Tuning) -> str:
    better = "\n(smaller is better)" if is_smaller_better(found.valid_metric) else ""
    return f"{metric_name(found.valid_metric)} on validation{better}"


def _finish(figure: Figure, panels: list[Axes], found: Tuning) -> None:
    for panel in panels:
        panel.grid(axis="both")
        panel.margins(x=0.05, y=0.1)
        panel.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    legend_below(figure, 5)
    figure.suptitle(title_of(found))
