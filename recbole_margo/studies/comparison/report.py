"""The report of a comparison: one page, tables, one of them for a paper, and the numbers."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TypeVar

from recbole_margo.report import (
    NOTHING,
    Bullets,
    Cell,
    Columns,
    Document,
    Figure,
    Paragraphs,
    Part,
    Section,
    Table,
    cells,
    clean,
    csv_text,
    failure_section,
    json_text,
    latex_table,
)
from recbole_margo.report.document import DAGGER
from recbole_margo.store.plain import as_plain
from recbole_margo.studies.comparison.cold import cold_tables
from recbole_margo.studies.comparison.figures import (
    differences_figure,
    metrics_figure,
    slices_figure,
)
from recbole_margo.studies.comparison.result import ALPHA, ComparedModel, Comparison, UserTest
from recbole_margo.studies.runs.study import StudyReport
from recbole_margo.studies.wording import (
    best_note,
    best_number,
    is_smaller_better,
    mean_cell,
    metric_name,
    number,
    over_seeds,
    p_value,
    shown_settings,
    value_rows,
)

CSV_COLUMNS = ("label", "model", "status", "on", "metric", "statistic", "seed", "value")
SMALLER = "↓"
SIGNIFICANCE_HEADERS = (
    *("model", "users", "difference", "95 % interval", "effect size"),
    *("Wilcoxon p", "Holm", "bootstrap p", "Holm"),
)
SLICE_NOTES = (
    "The metric over the test interactions of the slice alone, mean over the users who have any "
    "in it, and over seeds. Best in bold; differences within slices were not tested.",
)

Value = TypeVar("Value")


def comparison_report(compared: Comparison) -> StudyReport:
    """Return everything that is shown of a comparison.

    Its files are `summary.json`, `comparison.md`, `.tex` and `.csv`, `report.html` and, as PNG and
    SVG, the figures `metrics`, `differences` and `slices`, each if there is something to draw.

    Raises:
        RecBoleMargoError: if the values do not fit the seeds.
    """
    summary = as_plain(compared)
    if compared.cold is None:  # as it was before there were cold items
        del summary["cold"]
    texts = {
        "summary.json": json_text(summary),
        "comparison.tex": comparison_latex(compared),
        "comparison.csv": csv_text(CSV_COLUMNS, _csv_rows(compared)),
    }
    return StudyReport(
        "comparison",
        comparison_document(compared),
        texts,
        (Section(None, (results_table(compared), Bullets(tuple(compared.failures())))),),
        failed=any(model.errors for model in compared.models),
        page="report.html",
    )


def comparison_document(compared: Comparison) -> Document:
    """Return the report of a comparison."""
    metrics = ", ".join(metric_name(metric) for metric in compared.metrics)
    selected = metric_name(str(compared.selection_metric))
    of_metrics = Figure(
        "metrics",
        f"Dot plot of {metrics}, a row per model. The table above holds the numbers.",
        partial(metrics_figure, compared),
    )
    of_differences = Figure(
        "differences",
        f"Forest plot of each model's difference to {compared.reference} in {selected} with its "
        "interval. The tables below hold the numbers.",
        partial(differences_figure, compared),
    )
    of_slices = Figure(
        "slices",
        "Dot plot of each slice of the test set by model. The tables below hold the numbers.",
        partial(slices_figure, compared),
    )
    # Every figure is named, so that the files of one that is drawn no more are removed.
    tests = _with_notes(_significance_notes(compared), significance_tables(compared))
    slices = _with_notes(SLICE_NOTES, slice_tables(compared))
    return Document(
        f"Comparison on {clean(compared.dataset)}",
        tuple(compared.conditions()),
        (
            *failure_section(compared.failures()),
            Section(None, (results_table(compared), of_metrics)),
            Section("Tests", (*tests[:1], of_differences, *tests[1:])),
            Section("Cold items", tuple(cold_tables(compared.cold))),
            Section("Slices", (*slices[:1], of_slices, *slices[1:])),
            Section(None, (runs_table(compared), settings_table(compared))),
        ),
    )


def _with_notes(notes: tuple[str, ...], tables: list[Table]) -> list[Part]:
    return [Paragraphs(notes), *tables] if tables else []


def results_table(compared: Comparison) -> Table:
    """Return one row per model: mean and deviation of each metric, time and memory."""
    metrics, models = compared.metrics, compared.models
    marked = {
        (metric, test.label)
        for metric, tests in compared.tests.items()
        for test in tests
        if test.is_significant
    }
    best = {m: best_number((entry.mean.get(m) for entry in models), m) for m in metrics}
    count = {entry.label: len(compared.finished_seeds(entry)) for entry in models}
    partial_seeds = any(number < len(compared.seeds) for number in count.values())

    def row(entry: ComparedModel) -> tuple[Cell, ...]:
        means = [
            mean_cell(
                entry.mean.get(metric),
                entry.std.get(metric),
                best[metric],
                marked=(metric, entry.label) in marked,
            )
            for metric in metrics
        ]
        done = count[entry.label]
        failed = entry.status == "failed" and done == 0
        seeds = "failed" if failed else f"{done} of {len(compared.seeds)}"
        known = [seconds for seconds in entry.seconds if seconds is not None]
        return cells(
            clean(entry.label),
            *means,
            *([seeds] if partial_seeds else []),
            number(statistics.fmean(known) if known else None, ".1f"),
            number(entry.peak_memory_mib, ".0f"),
        )

    names = [metric_name(m) + (f" {SMALLER}" if is_smaller_better(m) else "") for m in metrics]
    seeds = ["seeds"] if partial_seeds else []
    headers = ("model", *names, *seeds, "seconds / run", "peak MiB")
    notes = tuple(_result_notes(compared, partial_seeds))
    return Table("Test metrics", headers, tuple(map(row, models)), notes)


def _result_notes(compared: Comparison, partial_seeds: bool) -> Iterator[str]:
    seeds, parts = compared.seeds, compared.parts
    yield f"{over_seeds(seeds)} {best_note(seeds)}"
    if partial_seeds:
        yield "Where a seed failed or was not run, over those that finished, see the column seeds."
    if any(is_smaller_better(metric) for metric in compared.metrics):
        yield f"{SMALLER}: smaller is better."
    yield from parts.absences()
    if not parts.test:
        return
    reference = clean(compared.reference)
    with_results = [entry.label for entry in compared.models if entry.has_results]
    if compared.tested_users:
        yield (
            f"{DAGGER} differs from {reference}: Holm-corrected p < {ALPHA} of the Wilcoxon "
            f"signed-rank test, paired over {compared.tested_users} users"
            f"{' on values averaged over seeds' if len(seeds) > 1 else ''}."
        )
    elif len(with_results) < 2:
        yield "No tests: fewer than two models have results."
    elif compared.reference not in with_results:
        yield f"No tests: the reference {reference} has no results."
    else:
        yield "No tests: there are no values per user to compare."


def comparison_latex(compared: Comparison) -> str:
    """Return the test metrics as a LaTeX table for a paper."""
    table = results_table(compared)
    # Time and memory, the last two columns, are no part of it.
    shown = dataclasses.replace(
        table, headers=table.headers[:-2], rows=tuple(row[:-2] for row in table.rows)
    )
    caption = f"{table.title} on {clean(compared.dataset)}. {' '.join(table.notes)}"
    return latex_table(shown, caption)


def runs_table(compared: Comparison) -> Table:
    """Return one row per model and seed: selection metric on validation and test, epochs, time."""
    metric, chosen, parts = compared.selection_metric, compared.valid_metric, compared.parts

    def row(entry: ComparedModel, seed: int) -> tuple[Cell, ...]:
        finished = compared.finished_seeds(entry)
        if seed in finished:
            at = finished.index(seed)
            found = (
                number(_at(entry.valid, at)),
                number(_at(entry.values.get(metric or "", ()), at)),
                clean(_at(entry.best_epochs, at) or NOTHING),
                number(_at(entry.seconds, at), ".1f"),
            )
        else:
            state = "failed" if str(seed) in entry.errors else "not run"
            found = (state, NOTHING, NOTHING, NOTHING)
        return cells(clean(entry.label), seed, *found)

    headers = (
        *("model", "seed", f"validation {metric_name(chosen) if chosen else 'metric'}"),
        *(f"test {metric_name(metric) if metric else 'metric'}", "best epoch", "seconds"),
    )
    rows = tuple(row(entry, seed) for entry in compared.models for seed in compared.seeds)
    which = "The best epoch on validation" if parts.valid else "The last epoch, without validation,"
    what = "was tested" if parts.test else "is the result; there is no test part"
    note = f"{which} {what}; of a training in stages, each stage's is told."
    return Table("Runs", headers, rows, (note,))


def _at(values: Sequence[Value], place: int) -> Value | None:
    return values[place] if place < len(values) else None


def significance_tables(compared: Comparison) -> list[Table]:
    """Return one table per tested metric: each model against the reference."""
    return [
        Table(
            f"{metric_name(metric)} against {clean(compared.reference)}",
            SIGNIFICANCE_HEADERS,
            tuple(map(_significance_row, tests)),
        )
        for metric, tests in compared.tests.items()
        if tests
    ]


def _significance_row(test: UserTest) -> tuple[Cell, ...]:
    return cells(
        clean(test.label),
        f"{test.users:,d}",
        Cell(number(test.difference, "+.4f"), significant=test.is_significant),
        f"[{number(test.low, '+.4f')}, {number(test.high, '+.4f')}]",
        number(test.effect_size, "+.3f"),
        p_value(test.wilcoxon_p),
        p_value(test.wilcoxon_holm),
        p_value(test.bootstrap_p),
        p_value(test.bootstrap_holm),
    )


def _significance_notes(compared: Comparison) -> tuple[str, ...]:
    return (
        f"Difference: model minus {clean(compared.reference)}, mean over users; each user's "
        "values were first averaged over the seeds that both finished. Interval and bootstrap p: "
        "bootstrap over users. Effect size: mean difference / standard deviation of the "
        "differences (Cohen's d_z).",
        "p-values are two-sided; the Wilcoxon signed-rank test leaves out users without a "
        "difference. Holm: the p-value to its left, corrected for all comparisons of "
        f"this table. {DAGGER}: Holm-corrected Wilcoxon p < {ALPHA}.",
        "The tests ask whether other users would tell the same, not whether other seeds would: "
        "look at the deviation over seeds for that.",
    )


def slice_tables(compared: Comparison) -> list[Table]:
    """Return one table per kind of slice: a row per model, a column per slice."""
    tables = []
    models = [entry for entry in compared.models if entry.has_results]
    for (kind, metric), parts in compared.slices_by_kind().items():
        best = [best_number(part.values.values(), metric) for part in parts]
        rows = tuple(
            cells(
                clean(entry.label),
                *(
                    mean_cell(part.values.get(entry.label), None, best_of)
                    for part, best_of in zip(parts, best, strict=True)
                ),
            )
            for entry in models
        )
        names = (f"{clean(part.name)} ({part.size})" for part in parts)
        tables.append(Table(f"{metric_name(metric)} by {kind}", ("model", *names), rows))
    return tables


def settings_table(compared: Comparison) -> Table:
    """Return one row per model: what it is and which settings it was given."""
    columns: Columns[ComparedModel] = {
        "model": lambda entry: clean(entry.label),
        "class": lambda entry: clean(entry.model),
        "settings of its own": lambda entry: shown_settings(entry.settings) or NOTHING,
    }
    return Table.of("Settings", compared.models, columns, texts=tuple(columns))


def _csv_rows(compared: Comparison) -> Iterator[dict[str, object]]:
    """Yield one row per number, unrounded: the values of each seed, their mean and deviation."""
    for entry in compared.models:
        about = {"label": clean(entry.label), "model": clean(entry.model)}
        about["status"] = clean(entry.status)
        seeds, metric = compared.finished_seeds(entry), str(compared.valid_metric).lower()
        for row in value_rows([metric], seeds, {metric: entry.valid}, {}):
            if row["value"] is not None:
                yield {**about, "on": "valid", **row}
        statistics = {"mean": entry.mean, "std": entry.std}
        for row in value_rows(compared.metrics, seeds, entry.values, statistics):
            yield {**about, "on": "test", **row}
