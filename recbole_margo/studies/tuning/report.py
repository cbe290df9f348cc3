"""The report of a search: tables, figures, one page, and the trials as CSV."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from recbole_margo.report import (
    Bullets,
    Cell,
    Columns,
    Document,
    Figure,
    Paragraphs,
    Section,
    Table,
    cells,
    clean,
    csv_text,
    failure_section,
    json_text,
)
from recbole_margo.report.figures import COLORS, legend_below, panel_grid
from recbole_margo.store.plain import as_plain
from recbole_margo.studies.runs.study import StudyReport
from recbole_margo.studies.tuning.result import FinalResult, SearchedKey, TrialResult, Tuning
from recbole_margo.studies.wording import (
    axis_name,
    failed_line,
    metric_name,
    number,
    protocol_text,
    shown_settings,
    spread,
)

BEST = "best.yaml"
BEST_SHOWN = 10
PANELS_A_ROW = 3
LONGEST_TICK = 12
COMPLETE: dict[str, Any] = {"marker": "o", "color": COLORS[0], "markersize": 5}
PRUNED: dict[str, Any] = {"marker": "x", "color": "0.45", "markersize": 5}
WINNER: dict[str, Any] = {"marker": "*", "color": COLORS[1], "markersize": 13, "zorder": 4}
OWN: dict[str, Any] = {"marker": "D", "color": COLORS[2], "markersize": 6.5, "zorder": 3}
# With fewer complete trials an importance is a rough guess.
ENOUGH_FOR_IMPORTANCES = 30

Place = Callable[[TrialResult], Any]


def tuning_report(found: Tuning) -> StudyReport:
    """Return everything that is shown of a search; a terminal gets how the trials ended too."""
    importance = _importance(found)
    told = (importance,) if isinstance(importance, Table) else ()
    ends = Bullets((_counts(found), *_failures(found)))
    return StudyReport(
        "tuning",
        tuning_document(found),
        {"tuning.json": json_text(as_plain(found)), "tuning.csv": tuning_csv(found)},
        (Section(None, (_best_table(found), *told, *_final(found), ends)),),
        failed=found.final is not None and bool(found.final.errors),
        after=f"Train with it: recbole-margo train --model={found.model} "
        f"--dataset={found.dataset} --config_files={Path('{}') / BEST}\n",
    )


def tuning_document(found: Tuning) -> Document:
    """Return the report of a search."""
    metric = metric_name(found.valid_metric)
    course = (
        Figure(
            "history",
            f"Validation {metric} of each trial in their order and the best so far. The tables "
            "hold the numbers.",
            partial(draw_history, found),
        ),
        Figure(
            "slices",
            f"Validation {metric} of each trial against its value, a panel per hyper-parameter. "
            "The tables hold the numbers.",
            partial(draw_slices, found),
        ),
    )
    direction = "largest" if found.bigger_is_better else "smallest"
    return Document(
        _title(found),
        (
            ("Model", clean(found.model)),
            ("Dataset", clean(found.dataset)),
            ("Trials", _counts(found)),
            ("Seed", str(found.seed)),
            ("Evaluation protocol", protocol_text(found.eval_protocol)),
            ("Searched for", f"the {direction} {metric} on validation"),
            ("Settings of all", shown_settings(found.settings)),
        ),
        (
            *failure_section(_failures(found)),
            Section(None, (*_final(found), _space_table(found), _best_table(found))),
            Section("Course of the search", course),
            Section(None, (_importance(found), _all_table(found))),
        ),
    )


def tuning_csv(found: Tuning) -> str:
    """Return one row per trial, unrounded."""
    keys = [searched.key for searched in found.space]
    columns = ("number", "state", "value", "last_score", "validations", "seconds")
    rows = (
        [
            *(getattr(trial, column) for column in columns),
            *(_csv_value(trial.values.get(key)) for key in keys),
            clean(trial.error or ""),
        ]
        for trial in found.trials
    )
    return csv_text([*columns, *(f"parameter {clean(key)}" for key in keys), "error"], rows)


def _csv_value(value: Any) -> Any:
    """Return a number or text as it is, anything else as JSON."""
    is_plain = isinstance(value, int | float | str) and not isinstance(value, bool)
    return value if is_plain else "" if value is None else clean(json.dumps(value))


def _counts(found: Tuning) -> str:
    states = [trial.state for trial in found.trials]
    counts = (f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed"))
    return f"{len(states)} of {found.planned_trials} trials: {', '.join(counts)}."


def _best_table(found: Tuning) -> Table:
    ranked = [trial for _, trial in found.ranked()]
    shown = ranked[:BEST_SHOWN]
    shown += [trial for trial in ranked[BEST_SHOWN:] if trial.own]
    notes = [
        "Validation only, best epoch of the last stage; no trial has looked at the test set.",
    ]
    if any(trial.own for trial in shown):
        notes.append("(own): the values that the model has without a search.")
    return _trials_table(found, f"Best {len(shown)} of {len(ranked)} complete trials", shown, notes)


def _all_table(found: Tuning) -> Table:
    note = (
        "A pruned trial was ended early because, after as many epochs of the same stage, at least "
        "half of the complete trials were better than it had ever been. Its score is of the last "
        "epoch it had."
    )
    return _trials_table(found, "All trials", found.trials, [note])


def _trials_table(
    found: Tuning, title: str, trials: Sequence[TrialResult], notes: Sequence[str]
) -> Table:
    keys = [searched.key for searched in found.space]

    def score(trial: TrialResult) -> Cell:
        text = number(trial.value)
        if trial.state != "complete":
            last = "" if trial.last_score is None else f" at {number(trial.last_score)}"
            text = trial.state + last
        return Cell(text, trial.number == found.best)

    rows = tuple(
        cells(
            f"{trial.number} (own)" if trial.own else trial.number,
            score(trial),
            *(_text(trial.values.get(key, "")) for key in keys),
            trial.validations,
            number(trial.seconds, ".1f"),
        )
        for trial in trials
    )
    metric = f"validation {metric_name(found.valid_metric)}"
    return Table(title, ("trial", metric, *keys, "validations", "seconds"), rows, tuple(notes))


def _space_table(found: Tuning) -> Table:
    best = {key: _text(value) for key, value in (found.best_values or {}).items()}
    columns: Columns[SearchedKey] = {
        "hyper-parameter": lambda one: clean(one.key),
        "searched": lambda one: clean(one.text),
        "own value": lambda one: _text(one.own),
        "best trial": lambda one: best.get(one.key, ""),
    }
    return Table.of("Search space", found.space, columns, texts=tuple(columns))


def _importance(found: Tuning) -> Table | Paragraphs:
    """Return how much each hyper-parameter matters, or the sentence why that cannot be told."""
    if found.importances is None:
        return Paragraphs((f"No importances: {clean(found.importances_note)}.",))
    rows = tuple(
        cells(clean(key), number(share, ".3f")) for key, share in found.importances.items()
    )
    complete = len(found.ranked())
    rough = "; with so few it is a rough guess." if complete < ENOUGH_FOR_IMPORTANCES else "."
    note = (
        "Share of the variance of the validation score over the search space that the "
        f"hyper-parameter explains alone (functional ANOVA), estimated from {complete} trials"
    )
    return Table("Importance", ("hyper-parameter", "importance"), rows, (note + rough,))


def _final(found: Tuning) -> tuple[Table, ...]:
    return () if found.final is None else (_final_table(found, found.final),)


def _final_table(found: Tuning, final: FinalResult) -> Table:
    metric = metric_name(found.valid_metric)
    shown = [(f"validation {metric}", final.valid_mean, final.valid_std)]
    shown += [
        (f"test {metric_name(key)}", final.mean[key], final.std[key]) for key in final.metrics
    ]
    rows = tuple(cells(name, spread(mean, deviation)) for name, mean, deviation in shown)
    listed = ", ".join(map(str, final.seeds))
    over = f"One training (seed {listed})"
    if len(final.seeds) > 1:
        over = (
            f"Mean ± sample standard deviation over {len(final.seeds)} trainings (seeds {listed})"
        )
    tested = ", each tested once" if final.parts.test else ""
    notes = [f"{over} with the values of trial {found.best}{tested}.", *final.parts.absences()]
    ranked = found.ranked()
    if len(ranked) > 1:
        extreme = "largest" if found.bigger_is_better else "smallest"
        notes.append(
            f"Trial {found.best} had {number(ranked[0][0])} on validation, the {extreme} of "
            f"{len(ranked)}, which flatters; the test metrics took no part in the choice."
        )
    title = f"{'Test' if final.parts.test else 'Validation'} of the best values"
    return Table(title, ("metric", "value"), rows, tuple(notes))


def _failures(found: Tuning) -> list[str]:
    lines = [
        f"Trial {trial.number} failed: {clean(trial.error)}"
        for trial in found.trials
        if trial.state == "failed"
    ]
    errors = {} if found.final is None else found.final.errors
    return lines + [failed_line("The best values", *one) for one in errors.items()]


def _title(found: Tuning) -> str:
    return f"Search for hyper-parameters of {clean(found.model)} on {clean(found.dataset)}"


def _text(value: Any) -> str:
    """Return a value of a hyper-parameter as it is shown: four digits of a number."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def draw_history(found: Tuning) -> Drawing | None:
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


def draw_slices(found: Tuning) -> Drawing | None:
    """Draw the score of each trial against its value, a panel each; None if none is complete."""
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
    choices = list(dict.fromkeys(map(_text, values)))
    _draw_trials(panel, found, trials, lambda trial: choices.index(_text(trial.values[key])))
    short = [text[:LONGEST_TICK] for text in choices]
    panel.set_xticks(range(len(choices)), short if len(set(short)) == len(short) else choices)
    panel.set_xlim(-0.5, len(choices) - 0.5)


def _by_size(value: Any) -> tuple[bool, Any]:
    """Order numbers by size and after them what is no number by its text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (False, value) if is_number else (True, _text(value))


def _draw_trials(panel: Axes, found: Tuning, trials: Sequence[TrialResult], place: Place) -> None:
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
        (own, OWN, "own values of the model"),
        ([(place(best), best.value)], WINNER, "best trial"),
    )
    for points, style, label in looks:
        if points:
            panel.plot(*zip(*points, strict=True), linestyle="", **style, label=label)


def _score_label(found: Tuning) -> str:
    return axis_name(found.valid_metric, "validation").replace(" (", "\n(")


def _finish(figure: Drawing, panels: list[Axes], found: Tuning) -> None:
    for panel in panels:
        panel.grid(axis="both")
        panel.margins(x=0.05, y=0.1)
        panel.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    legend_below(figure, 5)
    figure.suptitle(_title(found))
