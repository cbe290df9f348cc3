"""A run that is interrupted and resumed, beside one that is not, and the comparison of the two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.utils import init_seed

from recbole_margo.testing.experiments import Experiment, prepare

# Patches an experiment and its trainer so that their run ends in a KeyboardInterrupt.
Interruption = Callable[[Experiment, Any, pytest.MonkeyPatch], None]
EPOCHS = 3


def build_run(
    root: Path, folder: Path, model: str | type[Any], **settings: Any
) -> tuple[Experiment, Any]:
    """Return an experiment of `prepare` and its trainer, which writes into a folder."""
    settings = {"epochs": EPOCHS, "stopping_step": 1, **settings}
    experiment = prepare(root, model, checkpoint_dir=str(folder), **settings)
    trainer = experiment.trainer()
    trainer.saved_model_file = str(folder / "checkpoint.pth")
    return experiment, trainer


def fit_run(experiment: Experiment, trainer: Any, validations: list[tuple[int, float]]) -> None:
    """Train, and append the epoch and the score of every validation to a list."""
    trainer.fit(
        *experiment.loaders[:2],
        verbose=False,
        callback_fn=lambda epoch, score: validations.append((epoch, score)),
    )


def outcome(
    experiment: Experiment, trainer: Any, validations: list[tuple[int, float]]
) -> dict[str, Any]:
    """Return all that a run leaves behind, without times and paths."""
    files = {}
    for file in sorted(Path(trainer.saved_model_file).parent.glob("*.pth")):
        state = torch.load(file, weights_only=True)
        del state["config"]
        for stage in state["stages"]:
            del stage["seconds"]
        files[file.name] = state
    stages = [asdict(stage) for stage in trainer.progress]
    for stage in stages:
        del stage["seconds"]
        best = str(trainer.stage_model_file(stage["name"]))
        stage["test"] = trainer.evaluate_unrounded(experiment.loaders[2], best)
    return {
        "parameters": dict(experiment.model.state_dict()),
        "scores": torch.from_numpy(experiment.all_scores()),
        "stages": stages,
        "validations": validations,
        "files": files,
    }


def assert_same(one: Any, other: Any, path: str = "") -> None:
    """Fail where two outcomes differ in a bit, a type or a key, and name the path to it."""
    assert type(one) is type(other), path
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_same(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for number, parts in enumerate(zip(one, other, strict=True)):
            assert_same(*parts, f"{path}/{number}")
    else:
        assert one == other, path


def uninterrupted(
    root: Path, folder: Path, model: str | type[Any], **settings: Any
) -> dict[str, Any]:
    """Return the outcome of a run from its beginning to its end; see `build_run`."""
    experiment, trainer = build_run(root, folder, model, **settings)
    validations: list[tuple[int, float]] = []
    fit_run(experiment, trainer, validations)
    return outcome(experiment, trainer, validations)


def interrupted(
    root: Path,
    folder: Path,
    model: str | type[Any],
    *interruptions: Interruption,
    **settings: Any,
) -> dict[str, Any]:
    """Return the outcome of a run that is interrupted and resumed.

    After every interruption all is built anew, as in a new process with other random states.

    Args:
        settings: keys that differ from those of `build_run`.
    """
    validations: list[tuple[int, float]] = []
    experiment, trainer = build_run(root, folder, model, **settings)
    for interruption in interruptions:
        with pytest.MonkeyPatch.context() as patch:
            interruption(experiment, trainer, patch)
            with pytest.raises(KeyboardInterrupt):
                fit_run(experiment, trainer, validations)
        last = trainer.last_model_file
        init_seed(99, True)
        experiment, trainer = build_run(root, folder, model, **settings)
        init_seed(98, True)
        trainer.resume_checkpoint(last)
    fit_run(experiment, trainer, validations)
    return outcome(experiment, trainer, validations)


def at_batch(number: int) -> Interruption:
    """Interrupt instead of the loss of a batch, counted from 0 over the whole run."""

    def interrupt(experiment: Experiment, trainer: Any, patch: pytest.MonkeyPatch) -> None:
        original = experiment.model.calculate_loss
        calls: list[int] = []

        def calculate_loss(interaction: Any) -> Any:
            if len(calls) == number:
                raise KeyboardInterrupt
            calls.append(1)
            return original(interaction)

        patch.setattr(experiment.model, "calculate_loss", calculate_loss)

    return interrupt
