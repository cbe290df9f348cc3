"""The report of a robustness study: tables, one page and the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from recbole_margo.evaluation.detection import Estimate
from recbole_margo.report import (
    NOTHING,
    Cell,
    Document,
    Figure,
    Fold,
    Interval,
    Paragraphs,
    Part,
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
from recbole_margo.studies.wording import (
    how_evaluated,
    is_smaller_better,
    metric_name,
    number,
    shown_settings,
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
    "Interval: stratified bootstrap over items, of the mean over seeds; of the difference, "
    "paired. It says nothing about other seeds: for them look at ±.",
)


def write_robustness_report(folder: Path, result: RobustnessResult) -> list[Path]:
    """Write everything that is shown of a study; what is there already is replaced.

    Returns:
        The files: `robustness.json`, `.csv`, `.md` and `.html` and, as PNG and SVG, the figures
        `quality`, `detection` and `weights-of-corrupted`, each if there is something to draw.
    """
    texts = {
        "robustness.json": json_text(as_plain(result)),
        "robustness.csv": robustness_csv(result),
    }
    return write_document(folder, "robustness", robustness_document(result), texts)


def robustness_text(result: RobustnessResult, bold: str = "**{}**") -> str:
    """Return the tables of a study for a terminal, and what failed."""
    return terminal_text((*_sections(result), *failure_section(_failures(result))), bold=bold)


def robustness_document(result: RobustnessResult) -> Document:
    """Return the report of a study."""
    return Document(
        f"Robustness on {clean(result.dataset)}",
        tuple(_conditions(result)),
        (*failure_section(_failures(result)), *_sections(result)),
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
    yield from how_evaluated(result.eval_protocol, result.valid_metric, result.parts)
    shared = shown_settings(result.settings)
    if shared:
        yield "Settings of all", shared


def _failures(result: RobustnessResult) -> list[str]:
    return [
        f"{clean(run.model)} ({result.step_name(run.step)}) failed, seed {run.seed}: "
        f"{clean(run.error)}"
        for run in result.errors
    ]


def _sections(result: RobustnessResult) -> tuple[Section, Section]:
    quality = Figure(
        "quality",
        "Lines of the test metrics over the share of corrupted items, one per model. The tables "
        "above hold the numbers.",
        lambda: quality_figure(result),
    )
    notes = Paragraphs(_quality_notes(result))
    return (
        Section("Recommendation quality", (*quality_tables(result), notes, quality)),
        Section("Detection", _detection(result)),
    )


def _detection(result: RobustnessResult) -> tuple[Part, ...]:
    """Return the last step's tables, and behind a fold what only a page has room for."""
    areas = Figure(
        "detection",
        "ROC-AUC of each detector with its interval, and ROC curves, a column per modality. The "
        "tables below hold the numbers.",
        lambda: detection_figure(result),
    )
    weights = Figure(
        "weights-of-corrupted",
        "Histograms of the weight of corrupted and of other items, a panel per modality.",
        lambda: weights_figure(result),
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
        row, text = result.quality_of(model, step), number(mean(model, step))
        best = text != NOTHING and text == best_of[step]
        deviation = row.std.get(metric)
        text += "" if deviation is None else f" ± {number(deviation)}"
        if len(row.seeds) < len(result.seeds):
            text += f" ({len(row.seeds)} of {len(result.seeds)} seeds)"
        return Cell(text, best)

    def change(model: str) -> Cell:
        clean_mean, last = mean(model, 0.0), mean(model, result.steps[-1])
        if not clean_mean or last is None:
            return Cell(NOTHING)
        return Cell(f"{100 * (last / clean_mean - 1):+.1f} %")

    pick = min if is_smaller_better(metric) else max
    best_of = {}
    for step in result.steps:
        there = [one for one in (mean(model, step) for model in result.models) if one is not None]
        best_of[step] = number(pick(there, default=None))
    rows = [
        (Cell(clean(model)), *(cell(model, step) for step in result.steps), change(model))
        for model in result.models
    ]
    headers = ("model", *(result.step_name(step) for step in result.steps), "change")
    return Table(f"{metric_name(metric)} on test", headers, tuple(rows))


def _quality_notes(result: RobustnessResult) -> tuple[str, str]:
    listed = ", ".join(map(str, result.seeds))
    over_seeds = (
        f"One seed ({listed}), so there is no deviation over seeds. Best value in bold."
        if len(result.seeds) == 1
        else f"Mean ± sample standard deviation over {len(result.seeds)} seeds ({listed}), each "
        "of which corrupts other items. Best mean in bold."
    )
    return over_seeds, "change: of the last column's mean against clean."


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

    columns: dict[str, Callable[[DetectorResult], Cell]] = {
        "detector": lambda row: Cell(clean(row.detector)),
        "ROC-AUC": lambda row: Cell(_deviating(row.auc), f"{row.auc.mean:.3f}" == best),
        "95 % interval": lambda row: Cell(
            _interval(row.auc), interval=Interval(row.auc.low, row.auc.high, row.auc.mean, 0.5)
        ),
        f"AUC minus {result.reference}'s": lambda row: Cell(_difference(row.auc_above_reference)),
        "AUC, popular half": lambda row: Cell(auc_on(POPULAR, row)),
        "AUC, vs. untouched": lambda row: Cell(auc_on(UNTOUCHED, row)),
        "average precision": lambda row: Cell(_deviating(row.average_precision)),
        "chance": lambda row: Cell(number(row.chance, ".3f")),
    }
    cells = {header: [cell(row) for row in rows] for header, cell in columns.items()}
    told = {header: of for header, of in cells.items() if any(one.text != NOTHING for one in of)}
    return Table(title, tuple(told), tuple(zip(*told.values(), strict=True)), (_counts(rows),))


def _deviating(estimate: Estimate) -> str:
    mean, deviation = f"{estimate.mean:.3f}", estimate.deviation
    return mean if deviation is None else f"{mean} ± {deviation:.3f}"


def _interval(estimate: Estimate) -> str:
    return f"[{estimate.low:.3f}, {estimate.high:.3f}]"


def _difference(estimate: Estimate | None) -> str:
    return f"{estimate.mean:+.3f} {_interval(estimate)}" if estimate else NOTHING


def _counts(rows: Sequence[DetectorResult]) -> str:
    seeds = max((row.seeds for row in rows), key=len)
    counted = "; ".join(f"{seed.positives:,} of {seed.items:,}" for seed in seeds)
    return f"Corrupted among the items asked about, by seed: {counted}."


def robustness_csv(result: RobustnessResult) -> str:
    """Return one row per number, unrounded."""
    return csv_text(CSV_COLUMNS, [*_quality_rows(result), *_detection_rows(result)])


def _quality_rows(result: RobustnessResult) -> Iterator[dict[str, object]]:
    for row in result.quality:
        about = {"about": "quality", "name": clean(row.model), "step": row.step}
        for metric in result.metrics:
            on = {**about, "metric": metric}
            for seed, value in zip(row.seeds, row.values.get(metric, ()), strict=True):
                yield {**on, "statistic": "value", "seed": seed, "value": value}
            for statistic, values in (("mean", row.mean), ("std", row.std)):
                if values.get(metric) is not None:
                    yield {**on, "statistic": statistic, "value": values[metric]}


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
