"""What a search for hyper-parameters says, as tables that text, Markdown and HTML share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from recbole_margo.report.table import Cell, Table, clean, table_text
from recbole_margo.studies.wording import (
    EvaluatedParts,
    metric_name,
    number,
    protocol_text,
    shown_settings,
)

BEST_SHOWN = 10


def value_text(value: Any) -> str:
    """Return a value of a hyper-parameter as tables show it: four digits of a number.

    Args:
        value: the value.
    """
    if isinstance(value, float):
        return f"{value:.4g}"
    return clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def ranked_trials(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the complete trials, the best first, and of equals the earlier.

    Args:
        summary: the search.
    """
    sign = -1 if summary["bigger_is_better"] else 1
    complete = [trial for trial in summary["trials"] if trial["state"] == "complete"]
    return sorted(complete, key=lambda trial: (sign * trial["value"], trial["number"]))


def tuning_text(summary: Mapping[str, Any], style: str = "simple", bold: str = "**{}**") -> str:
    """Return the tables of a search for a terminal.

    Args:
        summary: the search, see docs/tune.md.
        style: a table format of `tabulate`.
        bold: how the best of a column is marked, with `{}` for it.
    """
    lines = []
    for table in (best_table(summary), importance_table(summary), final_table(summary)):
        if table is not None:
            lines += [table.title, table_text(table, style, bold), *table.notes, ""]
    return "\n".join([*lines, count_text(summary), *tuning_failures(summary)])


def count_text(summary: Mapping[str, Any]) -> str:
    """Return how the trials ended.

    Args:
        summary: the search.
    """
    states = [trial["state"] for trial in summary["trials"]]
    counts = (f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed"))
    return f"{len(states)} of {summary['planned_trials']} trials: {', '.join(counts)}."


def best_table(summary: Mapping[str, Any]) -> Table:
    """Return the best complete trials.

    Args:
        summary: the search.
    """
    ranked = ranked_trials(summary)
    shown = ranked[:BEST_SHOWN]
    shown += [trial for trial in ranked[BEST_SHOWN:] if trial["own"]]
    notes = [
        "Validation only, best epoch of the last stage; no trial has looked at the test set.",
    ]
    if any(trial["own"] for trial in shown):
        notes.append("(own): the values that the model has without a search.")
    title = f"Best {len(shown)} of {len(ranked)} complete trials"
    return _trials_table(summary, title, shown, tuple(notes))


def all_table(summary: Mapping[str, Any]) -> Table:
    """Return all trials in their order.

    Args:
        summary: the search.
    """
    notes = (
        "A pruned trial was ended early because, after as many epochs of the same stage, at least "
        "half of the complete trials were better than it had ever been. Its score is of the last "
        "epoch it had.",
    )
    return _trials_table(summary, "All trials", summary["trials"], notes)


def _trials_table(
    summary: Mapping[str, Any], title: str, trials: list[Mapping[str, Any]], notes: tuple[str, ...]
) -> Table:
    keys = [dimension["key"] for dimension in summary["space"]]
    rows = []
    for trial in trials:
        name = f"{trial['number']} (own)" if trial["own"] else str(trial["number"])
        score = number(trial["value"])
        if trial["state"] != "complete":
            score = trial["state"]
            score += "" if trial["last_score"] is None else f" at {number(trial['last_score'])}"
        values = (value_text(trial["values"].get(key, "")) for key in keys)
        time = number(trial["seconds"], ".1f")
        cells = [Cell(name), Cell(score, trial["number"] == summary["best"])]
        cells += [Cell(text) for text in (*values, str(trial["validations"]), time)]
        rows.append(tuple(cells))
    metric = metric_name(summary["valid_metric"])
    headers = ("trial", f"validation {metric}", *keys, "validations", "seconds")
    return Table(title, headers, tuple(rows), notes)


def importance_table(summary: Mapping[str, Any]) -> Table | None:
    """Return how much each hyper-parameter matters, None if that cannot be told.

    Args:
        summary: the search.
    """
    if not summary["importances"]:
        return None
    rows = [
        (Cell(clean(key)), Cell(number(share, ".3f")))
        for key, share in summary["importances"].items()
    ]
    complete = len(ranked_trials(summary))
    notes = (
        "Share of the variance of the validation score over the search space that the "
        f"hyper-parameter explains alone (functional ANOVA), estimated from {complete} trials"
        + ("; with so few it is a rough guess." if complete < 30 else "."),
    )
    return Table("Importance", ("hyper-parameter", "importance"), tuple(rows), notes)


def space_table(summary: Mapping[str, Any]) -> Table:
    """Return what was searched, the model's own value and the best one.

    Args:
        summary: the search.
    """
    best = summary["best_values"] or {}
    rows = []
    for dimension in summary["space"]:
        found = value_text(best[dimension["key"]]) if dimension["key"] in best else ""
        texts = (dimension["key"], dimension["text"], value_text(dimension["own"]), found)
        rows.append(tuple(Cell(clean(text)) for text in texts))
    headers = ("hyper-parameter", "searched", "own value", "best trial")
    return Table("Search space", headers, tuple(rows))


def final_table(summary: Mapping[str, Any]) -> Table | None:
    """Return the test metrics of the best values, None before they were tested.

    Args:
        summary: the search.
    """
    final = summary["final"]
    if final is None:
        return None
    metric = metric_name(summary["valid_metric"])
    shown = [(f"validation {metric}", final["valid_mean"], final["valid_std"])]
    shown += [
        (f"test {metric_name(key)}", final["mean"][key], final["std"][key])
        for key in final["metrics"]
    ]
    rows = []
    for name, mean, deviation in shown:
        text = number(mean) if deviation is None else f"{number(mean)} ± {number(deviation)}"
        rows.append((Cell(name), Cell(text)))
    seeds = final["seeds"]
    listed = ", ".join(map(str, seeds))
    over = f"One training (seed {listed})"
    if len(seeds) > 1:
        over = f"Mean ± sample standard deviation over {len(seeds)} trainings (seeds {listed})"
    parts = EvaluatedParts.of_summary(final)
    tested = ", each tested once" if parts.test else ""
    notes = (
        f"{over} with the values of trial {summary['best']}{tested}.",
        *parts.absences(),
        *_selection_note(summary),
    )
    title = f"{'Test' if parts.test else 'Validation'} of the best values"
    return Table(title, ("metric", "value"), tuple(rows), notes)


def _selection_note(summary: Mapping[str, Any]) -> list[str]:
    """Say that the best of many validations is too good to expect again."""
    ranked = ranked_trials(summary)
    if len(ranked) < 2:
        return []
    extreme = "largest" if summary["bigger_is_better"] else "smallest"
    return [
        f"Trial {summary['best']} had {number(ranked[0]['value'])} on validation, the {extreme} of "
        f"{len(ranked)}, which flatters; the test metrics took no part in the choice."
    ]


def tuning_failures(summary: Mapping[str, Any]) -> list[str]:
    """Return one line per trial or final training that failed, with the reason.

    Args:
        summary: the search.
    """
    lines = [
        f"Trial {trial['number']} failed: {clean(trial['error'])}"
        for trial in summary["trials"]
        if trial["state"] == "failed"
    ]
    errors = (summary["final"] or {}).get("errors") or {}
    lines += [
        f"The best values failed, seed {seed}: {clean(error)}" for seed, error in errors.items()
    ]
    return lines


def tuning_conditions(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return under which conditions the search came about, as names and values.

    Args:
        summary: the search.
    """
    metric = metric_name(summary["valid_metric"])
    direction = "largest" if summary["bigger_is_better"] else "smallest"
    return [
        ("Model", clean(summary["model"])),
        ("Dataset", clean(summary["dataset"])),
        ("Trials", count_text(summary)),
        ("Seed", str(summary["seed"])),
        ("Evaluation protocol", protocol_text(summary["eval_protocol"])),
        ("Searched for", f"the {direction} {metric} on validation"),
        ("Settings of all", shown_settings(summary["settings"])),
    ]
