"""Finished runs on disk, and the models that they trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recbole_margo.checkpoint_file.fitting import load_into
from recbole_margo.config import Config, config_from_checkpoint
from recbole_margo.data.protocol import split_fingerprint
from recbole_margo.data.stored_path import with_data_found
from recbole_margo.errors import CheckpointError
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.run import CHECKPOINT, load_split
from recbole_margo.studies.runs.run_entry import RESULT
from recbole_margo.studies.runs.stored_record import read_record
from recbole_margo.training.checkpoint import read_trained


@dataclass(frozen=True)
class TrainedRun:
    """A finished run of one model.

    Args:
        folder: its folder, which holds `result.json` and `checkpoint.pth`.
        record: its result record.
    """

    folder: Path
    record: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> TrainedRun:
        """Read the result record of a folder.

        Raises:
            CheckpointError: if there is none, it is damaged, or the run did not finish.
        """
        return cls(folder, read_record(folder / RESULT))

    @property
    def label(self) -> str:
        """What the run is called: its folder's name, which is the model's, or an ablation's."""
        return self.folder.name

    @property
    def model_name(self) -> str:
        """Name of the model."""
        return str(self.record["model"])

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.record["seed"])

    @cached_property
    def config(self) -> Config:
        """The config of the run, on the device that this machine has."""
        return config_from_checkpoint(with_data_found(self.record["config"], self.folder))

    @cached_property
    def loaders(self) -> tuple[Any, Any, Any]:
        """The loaders of training, validation and test, split as they were.

        Raises:
            CheckpointError: if the interactions are not those of the run.
        """
        loaders = load_split(self.config)
        found = split_fingerprint(*loaders)
        if found != self.record["split"]:
            raise CheckpointError(
                f"{self.folder}: expected the interactions that the model was trained and tested "
                f"on (split {self.record['split']}), found others ({found}) in the dataset "
                f"{self.record['dataset']!r}: put the files back, or train again"
            )
        return loaders

    @property
    def dataset(self) -> Any:
        """RecBole's training `Dataset`."""
        return self.loaders[0]._dataset

    def load_model(self, stage: str | None = None) -> Any:
        """Build the model with the parameters of its best epoch, in evaluation mode.

        Args:
            stage: a stage before the last one; none: the last one, which is the result.

        Returns:
            One of our models, on its device.

        Raises:
            CheckpointError: if the model is not one of ours, the checkpoint is missing or damaged,
                or the feature files changed since.
        """
        model_class = self.config.model_class
        if not issubclass(model_class, MultimodalRecommender):
            raise CheckpointError(f"{self.folder}: {self.model_name} is not a multimodal model")
        name = CHECKPOINT if stage is None else f"{Path(CHECKPOINT).stem}-{stage}.pth"
        state = read_trained(self.folder / name, self.config["device"])
        model: Any = model_class(self.config, self.dataset).to(self.config["device"])
        if state["feature_checksums"] != model.feature_checksums:
            raise CheckpointError(
                f"{self.folder}: the feature files changed since the model was trained: put them "
                "back, or train again"
            )
        load_into(model, state, self.folder / name)
        model.eval()
        return model


def find_runs(folder: str | Path) -> list[TrainedRun]:
    """Return the finished runs in a folder.

    Args:
        folder: of one model, of a run of `train`, or of a comparison with its `seed-*` folders.

    Returns:
        The runs, sorted by folder.

    Raises:
        CheckpointError: if there is none.
    """
    root = Path(folder)
    patterns = (RESULT, f"*/{RESULT}", f"seed-*/*/{RESULT}")
    found = sorted({path.parent for pattern in patterns for path in root.glob(pattern)})
    if not found:
        raise CheckpointError(
            f"{root} holds no finished run: expected {RESULT} in it, in a folder per model or in "
            "seed-<seed>/<model>; train one with `recbole-margo train --output_dir=...`"
        )
    return [TrainedRun.read(path) for path in found]
