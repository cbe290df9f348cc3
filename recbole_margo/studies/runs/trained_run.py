"""Finished runs on disk: the models that they trained and the data that they saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recbole_margo.checkpoint_file.fitting import load_into
from recbole_margo.config import Config
from recbole_margo.data.features import load_item_features
from recbole_margo.data.protocol import split_fingerprint
from recbole_margo.errors import CheckpointError
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.run import load_split
from recbole_margo.run_folder import RESULT, RunFolder, RunResult, with_current_paths
from recbole_margo.training.checkpoint import read_trained


@dataclass(frozen=True)
class TrainedRun:
    """A finished run of one model.

    Args:
        folder: its folder, which holds `result.json` and `checkpoint.pth`.
    """

    folder: Path
    result: RunResult

    @classmethod
    def read(cls, folder: Path) -> TrainedRun:
        """Read the result record of a folder.

        Raises:
            CheckpointError: if there is none, it is damaged, or the run did not finish.
        """
        return cls(folder, RunFolder(folder).read_result())

    @property
    def label(self) -> str:
        """The name of the run: its folder's name, which is the model's, or an ablation's."""
        return self.folder.name

    @property
    def model_name(self) -> str:
        """Name of the model."""
        return self.result.model

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.result.seed

    @cached_property
    def config(self) -> Config:
        """The config of the run, on the device that this machine has."""
        return Config.from_plain(with_current_paths(dict(self.result.config), self.folder))

    @cached_property
    def loaders(self) -> tuple[Any, Any, Any]:
        """The loaders of training, validation and test, split as they were.

        Raises:
            CheckpointError: if the interactions are not those of the run.
        """
        loaders = load_split(self.config)
        found = split_fingerprint(*loaders)
        if found != self.result.split:
            raise CheckpointError(
                f"{self.folder}: expected the interactions that the model was trained and tested "
                f"on (split {self.result.split}), found others ({found}) in the dataset "
                f"{self.result.dataset!r}: put the files back, or train again"
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
        path = RunFolder(self.folder).stage_checkpoint(stage)
        state = read_trained(path, self.config["device"])
        model: Any = model_class(self.config, self.dataset).to(self.config["device"])
        if state.feature_checksums != model.feature_checksums:
            raise CheckpointError(
                f"{self.folder}: the feature files changed since the model was trained: put them "
                "back, or train again"
            )
        load_into(model, state.state_dict, state.other_parameter, path)
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


def dataset_facts(
    results: Sequence[RunResult],
) -> tuple[dict[str, int], dict[str, int], dict[str, list[str]]]:
    """Return how often users and items were trained on, and which items miss which modality.

    Args:
        results: of finished runs on one split, at least one.

    Returns:
        Training interactions by user token and by item token, and the tokens of the items that
        miss a modality by modality; none if no model of the comparison uses features.
    """
    with_features = [run for run in results if run.modalities]
    config = Config.from_plain(dict((with_features or results)[0].config))
    loaders = load_split(config)
    train = loaders[0]._dataset
    missing = {}
    if with_features:
        features = load_item_features(config, train)
        items = train.field2id_token[train.iid_field].astype(str)
        for modality, present in zip(features.modalities, features.mask.T.numpy(), strict=True):
            missing[modality] = [str(token) for token in items[1:][~present[1:]]]
    return _counts(train, train.uid_field), _counts(train, train.iid_field), missing


def _counts(dataset: Any, field: str) -> dict[str, int]:
    tokens = dataset.field2id_token[field].astype(str)
    counts = np.bincount(dataset.inter_feat[field].numpy(), minlength=len(tokens))
    return {str(token): int(count) for token, count in zip(tokens[1:], counts[1:], strict=True)}
