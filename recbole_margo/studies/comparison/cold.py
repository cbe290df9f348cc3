"""Cold items in a comparison: what each model and the baselines reach, and the table of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recbole_margo.config import Config
from recbole_margo.evaluation.cold_items import (
    CONTENTS,
    MEAN_ITEM,
    NOTHING,
    ColdResult,
    cold_baselines,
)
from recbole_margo.report import Table, cells, clean
from recbole_margo.run import load_split
from recbole_margo.run_folder import RunOutcome, finished_runs
from recbole_margo.store.plain import from_plain
from recbole_margo.studies.wording import best_number, mean_cell, metric_name

Values = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ColdRow:
    """The metrics of one model or baseline, means over seeds.

    Attributes:
        scored_by: what its scores of cold items come from.
        among_cold: metrics of cold items, ranked alone.
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
    rows = []
    for label, runs in done.items():
        of_runs = [from_plain(ColdResult, run.cold) for run in runs]
        rows.append(_row(label, of_runs, [run.test for run in runs], metrics))
    for label, one in baselines.items():
        rows.append(replace(_row(label, [one], [one.warm], metrics), is_baseline=True))
    cold = from_plain(ColdResult, first.cold)
    return ColdComparison(
        items=cold.items,
        users=cold.users,
        interactions=cold.interactions,
        metrics=metrics,
        rows=tuple(rows),
    )


def _row(
    label: str, found: Sequence[ColdResult], warm: Sequence[Values], metrics: Sequence[str]
) -> ColdRow:
    def mean(part: Sequence[Values]) -> dict[str, float]:
        return {
            name: float(np.mean([values[name] for values in part]))
            for name in metrics
            if all(name in values for values in part)
        }

    return ColdRow(
        label=label,
        scored_by=found[0].scored_by,
        warm=mean(warm),
        among_cold=mean([one.among_cold for one in found]),
        among_all=mean([one.among_all for one in found]),
    )


def cold_tables(compared: ColdComparison | None) -> list[Table]:
    """Return one table of each metric: a row per model, warm and cold."""
    if compared is None:
        return []
    headers = ("model", "warm", "cold among cold", "cold among all", "cold items scored by")
    tables: list[Table] = []
    for metric in compared.metrics:
        values = [
            [part.get(metric) for part in (row.warm, row.among_cold, row.among_all)]
            for row in compared.rows
        ]
        best = [best_number(column, metric) for column in zip(*values, strict=True)]
        rows = tuple(
            cells(
                clean(row.label),
                *(mean_cell(one, None, top) for one, top in zip(of_row, best, strict=True)),
                row.scored_by,
            )
            for row, of_row in zip(compared.rows, values, strict=True)
        )
        notes = () if tables else tuple(_notes(compared))
        tables.append(Table(f"{metric_name(metric)} on warm and cold items", headers, rows, notes))
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
