"""Interactions as RecBole's atomic files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from recbole_margo.errors import DataError

SPLITS = ("train", "valid", "test")
FIELD_TYPES = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}


def write_splits(folder: Path, dataset_name: str, splits: Mapping[str, pd.DataFrame]) -> None:
    """Write one benchmark `.inter` file a split.

    Args:
        folder: the dataset's folder.
        dataset_name: name of the dataset.
        splits: each of `SPLITS` -> a table with columns among `FIELD_TYPES`; rows keep their order.

    Raises:
        DataError: a split has no rows; RecBole cannot evaluate without one.
    """
    for split in SPLITS:
        table = splits[split]
        if table.empty:
            raise DataError(
                f"{dataset_name}: expected interactions in each of {', '.join(SPLITS)}, found none "
                f"in {split}. Split the source so that each part has some."
            )
        header = [f"{field}:{FIELD_TYPES[field]}" for field in table.columns]
        table.to_csv(
            folder / f"{dataset_name}.{split}.inter",
            sep="\t",
            header=header,
            index=False,
            lineterminator="\n",
        )


def read_splits(folder: Path, dataset_name: str) -> dict[str, pd.DataFrame]:
    """Read the user and item tokens of every `.inter` file that `write_splits` wrote.

    Args:
        folder: the dataset's folder.
        dataset_name: name of the dataset.

    Returns:
        Each of `SPLITS` -> a table with the columns user_id and item_id, as text.
    """
    columns = ["user_id:token", "item_id:token"]
    return {
        split: pd.read_csv(
            folder / f"{dataset_name}.{split}.inter",
            sep="\t",
            usecols=columns,
            dtype=str,
            na_filter=False,  # an item may be called NA
        ).rename(columns=lambda column: column.partition(":")[0])
        for split in SPLITS
    }
