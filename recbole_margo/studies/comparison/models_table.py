"""The table of `train`: one row per model, of one seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from recbole_margo.report import (
    Bullets,
    Cell,
    Document,
    Section,
    Table,
    clean,
    failure_section,
)
from recbole_margo.run_folder import FailedRun, RunOutcome, RunResult, finished_runs
from recbole_margo.studies.wording import (
    PART_NAMES,
    EvaluatedParts,
    epoch_text,
    epochs_text,
    how_evaluated,
    is_smaller_better,
    number,
)


def models_table(outcomes: Sequence[RunOutcome]) -> Table:
    """Return one row per model: metrics (best in bold), training time and peak memory.

    The metrics are those of the test, of validation where there was nothing to test.
    """
    finished = finished_runs(outcomes)
    part = EvaluatedParts.of_runs(finished).shown
    values = {id(run): getattr(run, part) if part else {} for run in finished}
    metrics = list(dict.fromkeys(metric for of_run in values.values() for metric in of_run))
    best = {}
    for metric in metrics:
        pick = min if is_smaller_better(metric) else max
        best[metric] = number(pick(run[metric] for run in values.values() if metric in run))
    headers = ("model", *metrics, "best epochs", "seconds", "peak MiB")
    rows = []
    for outcome in outcomes:
        if isinstance(outcome, FailedRun):
            blank = [Cell("")] * (len(headers) - 2)
            rows.append((Cell(clean(outcome.model)), Cell("failed"), *blank))
            continue
        texts = [number(values[id(outcome)].get(metric)) for metric in metrics]
        # Equal to the four decimals that are printed counts as equally good.
        shown = [
            Cell(text, text == best[metric]) for metric, text in zip(metrics, texts, strict=True)
        ]
        seconds = number(outcome.seconds, ".1f")
        rest = (epochs_text(outcome), seconds, f"{outcome.peak_mib:.0f}")
        rows.append((Cell(clean(outcome.model)), *shown, *map(Cell, rest)))
    if not finished:
        headers, rows = ("model", "status"), [row[:2] for row in rows]
    what = f"{PART_NAMES[part]} metrics" if part else "no metrics"
    notes = ("The test set was scored once per trained model.",) if part == "test" else ()
    return Table(f"{what[0].upper()}{what[1:]}", headers, tuple(rows), notes)


def failures(outcomes: Sequence[RunOutcome]) -> list[str]:
    """Return one line per model that failed, with the reason."""
    return [
        f"{clean(one.model)} failed: {clean(one.error)}"
        for one in outcomes
        if isinstance(one, FailedRun)
    ]


def models_document(outcomes: Sequence[RunOutcome]) -> Document:
    """Return the page with the table, the stages, and how they came about."""
    finished = finished_runs(outcomes)
    stages = [Section(f"Stages of {clean(run.model)}", _stages(run)) for run in finished]
    return Document(
        "Comparison",
        tuple(_conditions(finished)),
        (
            *failure_section(failures(outcomes)),
            Section(None, (models_table(outcomes),)),
            *(section for section in stages if section.parts),
        ),
    )


def _conditions(finished: Sequence[RunResult]) -> Iterator[tuple[str, str]]:
    if not finished:
        return
    first, splits = finished[0], sorted({run.split or "" for run in finished})
    same = "the same for all models" if len(splits) == 1 else "NOT the same for all models"
    yield "Dataset", first.dataset
    yield "Split", f"{', '.join(splits)}: {same}"
    yield "Seed", str(first.seed)
    yield from how_evaluated(
        first.eval_protocol, first.valid_metric, EvaluatedParts.of_runs(finished)
    )
    yield "Modalities", ", ".join(first.modalities or []) or "none"


def _stages(run: RunResult) -> tuple[Bullets, ...]:
    if len(run.stages) < 2:
        return ()
    lines = []
    metric = run.valid_metric.lower()
    for stage in run.stages:
        line = f"{stage.name}: {stage.epochs} epochs, not validated"
        if stage.best_epoch >= 0:
            line = f"{stage.name}: best epoch {epoch_text(stage)} of {stage.epochs}"
        measured = [
            f"{number(values[metric])} on {PART_NAMES[part]}"
            for part, values in (("valid", stage.valid), ("test", stage.test))
            if metric in values
        ]
        lines.append(f"{line}, {metric} {', '.join(measured)}" if measured else line)
    if run.last_stage_is_best is False:
        lines.append("No epoch of the last stage reached the first stage's best validation score.")
    return (Bullets(tuple(lines)),)
