"""What a comparison of models over seeds says, as tables that text, LaTeX and HTML share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recbole_margo.report.evaluated_parts import EvaluatedParts
from recbole_margo.report.table import DAGGER, NOTHING, Cell, Table, clean, table_text
from recbole_margo.studies.comparison.report_summary import (
    ALPHA,
    failure_lines,
    finished_seeds,
    has_results,
    is_significant,
    is_smaller_better,
    metric_name,
    number,
    p_value,
    selection_metric,
    shown_settings,
    slice_size,
    slices_by_kind,
    tested_users,
)

SMALLER = "↓"


def comparison_text(summary: Mapping[str, Any], style: str = "simple", bold: str = "**{}**") -> str:
    """Return the table of a comparison for a terminal, with its legend and the failures.

    Args:
        summary: the comparison, see docs/compare.md.
        style: a table format of `tabulate`.
        bold: how the best mean of a column is marked, with `{}` for it.
    """
    table = results_table(summary)
    return "\n".join([table_text(table, style, bold), "", *table.notes, *failure_lines(summary)])


def results_table(summary: Mapping[str, Any]) -> Table:
    """Return one row per model: mean and deviation of each metric, time and memory.

    Args:
        summary: the comparison.
    """
    metrics, models = list(summary["metrics"]), list(summary["models"])
    marked = {
        (metric, test["label"])
        for metric, tests in (summary.get("tests") or {}).items()
        for test in tests
        if is_significant(test)
    }
    best = {metric: _best(models, metric) for metric in metrics}
    partial = any(len(finished_seeds(summary, entry)) < len(summary["seeds"]) for entry in models)
    rows = []
    for entry in models:
        cells = [Cell(clean(entry["label"]))]
        for metric in metrics:
            mean = number((entry.get("mean") or {}).get(metric))
            deviation = (entry.get("std") or {}).get(metric)
            text = mean if deviation is None else f"{mean} ± {number(deviation)}"
            there = mean != NOTHING
            significant = there and (metric, entry["label"]) in marked
            cells.append(Cell(text, there and mean == best[metric], significant))
        if partial:
            count = len(finished_seeds(summary, entry))
            failed = entry["status"] == "failed" and count == 0
            cells.append(Cell("failed" if failed else f"{count} of {len(summary['seeds'])}"))
        seconds = entry.get("seconds") or []
        cells.append(Cell(number(sum(seconds) / len(seconds) if seconds else None, ".1f")))
        cells.append(Cell(number(entry.get("peak_memory_mib"), ".0f")))
        rows.append(tuple(cells))
    arrows = {metric: f" {SMALLER}" if is_smaller_better(metric) else "" for metric in metrics}
    names = [metric_name(metric) + arrows[metric] for metric in metrics]
    seeds = ["seeds"] if partial else []
    return Table(
        "Test metrics",
        ("model", *names, *seeds, "seconds / run", "peak MiB"),
        tuple(rows),
        tuple(_result_notes(summary)),
    )


def _best(models: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Return the best mean as it is printed: equal to four decimals is equally good."""
    means = [(entry.get("mean") or {}).get(metric) for entry in models]
    there = [mean for mean in means if mean is not None and math.isfinite(mean)]
    if not there:
        return NOTHING
    return number(min(there) if is_smaller_better(metric) else max(there))


def _result_notes(summary: Mapping[str, Any]) -> Iterator[str]:
    seeds = list(summary["seeds"])
    listed = ", ".join(map(str, seeds))
    if len(seeds) == 1:
        yield f"One seed ({listed}), so there is no deviation over seeds. Best value in bold."
    else:
        yield (
            f"Mean ± sample standard deviation over {len(seeds)} seeds ({listed}). "
            "Best mean in bold."
        )
    if any(len(finished_seeds(summary, entry)) < len(seeds) for entry in summary["models"]):
        yield "Where a seed failed or was not run, over those that finished, see the column seeds."
    if any(is_smaller_better(metric) for metric in summary["metrics"]):
        yield f"{SMALLER}: smaller is better."
    parts = EvaluatedParts.of_summary(summary)
    yield from parts.absences()
    if not parts.test:
        return
    reference = clean(summary["reference"])
    if tested_users(summary):
        yield (
            f"{DAGGER} differs from {reference}: Holm-corrected p < {ALPHA} of the Wilcoxon "
            f"signed-rank test, paired over {tested_users(summary)} users"
            f"{' on values averaged over seeds' if len(seeds) > 1 else ''}."
        )
        return
    with_results = [entry["label"] for entry in summary["models"] if has_results(entry)]
    if len(with_results) < 2:
        yield "No tests: fewer than two models have results."
    elif summary["reference"] not in with_results:
        yield f"No tests: the reference {reference} has no results."
    else:
        yield "No tests: there are no values per user to compare."


def runs_table(summary: Mapping[str, Any]) -> Table:
    """Return one row per model and seed: selection metric on validation and test, epochs, time.

    Args:
        summary: the comparison.
    """
    metric = selection_metric(summary)
    rows = []
    for entry in summary["models"]:
        finished = finished_seeds(summary, entry)
        errors = entry.get("errors") or {}
        for seed in summary["seeds"]:
            name = [Cell(clean(entry["label"])), Cell(str(seed))]
            if seed not in finished:
                state = "failed" if str(seed) in errors else "not run"
                rows.append((*name, *(Cell(text) for text in (state, *[NOTHING] * 3))))
                continue
            place = finished.index(seed)
            values = (entry.get("values") or {}).get(metric)
            texts = (
                number(_at(entry.get("valid"), place)),
                number(_at(values, place)),
                clean(_at(entry.get("best_epochs"), place) or NOTHING),
                number(_at(entry.get("seconds"), place), ".1f"),
            )
            rows.append((*name, *(Cell(text) for text in texts)))
    tested = metric_name(metric) if metric else "metric"
    chosen = summary["valid_metric"]
    headers = ("model", "seed", f"validation {metric_name(chosen) if chosen else 'metric'}")
    return Table(
        "Runs",
        (*headers, f"test {tested}", "best epoch", "seconds"),
        tuple(rows),
        _run_notes(summary),
    )


def _run_notes(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Say which epoch is the result and whether it was tested."""
    parts = EvaluatedParts.of_summary(summary)
    which = "The best epoch on validation" if parts.valid else "The last epoch, without validation,"
    what = "was tested" if parts.test else "is the result; there is no test part"
    return (f"{which} {what}; of a training in stages, each stage's is told.",)


def _at(values: Sequence[Any] | None, place: int) -> Any:
    return values[place] if values and place < len(values) else None


def significance_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Return one table per tested metric: each model against the reference.

    Args:
        summary: the comparison.
    """
    tables = []
    for metric, tests in (summary.get("tests") or {}).items():
        rows = tuple(_significance_row(test) for test in tests)
        title = f"{metric_name(metric)} against {clean(summary['reference'])}"
        if rows:
            tables.append(Table(title, SIGNIFICANCE_HEADERS, rows))
    return tables


def _significance_row(test: Mapping[str, Any]) -> tuple[Cell, ...]:
    return (
        Cell(clean(test["label"])),
        Cell(number(test["users"], ",d")),
        Cell(number(test["difference"], "+.4f"), significant=is_significant(test)),
        Cell(f"[{number(test['low'], '+.4f')}, {number(test['high'], '+.4f')}]"),
        Cell(number(test["effect_size"], "+.3f")),
        *(
            Cell(p_value(test[key]))
            for key in ("wilcoxon_p", "wilcoxon_holm", "bootstrap_p", "bootstrap_holm")
        ),
    )


SIGNIFICANCE_HEADERS = (
    "model",
    "users",
    "difference",
    "95 % interval",
    "effect size",
    "Wilcoxon p",
    "Holm",
    "bootstrap p",
    "Holm",
)


def significance_notes(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """Return how to read the tests.

    Args:
        summary: the comparison.
    """
    return (
        f"Difference: model minus {clean(summary['reference'])}, mean over users; each user's "
        "values were first averaged over the seeds that both finished. Interval and bootstrap p: "
        "bootstrap over users. Effect size: mean difference / standard deviation of the "
        "differences (Cohen's d_z).",
        "p-values are two-sided; the Wilcoxon signed-rank test leaves out users without a "
        "difference. Holm: the p-value to its left, corrected for all comparisons of "
        "this table. "
        f"{DAGGER}: Holm-corrected Wilcoxon p < {ALPHA}.",
        "The tests ask whether other users would tell the same, not whether other seeds would: "
        "look at the deviation over seeds for that.",
    )


def slice_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Return one table per kind of slice: a row per model, a column per slice.

    Args:
        summary: the comparison.
    """
    tables = []
    for (kind, metric), parts in slices_by_kind(summary).items():
        rows = []
        for entry in summary["models"]:
            if not has_results(entry):
                continue
            cells = [Cell(clean(entry["label"]))]
            for part in parts:
                text = number(part["values"].get(entry["label"]))
                best = [value for value in part["values"].values() if value is not None]
                extreme = min if is_smaller_better(metric) else max
                cells.append(Cell(text, bool(best) and text == number(extreme(best))))
            rows.append(tuple(cells))
        names = (f"{clean(part['name'])} ({slice_size(part)})" for part in parts)
        tables.append(Table(f"{metric_name(metric)} by {kind}", ("model", *names), tuple(rows)))
    return tables


SLICE_NOTES = (
    "The metric over the test interactions of the slice alone, mean over the users who have any "
    "in it, and over seeds. Best in bold; differences within slices were not tested.",
)


def settings_table(summary: Mapping[str, Any]) -> Table:
    """Return one row per model: what it is and which settings it was given.

    Args:
        summary: the comparison.
    """
    rows = []
    for entry in summary["models"]:
        settings = shown_settings(entry.get("settings") or {})
        texts = (entry["label"], entry["model"], settings or NOTHING)
        rows.append(tuple(Cell(clean(text)) for text in texts))
    return Table("Settings", ("model", "class", "settings of its own"), tuple(rows))
