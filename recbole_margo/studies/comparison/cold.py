"""Cold items in a comparison: what each model and the baselines reach, and the table of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recbole_margo.config import Config
from recbole_margo.evaluation.cold_items import (
    CONTENTS,
    MEAN_ITEM,
    NOTHING,
    ColdResult,
    cold_baselines,
)
from recbole_margo.report import Cell, Table, clean
from recbole_margo.run import load_split
from recbole_margo.run_folder import RunOutcome, RunResult, finished_runs
from recbole_margo.store.plain import from_plain
from recbole_margo.studies.wording import metric_name, number

Values = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ColdRow:
    """What one model or baseline reaches, means over seeds.

    Attributes:
        scored_by: what its scores of cold items come from.
        warm: metrics of the usual test.
        among_cold: of cold items, ranked alone.
        among_all: of cold items, ranked with all that the user does not know.
        is_baseline: whether it needs no training.
    """

    label: str
    scored_by: str
    warm: Values
    among_cold: Values
    among_all: Values
    is_baseline: bool = False


@dataclass(frozen=True, kw_only=True)
class ColdComparison:
    """The cold items of a comparison.

    Attributes:
        items: how many items were kept out of training.
        users: users who have trained and cold items.
        interactions: of these users with these items.
        rows: models, then baselines.
    """

    items: int
    users: int
    interactions: int
    metrics: tuple[str, ...]
    rows: tuple[ColdRow, ...]


def compare_cold_items(
    outcomes: Mapping[str, Mapping[int, RunOutcome]],
) -> ColdComparison | None:
    """Return what came out over cold items, none where no items were kept out."""
    done = {
        label: [run for run in finished_runs(of_seeds.values()) if run.cold]
        for label, of_seeds in outcomes.items()
    }
    done = {label: found for label, found in done.items() if found}
    if not done:
        return None
    first = next(iter(done.values()))[0]
    config = Config.from_plain(dict(first.config))
    baselines = cold_baselines(config, load_split(config))
    metrics = tuple(next(iter(baselines.values())).among_cold)
    rows = [_row(label, found, metrics) for label, found in done.items()]
    rows += [
        ColdRow(
            label=label,
            scored_by=found.scored_by,
            warm=found.warm,
            among_cold=found.among_cold,
            among_all=found.among_all,
            is_baseline=True,
        )
        for label, found in baselines.items()
    ]
    cold = _cold_of(first)
    return ColdComparison(
        items=cold.items,
        users=cold.users,
        interactions=cold.interactions,
        metrics=metrics,
        rows=tuple(rows),
    )


def _cold_of(run: RunResult) -> ColdResult:
    return from_plain(ColdResult, run.cold)


def _row(label: str, runs: Sequence[RunResult], metrics: Sequence[str]) -> ColdRow:
    def mean(part: Sequence[Values]) -> dict[str, float]:
        return {
            name: float(np.mean([values[name] for values in part]))
            for name in metrics
            if all(name in values for values in part)
        }

    return ColdRow(
        label=label,
        scored_by=_cold_of(runs[0]).scored_by,
        warm=mean([run.test for run in runs]),
        among_cold=mean([_cold_of(run).among_cold for run in runs]),
        among_all=mean([_cold_of(run).among_all for run in runs]),
    )


def cold_tables(compared: ColdComparison | None) -> list[Table]:
    """Return one table of each metric: a row per model, warm and cold."""
    if compared is None:
        return []
    parts = ("warm", "among_cold", "among_all")
    tables = []
    for place, metric in enumerate(compared.metrics):
        values = [[getattr(row, part).get(metric) for part in parts] for row in compared.rows]
        shown = [[number(value) for value in row] for row in values]
        best = [
            number(max((value for value in column if value is not None), default=None))
            for column in zip(*values, strict=True)
        ]
        rows = tuple(
            (
                Cell(clean(row.label)),
                *(Cell(text, text == best[column]) for column, text in enumerate(texts)),
                Cell(row.scored_by),
            )
            for row, texts in zip(compared.rows, shown, strict=True)
        )
        headers = ("model", "warm", "cold among cold", "cold among all", "cold items scored by")
        notes = tuple(_notes(compared)) if place == 0 else ()
        title = f"{metric_name(metric)} on warm and cold items"
        tables.append(Table(title, headers, rows, notes))
    return tables


def _notes(compared: ColdComparison) -> Iterator[str]:
    yield (
        f"{compared.items:,} items were kept out of training with all their interactions; "
        f"{compared.interactions:,} of these, of {compared.users:,} users, are the cold test. "
        "Warm: the usual test. Among cold: cold items alone are ranked. Among all: with all items "
        "that the user has not interacted with. Best in bold."
    )
    found = {row.scored_by for row in compared.rows}
    if CONTENTS in found:
        yield "contents: an item without interactions, as the model itself computes its row."
    if MEAN_ITEM in found:
        yield (
            f"{MEAN_ITEM}: contents do not enter the scores, and every cold item has the mean row "
            "of the trained ones, in random order."
        )
    if NOTHING in found:
        yield f"{NOTHING}: the model has no tables that an item could be added to."
