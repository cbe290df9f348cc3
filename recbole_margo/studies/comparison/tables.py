"""The tables of a comparison, which text, LaTeX and pages share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from recbole_margo.report import NOTHING, Cell, Table, clean
from recbole_margo.report.document import DAGGER
from recbole_margo.studies.comparison.result import ALPHA, ComparedModel, Comparison, UserTest
from recbole_margo.studies.wording import (
    is_smaller_better,
    metric_name,
    number,
    p_value,
    shown_settings,
)

SMALLER = "↓"


def results_table(compared: Comparison) -> Table:
    """Return one row per model: mean and deviation of each metric, time and memory."""
    metrics, models = compared.metrics, compared.models
    marked = {
        (metric, test.label)
        for metric, tests in compared.tests.items()
        for test in tests
        if test.is_significant
    }
    best = {metric: _best(models, metric) for metric in metrics}
    partial = any(len(compared.finished_seeds(entry)) < len(compared.seeds) for entry in models)
    rows = []
    for entry in models:
        cells = [Cell(clean(entry.label))]
        for metric in metrics:
            mean = number(entry.mean.get(metric))
            deviation = entry.std.get(metric)
            text = mean if deviation is None else f"{mean} ± {number(deviation)}"
            there = mean != NOTHING
            significant = there and (metric, entry.label) in marked
            cells.append(Cell(text, there and mean == best[metric], significant))
        if partial:
            count = len(compared.finished_seeds(entry))
            failed = entry.status == "failed" and count == 0
            cells.append(Cell("failed" if failed else f"{count} of {len(compared.seeds)}"))
        known = [seconds for seconds in entry.seconds if seconds is not None]
        seconds = statistics.fmean(known) if known else None
        cells.append(Cell(number(seconds, ".1f")))
        cells.append(Cell(number(entry.peak_memory_mib, ".0f")))
        rows.append(tuple(cells))
    arrows = {metric: f" {SMALLER}" if is_smaller_better(metric) else "" for metric in metrics}
    names = [metric_name(metric) + arrows[metric] for metric in metrics]
    seeds = ["seeds"] if partial else []
    return Table(
        "Test metrics",
        ("model", *names, *seeds, "seconds / run", "peak MiB"),
        tuple(rows),
        tuple(_result_notes(compared)),
    )


def _best(models: Sequence[ComparedModel], metric: str) -> str:
    """Return the best mean as it is printed: equal to four decimals is equally good."""
    means = [entry.mean.get(metric) for entry in models]
    there = [mean for mean in means if mean is not None and math.isfinite(mean)]
    if not there:
        return NOTHING
    return number(min(there) if is_smaller_better(metric) else max(there))


def _result_notes(compared: Comparison) -> Iterator[str]:
    seeds = compared.seeds
    listed = ", ".join(map(str, seeds))
    if len(seeds) == 1:
        yield f"One seed ({listed}), so there is no deviation over seeds. Best value in bold."
    else:
        yield (
            f"Mean ± sample standard deviation over {len(seeds)} seeds ({listed}). "
            "Best mean in bold."
        )
    if any(len(compared.finished_seeds(entry)) < len(seeds) for entry in compared.models):
        yield "Where a seed failed or was not run, over those that finished, see the column seeds."
    if any(is_smaller_better(metric) for metric in compared.metrics):
        yield f"{SMALLER}: smaller is better."
    parts = compared.parts
    yield from parts.absences()
    if not parts.test:
        return
    reference = clean(compared.reference)
    if compared.tested_users:
        yield (
            f"{DAGGER} differs from {reference}: Holm-corrected p < {ALPHA} of the Wilcoxon "
            f"signed-rank test, paired over {compared.tested_users} users"
            f"{' on values averaged over seeds' if len(seeds) > 1 else ''}."
        )
        return
    with_results = [entry.label for entry in compared.models if entry.has_results]
    if len(with_results) < 2:
        yield "No tests: fewer than two models have results."
    elif compared.reference not in with_results:
        yield f"No tests: the reference {reference} has no results."
    else:
        yield "No tests: there are no values per user to compare."


def runs_table(compared: Comparison) -> Table:
    """Return one row per model and seed: selection metric on validation and test, epochs, time."""
    metric = compared.selection_metric
    rows = []
    for entry in compared.models:
        finished = compared.finished_seeds(entry)
        errors = entry.errors
        for seed in compared.seeds:
            name = [Cell(clean(entry.label)), Cell(str(seed))]
            if seed not in finished:
                state = "failed" if str(seed) in errors else "not run"
                rows.append((*name, *(Cell(text) for text in (state, *[NOTHING] * 3))))
                continue
            place = finished.index(seed)
            values = entry.values.get(metric or "", ())
            texts = (
                number(_at(entry.valid, place)),
                number(_at(values, place)),
                clean(_at(entry.best_epochs, place) or NOTHING),
                number(_at(entry.seconds, place), ".1f"),
            )
            rows.append((*name, *(Cell(text) for text in texts)))
    tested = metric_name(metric) if metric else "metric"
    chosen = compared.valid_metric
    headers = ("model", "seed", f"validation {metric_name(chosen) if chosen else 'metric'}")
    return Table(
        "Runs",
        (*headers, f"test {tested}", "best epoch", "seconds"),
        tuple(rows),
        _run_notes(compared),
    )


def _run_notes(compared: Comparison) -> tuple[str, ...]:
    parts = compared.parts
    which = "The best epoch on validation" if parts.valid else "The last epoch, without validation,"
    what = "was tested" if parts.test else "is the result; there is no test part"
    return (f"{which} {what}; of a training in stages, each stage's is told.",)


def _at(values: Sequence[Any], place: int) -> Any:
    return values[place] if place < len(values) else None


def significance_tables(compared: Comparison) -> list[Table]:
    """Return one table per tested metric: each model against the reference."""
    tables = []
    for metric, tests in compared.tests.items():
        rows = tuple(_significance_row(test) for test in tests)
        title = f"{metric_name(metric)} against {clean(compared.reference)}"
        if rows:
            tables.append(Table(title, SIGNIFICANCE_HEADERS, rows))
    return tables


def _significance_row(test: UserTest) -> tuple[Cell, ...]:
    return (
        Cell(clean(test.label)),
        Cell(number(test.users, ",d")),
        Cell(number(test.difference, "+.4f"), significant=test.is_significant),
        Cell(f"[{number(test.low, '+.4f')}, {number(test.high, '+.4f')}]"),
        Cell(number(test.effect_size, "+.3f")),
        Cell(p_value(test.wilcoxon_p)),
        Cell(p_value(test.wilcoxon_holm)),
        Cell(p_value(test.bootstrap_p)),
        Cell(p_value(test.bootstrap_holm)),
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


def significance_notes(compared: Comparison) -> tuple[str, ...]:
    """Return how to read the tests."""
    return (
        f"Difference: model minus {clean(compared.reference)}, mean over users; each user's "
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


def slice_tables(compared: Comparison) -> list[Table]:
    """Return one table per kind of slice: a row per model, a column per slice."""
    tables = []
    for (kind, metric), parts in compared.slices_by_kind().items():
        rows = []
        for entry in compared.models:
            if not entry.has_results:
                continue
            cells = [Cell(clean(entry.label))]
            for part in parts:
                text = number(part.values.get(entry.label))
                best = [value for value in part.values.values() if value is not None]
                extreme = min if is_smaller_better(metric) else max
                cells.append(Cell(text, bool(best) and text == number(extreme(best))))
            rows.append(tuple(cells))
        names = (f"{clean(part.name)} ({part.size})" for part in parts)
        tables.append(Table(f"{metric_name(metric)} by {kind}", ("model", *names), tuple(rows)))
    return tables


SLICE_NOTES = (
    "The metric over the test interactions of the slice alone, mean over the users who have any "
    "in it, and over seeds. Best in bold; differences within slices were not tested.",
)


def settings_table(compared: Comparison) -> Table:
    """Return one row per model: what it is and which settings it was given."""
    rows = []
    for entry in compared.models:
        settings = shown_settings(entry.settings)
        texts = (entry.label, entry.model, settings or NOTHING)
        rows.append(tuple(Cell(clean(text)) for text in texts))
    headers = ("model", "class", "settings of its own")
    return Table("Settings", headers, tuple(rows), texts=headers)
