"""How numbers are written in tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_margo.report.document import Cell

NOTHING = "–"
MEBIBYTE = 2**20


def cells(*texts: Any) -> tuple[Cell, ...]:
    """Return a row of plain cells."""
    return tuple(Cell(str(text)) for text in texts)


def duration(seconds: float) -> str:
    """Return seconds with a unit and three significant digits."""
    if seconds >= 1:
        return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:,.0f} s"
    return f"{seconds * 1e3:.3g} ms"


def spread(summary: Mapping[str, Any]) -> str:
    """Return least and largest of a summary and how many values there were."""
    if summary["runs"] == 1:
        return "one run"
    return f"{duration(summary['least'])} to {duration(summary['largest'])} ({summary['runs']})"


def ratio(value: float | None) -> str:
    """Return how many times faster or smaller something is."""
    return NOTHING if value is None else f"{value:.1f}"


def share(value: float | None) -> str:
    """Return a share of 1 in per cent."""
    return NOTHING if value is None else f"{value:.1%}"


def mebibytes(size: float | None) -> str:
    """Return bytes in MiB."""
    return NOTHING if size is None else f"{size / MEBIBYTE:,.0f}"
