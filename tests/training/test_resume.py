"""An interrupted run that is resumed equals the uninterrupted one, bit for bit."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recbole_margo.errors import CheckpointError
from recbole_margo.testing import Experiment, random_world
from recbole_margo.testing.interruption import (
    EPOCHS,
    Interruption,
    assert_same,
    at_batch,
    build_run,
    fit_run,
    interrupted,
    outcome,
    uninterrupted,
)
from recbole_margo.training import trainer as trainer_module

WORLD = random_world().without({"image": ("i1", "i4"), "text": ("i2",)})
BATCHES = 5  # 80 training rows in batches of 16


def at_validation(number: int) -> Interruption:
    """Interrupt instead of a validation, counted from 0 over the whole run."""

    def interrupt(experiment: Experiment, trainer: Any, patch: pytest.MonkeyPatch) -> None:
        original, calls = trainer.evaluate_unrounded, []

        def evaluate(*arguments: Any, **others: Any) -> Any:
            if len(calls) == number:
                raise KeyboardInterrupt
            calls.append(1)
            return original(*arguments, **others)

        patch.setattr(trainer, "evaluate_unrounded", evaluate)

    return interrupt


def at_write(number: int) -> Interruption:
    """Interrupt instead of the writing of a checkpoint, counted from 0 over the whole run."""

    def interrupt(experiment: Experiment, trainer: Any, patch: pytest.MonkeyPatch) -> None:
        original, calls = trainer_module.write_checkpoint, []

        def write(path: Path, state: dict[str, Any]) -> None:
            if len(calls) == number:
                raise KeyboardInterrupt
            calls.append(1)
            original(path, state)

        patch.setattr(trainer_module, "write_checkpoint", write)

    return interrupt


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WORLD.write(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def whole_run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        expected = uninterrupted(root, Path("saved").absolute(), "MARGO")
    epochs = [stage["epochs"] for stage in expected["stages"]]
    assert min(epochs) >= 2, "the points of interruption below need two epochs a stage"
    return expected


STAGE_1 = BATCHES * EPOCHS


@pytest.mark.parametrize(
    "interruptions",
    [
        [at_batch(0)],
        [at_batch(BATCHES + 2)],
        [at_batch(2 * BATCHES)],
        [at_validation(0)],
        [at_validation(1)],
        [at_write(1)],
        [at_write(2)],
        [at_batch(2), at_batch(2 * BATCHES - 1), at_batch(1)],
    ],
    ids=[
        "before anything",
        "within an epoch",
        "between two epochs",
        "at the first validation",
        "at a validation",
        "at writing the best epoch",
        "at writing the last epoch",
        "three times",
    ],
)
def test_margo_interrupted_in_stage_1(root, tmp_path, whole_run, interruptions):
    assert_same(interrupted(root, tmp_path / "saved", "MARGO", *interruptions), whole_run)


def in_stage_2(interruption: Callable[[int], Interruption], number: int) -> Interruption:
    """Interrupt at a batch, validation or writing that is counted from the start of stage 2."""

    def interrupt(experiment: Experiment, trainer: Any, patch: pytest.MonkeyPatch) -> None:
        begin_stage = experiment.model.begin_stage

        def beginning(stage: str) -> None:
            begin_stage(stage)
            if stage == "stage2":
                interruption(number)(experiment, trainer, patch)

        patch.setattr(experiment.model, "begin_stage", beginning)

    return interrupt


@pytest.mark.parametrize(
    "interruptions",
    [
        [in_stage_2(at_write, 0)],
        [in_stage_2(at_batch, 0)],
        [in_stage_2(at_batch, 3)],
        [in_stage_2(at_batch, 2 * BATCHES - 1)],
        [in_stage_2(at_validation, 0)],
        [in_stage_2(at_validation, 1)],
        [at_batch(3), in_stage_2(at_batch, BATCHES + 1), at_batch(0)],
    ],
    ids=[
        "between the stages",
        "before its first batch",
        "within its first epoch",
        "within its second epoch",
        "at its first validation",
        "at a validation",
        "in both stages",
    ],
)
def test_margo_interrupted_in_stage_2(root, tmp_path, whole_run, interruptions):
    assert_same(interrupted(root, tmp_path / "saved", "MARGO", *interruptions), whole_run)


@pytest.mark.parametrize(
    "settings",
    [
        {"weight_learning_rate": 0.1},
        {"learner": "adagrad"},
        {"evidence": "held_out"},
    ],
    ids=str,
)
def test_other_settings_interrupted_within_an_epoch(root, tmp_path, settings):
    settings = {"epochs": 2, **settings}
    expected = uninterrupted(root, tmp_path / "whole", "MARGO", **settings)
    found = interrupted(root, tmp_path / "parts", "MARGO", at_batch(BATCHES + 2), **settings)
    assert_same(found, expected)


def test_a_finished_run_resumed_changes_nothing(root, tmp_path, whole_run):
    folder = tmp_path / "saved"
    expected = uninterrupted(root, folder, "MARGO")
    experiment, trainer = build_run(root, folder, "MARGO")
    trainer.resume_checkpoint(trainer.last_model_file)
    fit_run(experiment, trainer, expected["validations"])
    assert_same(outcome(experiment, trainer, expected["validations"]), whole_run)


def test_a_resumed_run_writes_beside_its_checkpoint(root, tmp_path):
    folder = tmp_path / "saved"
    experiment, trainer = build_run(root, folder, "MARGO")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        at_batch(2)(experiment, trainer, patch)
        fit_run(experiment, trainer, [])
    experiment, trainer = build_run(root, tmp_path / "elsewhere", "MARGO")
    trainer.resume_checkpoint(folder / "checkpoint-last.pth")
    fit_run(experiment, trainer, [])
    assert (folder / "checkpoint.pth").is_file()
    assert not list((tmp_path / "elsewhere").glob("*.pth"))


def test_an_interruption_says_how_to_go_on(root, tmp_path, caplog):
    experiment, trainer = build_run(root, tmp_path / "saved", "MARGO")
    with (
        caplog.at_level(logging.WARNING),
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(KeyboardInterrupt),
    ):
        at_batch(2)(experiment, trainer, patch)
        fit_run(experiment, trainer, [])
    assert f"--resume={tmp_path / 'saved' / 'checkpoint-last.pth'}" in caplog.text


# --- what is refused ------------------------------------------------------------------------------


@pytest.fixture
def stopped(root: Path, tmp_path: Path) -> Path:
    """Return the folder of a run that was interrupted in its second epoch."""
    folder = tmp_path / "stopped"
    experiment, trainer = build_run(root, folder, "MARGO")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        at_batch(BATCHES + 1)(experiment, trainer, patch)
        fit_run(experiment, trainer, [])
    return folder


def resume(root: Path, file: Path, model: str = "MARGO") -> None:
    experiment, trainer = build_run(root, file.parent, model)
    trainer.resume_checkpoint(file)
    fit_run(experiment, trainer, [])


def test_another_model_is_refused(root, stopped):
    with pytest.raises(CheckpointError, match="is of model MARGO, not DRAGON"):
        resume(root, stopped / "checkpoint-last.pth", "DRAGON")


def test_the_best_epoch_is_refused_in_favour_of_the_last(root, stopped):
    with pytest.raises(CheckpointError, match=r"not a state to resume from.*-last\.pth") as caught:
        resume(root, stopped / "checkpoint-stage1.pth")
    assert "stage1-last" not in str(caught.value), "there is no such file"


def test_the_best_epoch_of_the_last_stage_is_refused_too(root, tmp_path):
    uninterrupted(root, tmp_path / "whole", "MARGO", epochs=1)
    with pytest.raises(CheckpointError, match=r"not a state to resume from.*-last\.pth"):
        resume(root, tmp_path / "whole" / "checkpoint.pth")


def test_changed_features_are_refused(root, stopped, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(root, copied)
    changed = {
        modality: {item: row + 1 for item, row in rows.items()}
        for modality, rows in WORLD.features.items()
    }
    type(WORLD)(WORLD.splits, changed).write(copied)
    with pytest.raises(CheckpointError, match=r"feature files, .* changed"):
        resume(copied, stopped / "checkpoint-last.pth")


def test_other_items_are_refused(stopped, tmp_path):
    other = WORLD.with_items_reordered(3).write(tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"item tokens of the checkpoint.*same data"):
        resume(other, stopped / "checkpoint-last.pth")


def test_a_larger_dataset_is_refused(stopped, tmp_path):
    larger = random_world(users=25).write(tmp_path / "larger")
    with pytest.raises(CheckpointError):
        resume(larger, stopped / "checkpoint-last.pth")


def test_other_interactions_of_the_same_users_and_items_are_refused(stopped, tmp_path):
    """The order of first appearance, and so the ids, are the same; the training rows are not."""
    splits = {split: list(pairs) for split, pairs in WORLD.splits.items()}
    splits["train"].append(("u0", "i14") if ("u0", "i14") not in splits["train"] else ("u0", "i13"))
    other = type(WORLD)(splits, WORLD.features).write(tmp_path / "other")
    with pytest.raises(CheckpointError):
        resume(other, stopped / "checkpoint-last.pth")


def test_a_missing_file_is_named(root, tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        resume(root, tmp_path / "saved" / "checkpoint-last.pth")
