"""A small folder in MMRec's layout, for the tests of its converter."""

from __future__ import annotations

from pathlib import Path

import numpy as np

# userID, itemID, rating, timestamp, x_label; itemID 3 has features but no interaction.
ROWS = [
    (0, 4, 5.0, 1381017600, 0),
    (0, 1, 3.5, 1381017601, 1),
    (0, 0, 1.0, 1381017602, 2),
    (7, 1, 4.0, 1381017603, 0),
    (7, 2, 2.0, 1381017604, 2),
    (7, 4, 2.0, 1381017605, 1),
]
COLUMNS = ("userID", "itemID", "rating", "timestamp", "x_label")
ITEM_COUNT = 5


def write_inter(
    folder: Path,
    rows: list[tuple[object, ...]] | None = None,
    columns: tuple[str, ...] = COLUMNS,
    separator: str = "\t",
) -> None:
    """Write `toy.inter` with some of the columns of `ROWS`."""
    chosen = [COLUMNS.index(column) for column in columns if column in COLUMNS]
    lines = [separator.join(columns)]
    lines += [separator.join(str(row[index]) for index in chosen) for row in rows or ROWS]
    (folder / "toy.inter").write_text("\n".join(lines) + "\n")


def image_features() -> np.ndarray:
    """Return [5, 4] float64, with a row of zeros for the item 2."""
    matrix = np.random.default_rng(0).normal(size=(ITEM_COUNT, 4))
    matrix[2] = 0.0
    return matrix


def text_features() -> np.ndarray:
    """Return [5, 3] float16."""
    return np.random.default_rng(1).normal(size=(ITEM_COUNT, 3)).astype("float16")


def write_source(folder: Path) -> Path:
    """Write the interactions, images as float64 and texts as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    write_inter(folder)
    np.save(folder / "image_feat.npy", image_features())
    np.save(folder / "text_feat.npy", text_features())
    return folder
