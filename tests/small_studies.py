"""Studies as tests begin them: everything in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_margo.studies.comparison.command import COMPARISON
from recbole_margo.studies.comparison.plan import ComparisonPlan
from recbole_margo.studies.comparison.result import Comparison
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.studies.runs.pool import Pool
from recbole_margo.studies.sweep.command import SWEEP, SweepPlan, sweep_entries
from recbole_margo.studies.sweep.result import Sweep


def compare_seeds(
    entries: Sequence[Entry],
    dataset: str,
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    folder: str | Path,
    reference: str | None = None,
    workers: int | None = None,
) -> Comparison:
    """Begin a comparison."""
    plan = ComparisonPlan.of(entries, dataset, seeds, settings, reference)
    return COMPARISON.begin(plan, folder, Pool(workers))


def sweep(
    over: Mapping[str, Sequence[Any] | None],
    dataset: str,
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    folder: str | Path,
    model: str = "MARGO",
) -> Sweep:
    """Begin a sweep of a model."""
    entries = sweep_entries(model, over, dataset, settings)
    return SWEEP.begin(SweepPlan.of(entries, dataset, seeds, settings), folder)
