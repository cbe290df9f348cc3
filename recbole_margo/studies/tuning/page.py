"""The report of a search: tables, one page, and the trials as CSV."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from recbole_margo.report import (
    Bullets,
    Cell,
    Document,
    Figure,
    Paragraphs,
    Section,
    Table,
    clean,
    csv_text,
    failure_section,
    json_text,
    terminal_text,
    write_document,
)
from recbole_margo.store.plain import as_plain
from recbole_margo.studies.tuning.figures import draw_history, draw_slices, title_of, value_text
from recbole_margo.studies.tuning.result import FinalResult, TrialResult, Tuning
from recbole_margo.studies.wording import metric_name, number, protocol_text, shown_settings

BEST_SHOWN = 10
# With fewer complete trials an importance is a rough guess.
ENOUGH_FOR_IMPORTANCES = 30


def write_tuning_report(folder: Path, found: Tuning) -> list[Path]:
    """Write everything that is shown of a search; what is there already is replaced."""
    texts = {"tuning.json": json_text(as_plain(found)), "tuning.csv": tuning_csv(found)}
    return write_document(folder, "tuning", tuning_document(found), texts)


def tuning_text(found: Tuning, bold: str = "**{}**") -> str:
    """Return the tables of a search for a terminal, with how the trials ended.

    Args:
        bold: how the best of a column is marked, with `{}` for it.
    """
    importances = [part for part in _importance(found) if isinstance(part, Table)]
    tables = (_best_table(found), *importances, *_final(found))
    ends = Bullets((_counts(found), *_failures(found)))
    return terminal_text([Section(None, tables), Section(None, (ends,))], bold=bold)


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
        title_of(found),
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
            Section(None, (*_importance(found), _all_table(found))),
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
    rows = []
    for trial in trials:
        score = number(trial.value)
        if trial.state != "complete":
            score = trial.state
            score += "" if trial.last_score is None else f" at {number(trial.last_score)}"
        texts = [value_text(trial.values.get(key, "")) for key in keys]
        texts += [str(trial.validations), number(trial.seconds, ".1f")]
        name = Cell(f"{trial.number} (own)" if trial.own else str(trial.number))
        rows.append((name, Cell(score, trial.number == found.best), *map(Cell, texts)))
    metric = f"validation {metric_name(found.valid_metric)}"
    headers = ("trial", metric, *keys, "validations", "seconds")
    return Table(title, headers, tuple(rows), tuple(notes))


def _space_table(found: Tuning) -> Table:
    best = found.best_values or {}
    rows = []
    for searched in found.space:
        value = value_text(best[searched.key]) if searched.key in best else ""
        texts = (searched.key, searched.text, value_text(searched.own), value)
        rows.append(tuple(Cell(clean(text)) for text in texts))
    headers = ("hyper-parameter", "searched", "own value", "best trial")
    return Table("Search space", headers, tuple(rows), texts=headers)


def _importance(found: Tuning) -> tuple[Table | Paragraphs, ...]:
    """Return how much each hyper-parameter matters, or the sentence why that cannot be told."""
    if found.importances is None:
        return (Paragraphs((f"No importances: {clean(found.importances_note)}.",)),)
    rows = [
        (Cell(clean(key)), Cell(number(share, ".3f"))) for key, share in found.importances.items()
    ]
    complete = len(found.ranked())
    rough = "; with so few it is a rough guess." if complete < ENOUGH_FOR_IMPORTANCES else "."
    note = (
        "Share of the variance of the validation score over the search space that the "
        f"hyper-parameter explains alone (functional ANOVA), estimated from {complete} trials"
    )
    return (Table("Importance", ("hyper-parameter", "importance"), tuple(rows), (note + rough,)),)


def _final(found: Tuning) -> tuple[Table, ...]:
    return () if found.final is None else (_final_table(found, found.final),)


def _final_table(found: Tuning, final: FinalResult) -> Table:
    metric = metric_name(found.valid_metric)
    shown = [(f"validation {metric}", final.valid_mean, final.valid_std)]
    shown += [
        (f"test {metric_name(key)}", final.mean[key], final.std[key]) for key in final.metrics
    ]
    rows = []
    for name, mean, deviation in shown:
        text = number(mean) if deviation is None else f"{number(mean)} ± {number(deviation)}"
        rows.append((Cell(name), Cell(text)))
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
    return Table(title, ("metric", "value"), tuple(rows), tuple(notes))


def _failures(found: Tuning) -> list[str]:
    lines = [
        f"Trial {trial.number} failed: {clean(trial.error)}"
        for trial in found.trials
        if trial.state == "failed"
    ]
    errors = {} if found.final is None else found.final.errors
    lines += [
        f"The best values failed, seed {seed}: {clean(error)}" for seed, error in errors.items()
    ]
    return lines
