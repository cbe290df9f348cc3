"""A dataset of four items with two modalities, for the tests of loading features."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from recbole_margo.store.feature_files import file_sha256, write_features

NAME = "toy"
ITEMS = ["[PAD]", "c", "a", "d", "b"]
TEXT = {
    "a": [1.0, 2.0, 0.5],
    "b": [3.0, -4.0, 0.5],
    "c": [5.0, 7.0, 0.5],
    "d": [-1.0, 0.25, 0.5],
}
IMAGE = {"b": [0.5, 1.5], "c": [-2.0, 0.125]}


def write_toy(folder: Path) -> Path:
    """Write text for all items and image for two, in an order that is not RecBole's."""
    for modality, rows, dtype in (("text", TEXT, "float32"), ("image", IMAGE, "float16")):
        write_features(
            folder, NAME, modality, np.array(list(rows.values()), dtype), list(rows), "a test"
        )
    return folder


def toy_dataset(items: list[str] | None = None) -> SimpleNamespace:
    """Return what the loader reads of RecBole's Dataset."""
    tokens = np.array(items or ITEMS)
    return SimpleNamespace(
        iid_field="item_id", field2id_token={"item_id": tokens}, item_num=len(tokens)
    )


def toy_config(folder: Path, **values: Any) -> dict[str, Any]:
    """Return what the loader reads of RecBole's Config."""
    keys = (
        "modalities",
        "feature_normalization",
        "feature_corruption",
        "feature_reduction",
        "feature_precision",
        "feature_path",
        "seed",
    )
    return {**dict.fromkeys(keys), "dataset": NAME, "data_path": str(folder), **values}


def edit_manifest(folder: Path, modality: str, **fields: Any) -> None:
    """Change fields of one modality in the manifest."""
    path = folder / f"{NAME}.features.json"
    content = json.loads(path.read_text())
    content["modalities"][modality].update(fields)
    path.write_text(json.dumps(content))


def accept_files(folder: Path, modality: str) -> None:
    """Make the checksums of the manifest those of the files as they are now."""
    edit_manifest(
        folder,
        modality,
        sha256=file_sha256(folder / f"{NAME}.{modality}.npy"),
        tokens_sha256=file_sha256(folder / f"{NAME}.{modality}.tokens"),
    )
