"""The data of a benchmark as a RecBole dataset with feature files, and the config on it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray

from benchmarks.generated_graph import generated_splits, read_splits
from benchmarks.shapes import Shape
from recbole_margo.config import Config
from recbole_margo.errors import RecBoleMargoError
from recbole_margo.store.dataset_files import write_splits
from recbole_margo.store.feature_files import row_blocks, write_features
from recbole_margo.store.writing import replacing

COMPLETE = "complete.json"
# The fields of a shape that a dataset depends on.
ON_DISK = ("users", "items", "train", "valid", "test", "columns")
REDUCED, HALF, REDUCED_HALF = "features reduced", "features in bfloat16", "both"
LATENT = 64
NOISE = 0.5


@dataclass(frozen=True)
class Workload:
    """A dataset on disk, and what is trained on it where.

    Attributes:
        shape: its sizes.
        data_path: folder of datasets.
        dataset: name of the dataset.
        model: MARGO or DRAGON.
        device: cpu or cuda.
        checkpoints: folder for what trainers write.
    """

    shape: Shape
    data_path: Path
    dataset: str
    model: str
    device: str
    checkpoints: Path

    def stages(self) -> dict[str, dict[str, Any]]:
        """Return name -> settings of every objective that the model is trained with."""
        if self.model != "MARGO":
            return {self.model: {}}
        return {
            "MARGO stage 1": {"item_weights": False},
            "MARGO stage 2": {"two_stage": False},
        }

    def last_stage(self) -> dict[str, Any]:
        """Return the settings of the last of the stages."""
        return list(self.stages().values())[-1]

    def config(self, settings: Mapping[str, Any]) -> Config:
        """Return the config of the model with settings on top of the workload's."""
        values = {
            "data_path": str(self.data_path),
            "checkpoint_dir": str(self.checkpoints),
            "train_batch_size": self.shape.batch,
            "use_gpu": self.device == "cuda",
            # What is timed step by step is not launched as a whole.
            "cuda_graphs": False,
            # The second epoch begins and ends the first; neither is followed by a validation.
            "epochs": 2,
            "eval_step": 2,
            "show_progress": False,
            "graph_cache": False,
            "save_dataset": False,
            "log_wandb": False,
            **self.shape.settings,
            **settings,
        }
        return Config(self.model, self.dataset, config_dict=values)

    def approximations(self) -> dict[str, dict[str, Any]]:
        """Return name -> settings of what is faster than exact arithmetic on all features."""
        reduced = {"feature_reduction": dict(self.shape.reduced)}
        half = {"feature_precision": "bfloat16"}
        return {REDUCED: reduced, HALF: half, REDUCED_HALF: {**reduced, **half}}

    def reduction_note(self) -> str:
        """Say which columns `feature_reduction` leaves."""
        sizes = ", ".join(f"{name} to {size}" for name, size in self.shape.reduced.items())
        return f"Reduced: {sizes} columns."

    def as_json(self) -> str:
        """Return the workload as text, for another process."""
        values = dataclasses.asdict(self)
        return json.dumps(values, default=str)

    @classmethod
    def from_json(cls, text: str) -> Workload:
        """Return the workload that `as_json` wrote."""
        values = json.loads(text)
        shape = Shape(**values.pop("shape"))
        paths = {name: Path(values.pop(name)) for name in ("data_path", "checkpoints")}
        return cls(shape=shape, **paths, **values)


def make_dataset(
    shape: Shape, data_path: Path, interactions: Path | None = None, seed: int = 0
) -> tuple[Shape, str]:
    """Write a dataset of a shape, or find it written by an earlier call.

    Args:
        shape: the sizes; with a file, those of the features and the batch.
        data_path: folder of datasets.
        interactions: a file with real interactions, see `read_splits`.
        seed: of what is generated.

    Returns:
        The shape as it is on disk, and the name of the dataset.

    Raises:
        RecBoleMargoError: if the file of interactions cannot be used.
    """
    splits = None
    if interactions is not None:
        splits = read_splits(interactions)
        shape = _shape_of(splits, shape)
    name = f"generated-{shape.name}" if interactions is None else f"real-{shape.name}"
    folder = data_path / name
    sizes = dataclasses.asdict(shape)
    made_of = {
        "sizes": {key: sizes[key] for key in ON_DISK},
        "seed": seed,
        "interactions": None if interactions is None else str(interactions.resolve()),
        "changed": None if interactions is None else interactions.stat().st_mtime,
    }
    if _is_complete(folder, made_of):
        return shape, name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    splits = splits or generated_splits(shape, seed)
    write_splits(folder, name, splits)
    items = pd.unique(pd.concat([table["item_id"] for table in splits.values()]))
    for number, (modality, columns) in enumerate(shape.columns.items()):
        matrix = generated_features(len(items), columns, seed + 1 + number)
        write_features(folder, name, modality, matrix, list(items), "generated for a benchmark")
    settings = {
        "benchmark_filename": list(splits),
        "load_col": {"inter": ["user_id", "item_id"]},
        "modalities": list(shape.columns),
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    with replacing(folder / COMPLETE) as temporary:
        temporary.write_text(json.dumps(made_of), encoding="utf-8")
    return shape, name


def generated_features(rows: int, columns: int, seed: int) -> NDArray[np.float32]:
    """Return features with some structure and some noise, as a network's last layer has.

    Args:
        rows: number of items I.
        columns: number of columns D.
        seed: of what is drawn.

    Returns:
        A matrix [I, D], float32; its rows are mixtures of a few directions, cut off below zero.
    """
    random = np.random.default_rng(seed)
    directions = random.standard_normal((min(LATENT, columns), columns), dtype=np.float32)
    matrix = np.empty((rows, columns), dtype=np.float32)
    for block in row_blocks(rows, columns):
        mixture = random.standard_normal(
            (block.stop - block.start, len(directions)), dtype=np.float32
        )
        noise = random.standard_normal((len(mixture), columns), dtype=np.float32)
        matrix[block] = mixture @ directions / np.sqrt(len(directions)) + NOISE * noise
    return np.maximum(matrix, 0.0, out=matrix)


def check_device(device: str) -> None:
    """Raise a `RecBoleMargoError` if torch has no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise RecBoleMargoError(
            "--device cuda: torch finds no CUDA device here; use --device cpu, or install a build "
            "of torch with CUDA on a machine with an NVIDIA card"
        )


def _shape_of(splits: Mapping[str, pd.DataFrame], shape: Shape) -> Shape:
    tables = list(splits.values())
    both = pd.concat(tables)
    sizes = dict(zip(("train", "valid", "test"), map(len, tables), strict=True))
    return dataclasses.replace(
        shape, users=both["user_id"].nunique(), items=both["item_id"].nunique(), **sizes
    )


def _is_complete(folder: Path, made_of: Mapping[str, Any]) -> bool:
    try:
        stored = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(stored == json.loads(json.dumps(made_of)))
