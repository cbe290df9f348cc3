"""Checkpoints of tensors and plain values only, and what a run needs to resume from one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recbole_margo.checkpoint_file.opcodes import RefusalError
from recbole_margo.checkpoint_file.reading import checkpoint_in
from recbole_margo.checkpoint_file.schema import TrainerState, check_format
from recbole_margo.data.protocol import split_fingerprint
from recbole_margo.errors import CheckpointError, TrainingError
from recbole_margo.store.writing import FULL, replacing

# Key of the fingerprint of the run's three parts.
SPLIT_FINGERPRINT = "split_fingerprint"


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint so that the file is either the old or the new one, never half of it.

    Raises:
        TrainingError: the disk is full.
    """
    with reporting_full_disk(path, path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            torch.save(state, temporary)


def read_checkpoint(path: Path, device: Any = "cpu") -> dict[str, Any]:
    """Read one of our checkpoints as data: nothing that it names is called.

    torch's own safe loader calls a few functions with what the file says, and with one of them a
    small file fills the memory.

    Raises:
        CheckpointError: if the file is missing, damaged, not ours or of a newer format.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        state = checkpoint_in(path, device)
    except RefusalError as error:
        raise CheckpointError(
            f"{path} cannot be loaded safely as a checkpoint of recbole-margo: it {error}"
        ) from error
    found: dict[str, Any] = state if isinstance(state, dict) else {}
    check_format(found, path)
    return found


def read_trained(path: Path, device: Any = "cpu") -> TrainerState:
    """Read one of our checkpoints; a `CheckpointError` names a field that is missing or wrong."""
    return TrainerState.from_plain(read_checkpoint(path, device), path)


def read_resumable(path: Path, model: str, device: Any) -> TrainerState:
    """Read the last state of an interrupted run, a `...-last.pth` file.

    Raises:
        CheckpointError: if the file does not hold such a state or is of another model.
    """
    state = read_trained(path, device)
    if state.random_states is None:
        raise CheckpointError(
            f"{path} holds the best parameters, not a state to resume from: "
            f"give the file beside it that ends in -last{path.suffix}"
        )
    if state.config["model"] != model:
        raise CheckpointError(f"{path} is of model {state.config['model']}, not {model}")
    if state.best_state is None:
        raise CheckpointError(f"{path}: expected `best_state`, found no such field")
    return state


def id_maps(dataset: Any) -> dict[str, list[str]]:
    """Return the tokens of users and items by internal id, PAD first."""
    return {
        "user_tokens": [str(token) for token in dataset.field2id_token[dataset.uid_field]],
        "item_tokens": [str(token) for token in dataset.field2id_token[dataset.iid_field]],
    }


@dataclass(frozen=True)
class TrainingData:
    """The data that a model is trained on, as checkpoints describe them; tokens by internal id."""

    split: str
    modalities: list[str]
    feature_checksums: dict[str, str]
    user_tokens: list[str]
    item_tokens: list[str]

    @classmethod
    def of(cls, model: Any, loader: Any) -> TrainingData:
        """Describe what a training loader and a multimodal model have."""
        modalities, checksums = list(model.modalities), dict(model.feature_checksums)
        maps = id_maps(loader._dataset)
        return cls(split_fingerprint(loader), modalities, checksums, **maps)

    def require_same(self, stored: TrainerState) -> None:
        """Raise a `CheckpointError` if the data of an interrupted run differ; it says how."""
        for name in ("user_tokens", "item_tokens"):
            before, now = getattr(stored, name), getattr(self, name)
            if before != now:
                raise CheckpointError(
                    f"the {name.replace('_', ' ')} of the checkpoint ({len(before) - 1}) are "
                    f"not those of the dataset ({len(now) - 1}): resume with the same data"
                )
        if stored.split != self.split:
            raise CheckpointError(
                "the training interactions are not those of the checkpoint: resume with the same "
                "data and the same split"
            )
        if stored.feature_checksums != self.feature_checksums:
            raise CheckpointError(
                "the feature files, `feature_reduction` or `feature_precision` changed since the "
                "checkpoint was written: resume with the same features, or start a new run"
            )


# How torch says that its archive cannot be written; the reason of the system is not in it.
ARCHIVE_WRITER = ("inline_container", "PytorchStreamWriter", "PyTorchFileWriter")


@contextmanager
def reporting_full_disk(path: Path, run_folder: Path) -> Iterator[None]:
    """Turn the errors of writing to a full disk into one of ours.

    Args:
        path: the file or folder that is written, for the message.
        run_folder: of the model's run, in the folder of a run or of a seed of a comparison.

    Raises:
        TrainingError: there is no space.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError):
            is_full = error.errno in FULL
        else:
            is_full = any(name in str(error) for name in ARCHIVE_WRITER)
        if not is_full:
            raise
        above = run_folder.parent
        root = above.parent if above.name.startswith("seed-") else above
        where = getattr(error, "filename", None) or path
        raise TrainingError(
            f"{where} cannot be written: the disk is full, or a limit on files is reached. What "
            f"was saved before is whole: free some space, then continue with --resume={root}"
        ) from error
