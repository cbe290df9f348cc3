"""What is odd in the numbers of interactions, said before they are used."""

from __future__ import annotations

import numpy as np
import pandas as pd

# Times since 1970 between 1973 and 5138, by their unit.
UNITS = {
    "seconds": (1e8, 1e11),
    "milliseconds": (1e11, 1e14),
    "microseconds": (1e14, 1e17),
    "nanoseconds": (1e17, 1e20),
}


def value_notes(table: pd.DataFrame) -> list[str]:
    """Return notes on ratings and times that are missing, and on times of several units.

    Args:
        table: interactions, perhaps with the columns rating and timestamp.
    """
    notes = []
    for column in ("rating", "timestamp"):
        absent = int(table[column].isna().sum()) if column in table else 0
        if absent:
            notes.append(f"{absent:,} interactions have no {column} (empty, NaN or the like)")
    if "timestamp" not in table:
        return notes
    sizes = np.abs(table["timestamp"].to_numpy(dtype=float))
    counts = {
        unit: int(((sizes >= low) & (sizes < high)).sum()) for unit, (low, high) in UNITS.items()
    }
    found = {unit: count for unit, count in counts.items() if count}
    if len(found) > 1:
        listed = ", ".join(f"{count:,} like {unit}" for unit, count in found.items())
        notes.append(
            f"times of several units: {listed}; they are kept as they are, so that an order or a "
            "split by time is wrong. Bring them to one unit"
        )
    return notes
