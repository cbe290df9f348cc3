"""Reading the plain form of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_margo.store.plain import from_plain
from recbole_margo.studies.comparison.result import ComparedModel, Comparison


def finished_seeds(summary: Mapping[str, Any], entry: Mapping[str, Any]) -> list[int]:
    """Return the seeds that an entry's lists of values belong to.

    Args:
        summary: the comparison.
        entry: one of its models.
    """
    return from_plain(Comparison, summary).finished_seeds(from_plain(ComparedModel, entry))
