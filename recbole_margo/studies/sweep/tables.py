"""What a sweep over hyper-parameters says, as tables that text, Markdown and HTML share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from recbole_margo.report.evaluated_parts import EvaluatedParts
from recbole_margo.report.table import NOTHING, Cell, Table, clean, table_text
from recbole_margo.studies.comparison.report_summary import (
    how_evaluated,
    is_smaller_better,
    metric_name,
    number,
    shown_settings,
)

OWN_MARK = "(own)"


def mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the mean and the sample standard deviation, each none where there is none.

    Args:
        values: one value a seed.
    """
    if not values:
        return None, None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return statistics.fmean(values), deviation


def values_of(point: Mapping[str, Any], on: str, metric: str) -> list[float]:
    """Return the values of a point of a curve, one for each seed that finished.

    Args:
        point: a point of the sweep.
        on: `valid`, where only the metric of selection is known, or `test`.
        metric: a metric as RecBole's results name it.
    """
    values = point["valid"] if on == "valid" else point["test"].get(metric, [])
    return [value for value in values if value is not None]


def sweep_text(swept: Mapping[str, Any], style: str = "simple", bold: str = "**{}**") -> str:
    """Return the tables of a sweep for a terminal, with their legend and the failures.

    Args:
        swept: the sweep, see docs/sweep.md.
        style: a table format of `tabulate`.
        bold: how the best of a column is marked, with `{}` for it.
    """
    lines = []
    for table in sweep_tables(swept):
        lines += [table.title, table_text(table, style, bold), ""]
    return "\n".join([*lines, *sweep_notes(swept), *sweep_failures(swept)])


def sweep_tables(swept: Mapping[str, Any]) -> list[Table]:
    """Return one table per hyper-parameter: a row per value.

    Args:
        swept: the sweep.
    """
    return [_table(swept, curve) for curve in swept["hyperparameters"]]


def _table(swept: Mapping[str, Any], curve: Mapping[str, Any]) -> Table:
    chosen = str(swept["valid_metric"] or "metric").lower()
    columns = [("valid", chosen), *(("test", metric) for metric in swept["metrics"])]
    best = _best_on_validation(curve, chosen)
    partial = any(point["errors"] for point in curve["points"])
    rows = []
    for point in curve["points"]:
        mark = f" {OWN_MARK}" if point["own"] else ""
        cells = [Cell(clean(point["text"]) + mark)]
        for on, metric in columns:
            mean, deviation = mean_and_deviation(values_of(point, on, metric))
            text = number(mean)
            text += "" if deviation is None else f" ± {number(deviation)}"
            cells.append(Cell(text, on == "valid" and mean is not None and number(mean) == best))
        if partial:
            cells.append(Cell(f"{len(point['seeds'])} of {len(swept['seeds'])}"))
        rows.append(tuple(cells))
    names = [f"{'validation' if on == 'valid' else on} {metric_name(m)}" for on, m in columns]
    title = str(curve["name"])
    if curve["meaning"]:
        title += f": {curve['meaning']}"
    headers = (str(curve["name"]), *names, *(["seeds"] if partial else []))
    return Table(clean(title), headers, tuple(rows))


def _best_on_validation(curve: Mapping[str, Any], metric: str) -> str:
    means = [mean_and_deviation(values_of(point, "valid", metric))[0] for point in curve["points"]]
    there = [mean for mean in means if mean is not None and math.isfinite(mean)]
    if not there:
        return NOTHING
    return number(min(there) if is_smaller_better(metric) else max(there))


def sweep_notes(swept: Mapping[str, Any]) -> list[str]:
    """Return how to read the tables.

    Args:
        swept: the sweep.
    """
    seeds = ", ".join(map(str, swept["seeds"]))
    if len(swept["seeds"]) == 1:
        over_seeds = f"One seed ({seeds}), so there is no deviation over seeds."
    else:
        over_seeds = f"Mean ± sample standard deviation over {len(swept['seeds'])} seeds ({seeds})."
    return [
        over_seeds,
        f"{OWN_MARK}: the value that the model has in the other curves; it was trained once and "
        "belongs to all of them.",
        *EvaluatedParts.of_summary(swept).absences(),
        *(BOLD_NOTES if EvaluatedParts.of_summary(swept).valid else ()),
    ]


BOLD_NOTES = (
    "Best mean on validation in bold. Choose a value by validation: a value chosen by its test "
    "metric makes that metric too good.",
)


def sweep_failures(swept: Mapping[str, Any]) -> list[str]:
    """Return one line per run that failed, with the reason.

    Args:
        swept: the sweep.
    """
    lines = {
        (point["label"], seed): f"{clean(point['label'])} failed, seed {seed}: {clean(error)}"
        for curve in swept["hyperparameters"]
        for point in curve["points"]
        for seed, error in point["errors"].items()
    }
    return list(lines.values())


def sweep_conditions(swept: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return under which conditions the sweep came about, as names and values.

    Args:
        swept: the sweep.
    """
    found = [("Model", clean(swept["model"])), ("Dataset", clean(swept["dataset"]))]
    if swept["split"]:
        found.append(("Split", clean(swept["split"])))
    found.append(("Seeds", ", ".join(map(str, swept["seeds"]))))
    found += how_evaluated(swept)
    shared = shown_settings(swept["settings"])
    return [*found, ("Settings of all", shared)] if shared else found
