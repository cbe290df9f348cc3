"""A data set whose users like one group of items each, and whose content tells the groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from recbole_margo.store.dataset_files import write_splits
from recbole_margo.store.feature_files import write_features

NAME = "planted"
USERS, ITEMS, GROUPS = 120, 200, 10
# In no order, so that a shift of the rows does not keep the groups together.
GROUP_OF = np.random.default_rng(1).permutation(np.arange(ITEMS) % GROUPS)


def planted_features() -> np.ndarray:
    """Return [ITEMS, 16], alike within the groups."""
    generator = np.random.default_rng(3)
    centers = generator.normal(size=(GROUPS, 16))
    noise = 0.3 * generator.normal(size=(ITEMS, 16))
    return (centers[GROUP_OF] + noise).astype(np.float32)


def write_planted(data_path: Path) -> Path:
    """Write interactions and configuration without features; return the dataset's folder."""
    generator = np.random.default_rng(5)
    rows = []
    for user in range(USERS):
        mine = np.flatnonzero(user % GROUPS == GROUP_OF)
        chosen = generator.permutation(mine)[:8]
        rows += [(f"u{user}", f"i{item}", place) for place, item in enumerate(chosen)]
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "place"])
    folder = data_path / NAME
    folder.mkdir(parents=True)
    columns = ["user_id", "item_id"]
    write_splits(
        folder,
        NAME,
        {
            "train": table.loc[table.place < 6, columns],
            "valid": table.loc[table.place == 6, columns],
            "test": table.loc[table.place == 7, columns],
        },
    )
    values = {"benchmark_filename": ["train", "valid", "test"]}
    values |= {"load_col": {"inter": columns}}
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump(values))
    return folder


def add_modality(folder: Path, modality: str, matrix: np.ndarray, shift: int = 0) -> None:
    """Write features; with a shift, row r is said to belong to item r + shift."""
    tokens = [f"i{(row + shift) % ITEMS}" for row in range(ITEMS)]
    write_features(folder, NAME, modality, matrix, tokens, "planted")
