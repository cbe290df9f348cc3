"""The report of a robustness study: tables, one page and the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from functools import partial

from recbole_margo.evaluation.detection import Estimate
from recbole_margo.report import (
    NOTHING,
    Cell,
    Columns,
    Document,
    Figure,
    Fold,
    Interval,
    Paragraphs,
    Part,
    Section,
    Table,
    cells,
    clean,
    csv_text,
    failure_section,
    json_text,
)
from recbole_margo.store.plain import as_plain
from recbole_margo.studies.robustness.figures import (
    detection_figure,
    quality_figure,
    weights_figure,
)
from recbole_margo.studies.robustness.result import (
    HEADLINE,
    POPULAR,
    UNTOUCHED,
    DetectorResult,
    Question,
    RobustnessResult,
)
from recbole_margo.studies.runs.study import StudyReport
from recbole_margo.studies.wording import (
    best_note,
    best_number,
    failed_line,
    how_evaluated,
    mean_cell,
    metric_name,
    number,
    over_seeds,
    spread,
    value_rows,
)

KINDS = {
    "swap": "rows swapped among the chosen items",
    "noise": "noise added to the rows",
    "blank": "rows replaced by the mean row",
    "missing": "rows removed",
}
CSV_COLUMNS = (
    *("about", "name", "step", "modality", "items", "negatives"),
    *("metric", "statistic", "seed", "value"),
)
NOTES = (
    "The lower the weight of the modality, the more suspicious the item. ROC-AUC is "
    "the probability that a corrupted item has a lower weight than another; chance is 0.5 for "
    "it, and for the average precision what the last column says.",
    "neighbor agreement: no recommender, only how much an item's row is like those of the "
    "other items of its users. Held-out score: no recommender either; that, and how well a "
    "regression on the other items tells from the row who uses the item. MARGO held_out: MARGO "
    "whose weights are taught by such evidence. DRAGON: the mean of its users' weights.",
)
LONG_NOTES = (
    "Asked about: items that have the modality and another one and at least one training "
    "interaction. Negatives: all of them that were not corrupted in this modality, among them "
    "those corrupted in another one, which pushes their weight up; 'vs. untouched' leaves "
    "these out. Popular half: more training interactions than the median item.",
    "Weights of an item that misses a modality are scaled by the share of the modalities that it "
    "has: the fewer there are, the larger each one's weight, whatever its content.",
    "Interval: stratified bootstrap over items, of the mean over seeds; of the difference, "
    "paired. It says nothing about other seeds: for them look at ±.",
)


def robustness_report(result: RobustnessResult) -> StudyReport:
    """Return everything that is shown of a study.

    Its files are `robustness.json`, `.csv`, `.md` and `.html` and, as PNG and SVG, the figures
    `quality`, `detection` and `weights-of-corrupted`, each if there is something to draw.
    """
    numbers = csv_text(CSV_COLUMNS, [*_quality_rows(result), *_detection_rows(result)])
    failures = failure_section(
        failed_line(f"{run.model} ({result.step_name(run.step)})", run.seed, run.error)
        for run in result.errors
    )
    quality = Figure(
        "quality",
        "Lines of the test metrics over the share of corrupted items, one per model. The tables "
        "above hold the numbers.",
        partial(quality_figure, result),
    )
    sections = (
        Section(
            "Recommendation quality", (*quality_tables(result), _quality_notes(result), quality)
        ),
        Section("Detection", _detection(result)),
    )
    return StudyReport(
        "robustness",
        Document(
            f"Robustness on {clean(result.dataset)}",
            tuple(_conditions(result)),
            (*failures, *sections),
        ),
        {"robustness.json": json_text(as_plain(result)), "robustness.csv": numbers},
        (*sections, *failures),
        failed=bool(result.errors),
    )


def _conditions(result: RobustnessResult) -> Iterator[tuple[str, str]]:
    yield "Dataset", clean(result.dataset)
    yield "Split", clean(result.split or NOTHING)
    kind = f"{result.kind}: {KINDS[result.kind]}"
    if result.signal_to_noise is not None:
        kind += f", signal-to-noise ratio {result.signal_to_noise:g} dB"
    yield "Corruption", kind
    yield "Corrupted", "; ".join(result.step_name(step) for step in result.steps)
    yield "Seeds", ", ".join(map(str, result.seeds))
    yield from how_evaluated(
        result.eval_protocol, result.valid_metric, result.parts, result.settings
    )


def _detection(result: RobustnessResult) -> tuple[Part, ...]:
    """Return the last step's tables, and behind a fold what only a page has room for."""
    areas = Figure(
        "detection",
        "ROC-AUC of each detector with its interval, and ROC curves, a column per modality. The "
        "tables below hold the numbers.",
        partial(detection_figure, result),
    )
    weights = Figure(
        "weights-of-corrupted",
        "Histograms of the weight of corrupted and of other items, a panel per modality.",
        partial(weights_figure, result),
    )
    if result.why_no_detection:
        # There is nothing to draw: figures of an earlier report go.
        return Paragraphs((result.why_no_detection,)), areas, weights
    *earlier, last = [step for step in result.steps if step > 0]
    less = tuple(table for step in earlier for table in detection_tables(result, step))
    return (
        Paragraphs(NOTES),
        Fold("Which items, and what the intervals say", (Paragraphs(LONG_NOTES),)),
        areas,
        *detection_tables(result, last),
        weights,
        *([Fold("With fewer items corrupted", less)] if less else []),
    )


def quality_tables(result: RobustnessResult) -> list[Table]:
    """Return a table per metric: a row per model, a column per step."""
    return [_quality_table(result, metric) for metric in result.shown_metrics]


def _quality_table(result: RobustnessResult, metric: str) -> Table:
    def mean(model: str, step: float) -> float | None:
        return result.quality_of(model, step).mean.get(metric)

    def cell(model: str, step: float) -> Cell:
        row, seeds = result.quality_of(model, step), len(result.seeds)
        aside = "" if len(row.seeds) == seeds else f" ({len(row.seeds)} of {seeds} seeds)"
        return mean_cell(mean(model, step), row.std.get(metric), best_of[step], aside)

    def change(model: str) -> str:
        before, last = mean(model, 0.0), mean(model, result.steps[-1])
        if not before or last is None:
            return NOTHING
        return f"{100 * (last / before - 1):+.1f} %"

    best_of = {
        step: best_number((mean(model, step) for model in result.models), metric)
        for step in result.steps
    }
    rows = tuple(
        cells(clean(model), *(cell(model, step) for step in result.steps), change(model))
        for model in result.models
    )
    headers = ("model", *(result.step_name(step) for step in result.steps), "change")
    return Table(f"{metric_name(metric)} on test", headers, rows)


def _quality_notes(result: RobustnessResult) -> Paragraphs:
    seeds = over_seeds(result.seeds, ", each of which corrupts other items")
    change = "change: of the last column's mean against clean."
    return Paragraphs((f"{seeds} {best_note(result.seeds)}", change))


def detection_tables(result: RobustnessResult, step: float) -> list[Table]:
    """Return a table per modality: a row per detector."""
    shares = result.shares[result.steps.index(step)]
    return [
        _detection_table(
            result,
            f"Detection of corrupted {clean(modality)} ({result.kind}, {100 * share:g} % of the "
            "items)",
            rows,
        )
        for modality, share in shares.items()
        if (rows := result.detectors(step, modality, HEADLINE))
    ]


def _detection_table(result: RobustnessResult, title: str, rows: Sequence[DetectorResult]) -> Table:
    best = max(f"{row.auc.mean:.3f}" for row in rows)

    def auc_on(question: Question, row: DetectorResult) -> str:
        others = result.detectors(row.step, row.modality, question)
        means = (other.auc.mean for other in others if other.detector == row.detector)
        return number(next(means, None), ".3f")

    def told(of: Callable[[DetectorResult], object]) -> bool:
        return any(of(row) != NOTHING for row in rows)

    columns: Columns[DetectorResult] = {
        "detector": lambda row: clean(row.detector),
        "ROC-AUC": lambda row: Cell(_deviating(row.auc), f"{row.auc.mean:.3f}" == best),
        "95 % interval": lambda row: Cell(
            _interval(row.auc), interval=Interval(row.auc.low, row.auc.high, row.auc.mean, 0.5)
        ),
        f"AUC minus {result.reference}'s": lambda row: _difference(row.auc_above_reference),
        "AUC, popular half": partial(auc_on, POPULAR),
        "AUC, vs. untouched": partial(auc_on, UNTOUCHED),
        "average precision": lambda row: _deviating(row.average_precision),
        "chance": lambda row: number(row.chance, ".3f"),
    }
    shown = {header: of for header, of in columns.items() if told(of)}
    seeds = max((row.seeds for row in rows), key=len)
    counted = "; ".join(f"{seed.positives:,} of {seed.items:,}" for seed in seeds)
    note = f"Corrupted among the items asked about, by seed: {counted}."
    return Table.of(title, rows, shown, (note,))


def _deviating(estimate: Estimate) -> str:
    return spread(estimate.mean, estimate.deviation, ".3f")


def _interval(estimate: Estimate) -> str:
    return f"[{estimate.low:.3f}, {estimate.high:.3f}]"


def _difference(estimate: Estimate | None) -> str:
    return f"{estimate.mean:+.3f} {_interval(estimate)}" if estimate else NOTHING


def _quality_rows(result: RobustnessResult) -> Iterator[dict[str, object]]:
    for row in result.quality:
        about = {"about": "quality", "name": clean(row.model), "step": row.step}
        statistics = {"mean": row.mean, "std": row.std}
        for found in value_rows(result.metrics, row.seeds, row.values, statistics):
            yield {**about, **found}


def _detection_rows(result: RobustnessResult) -> Iterator[dict[str, object]]:
    for row in result.detection:
        about = {"about": "detection", "name": clean(row.detector), "step": row.step}
        about |= {"modality": row.modality, "items": row.items, "negatives": row.negatives}
        for of_seed in row.seeds:
            numbers = asdict(of_seed)
            on = {**about, "statistic": "value", "seed": numbers.pop("seed")}
            for metric, value in numbers.items():
                yield {**on, "metric": metric, "value": value}
        for field in fields(row):
            estimate = getattr(row, field.name)
            if isinstance(estimate, Estimate):
                for statistic, value in asdict(estimate).items():
                    if value is not None:
                        on = {**about, "metric": field.name}
                        yield {**on, "statistic": statistic, "value": value}
