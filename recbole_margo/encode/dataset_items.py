"""Which items a dataset has, read from its interaction files alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import recbole

from recbole_margo.data.bundled import BUNDLED_DATASET, ensure_bundled_features
from recbole_margo.errors import DatasetNotFoundError
from recbole_margo.store.dataset_files import SPLITS
from recbole_margo.store.tables import open_table


def dataset_folders(data_path: Path, dataset: str) -> tuple[Path, Path]:
    """Return where a dataset's features go, and where its interactions are.

    They differ only for the dataset that RecBole brings in its own package; the features that this
    project makes of it are made, so that more can be added to them.

    Args:
        data_path: the folder of all datasets.
        dataset: name of the dataset.
    """
    folder = data_path / dataset
    if dataset != BUNDLED_DATASET:
        return folder, folder
    ensure_bundled_features(folder)
    return folder, Path(recbole.__path__[0]) / "dataset_example" / BUNDLED_DATASET


def read_items(folder: Path, dataset: str) -> list[str]:
    """Return the tokens of all items with interactions, in the order of the files.

    Args:
        folder: folder of the `.inter` files.
        dataset: name of the dataset.

    Raises:
        DatasetNotFoundError: there is no such file.
        DataError: a file is damaged, or has no column of items.
    """
    usual = [folder / f"{dataset}.inter", *(folder / f"{dataset}.{s}.inter" for s in SPLITS)]
    files = [path for path in usual if path.is_file()]
    files += sorted(set(folder.glob(f"{dataset}.*.inter")) - set(files))
    if not files:
        raise DatasetNotFoundError(
            f"{folder}: expected the dataset {dataset!r}, found no file {dataset}.inter or "
            f"{dataset}.train.inter there. Convert it first (python -m dataset_converters --help), "
            "or give the folder of all datasets with --data_path."
        )
    columns = []
    for path in files:
        table = open_table(path, separator="\t", header=True)
        column = next((c for c in table.columns if c.partition(":")[0] == "item_id"), "item_id")
        table.check([column], "item_id")
        columns += [piece[column] for piece in table.read([column], f"reading {path.name}")]
    items: list[str] = pd.concat(columns).drop_duplicates().astype(str).tolist()
    return items
