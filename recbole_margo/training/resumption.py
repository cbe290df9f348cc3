"""What the state of an interrupted run must be for a run to go on from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_margo.checkpoint_file.schema import check_resumable
from recbole_margo.errors import CheckpointError
from recbole_margo.training.checkpoint import read_trained


def read_resumable(path: Path, model: str, device: Any) -> dict[str, Any]:
    """Read the last state of an interrupted run.

    Args:
        path: a `...-last.pth` file.
        model: name of the model that goes on.
        device: where the tensors go.

    Returns:
        The state.

    Raises:
        CheckpointError: if the file does not hold such a state or is of another model.
    """
    state = read_trained(path, device)
    if "random_states" not in state:
        raise CheckpointError(
            f"{path} holds the best parameters, not a state to resume from: "
            f"give the file beside it that ends in -last{path.suffix}"
        )
    if state["config"]["model"] != model:
        raise CheckpointError(f"{path} is of model {state['config']['model']}, not {model}")
    check_resumable(state, path)
    return state


def check_same_data(stored: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Refuse to go on with other data than an interrupted run had.

    Args:
        stored: the state of the run.
        present: the same keys of the run that goes on: `user_tokens`, `item_tokens`, `split` and
            `feature_checksums`.

    Raises:
        CheckpointError: says what differs.
    """
    for name in ("user_tokens", "item_tokens"):
        if stored[name] != present[name]:
            raise CheckpointError(
                f"the {name.replace('_', ' ')} of the checkpoint ({len(stored[name]) - 1}) are "
                f"not those of the dataset ({len(present[name]) - 1}): resume with the same data"
            )
    if stored["split"] != present["split"]:
        raise CheckpointError(
            "the training interactions are not those of the checkpoint: resume with the same "
            "data and the same split"
        )
    if stored["feature_checksums"] != present["feature_checksums"]:
        raise CheckpointError(
            "the feature files, `feature_reduction` or `feature_precision` changed since the "
            "checkpoint was written: resume with the same features, or start a new run"
        )
