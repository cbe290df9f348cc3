"""The curves of our trainer lie over those of RecBole's: names, steps and values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recbole.trainer import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recbole_margo.testing import Experiment, prepare, random_world
from recbole_margo.training.outputs import tensorboard_in

SETTINGS = {"epochs": 4, "eval_step": 2, "weight_decay": 0.0, "train_batch_size": 16}


class WandB:
    """Takes the place of RecBole's W&B logger."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def log_metrics(self, metrics: dict[str, Any], head: str) -> None:
        self.lines.append((head, metrics))

    def log_eval_metrics(self, metrics: dict[str, Any], head: str) -> None:
        pass


def fit(root: Path, model: str, trainer_class: type | None = None) -> tuple[Any, Any]:
    """Train and return scalar name -> step -> value of the event files, and the W&B lines.

    A model of ours has losses that do not hang on order and negatives, and that teach nothing.
    """
    experiment = prepare(root, model, **SETTINGS)
    if model != "BPR":
        teach_nothing(experiment)
    folder = root / f"events-{model}-{trainer_class}"
    with tensorboard_in(folder):
        trainer = (
            trainer_class(experiment.config, experiment.model)
            if trainer_class
            else experiment.trainer()
        )
    wandb = trainer.wandblogger = WandB()
    if hasattr(trainer, "_epoch_log"):
        trainer._epoch_log.wandb = wandb
    trainer.fit(*experiment.loaders[:2], verbose=False, saved=False)
    trainer.tensorboard.close()
    found: dict[str, dict[int, float]] = {}
    for place in {path.parent for path in folder.rglob("events*")}:
        events = EventAccumulator(str(place))
        events.Reload()
        for name in events.Tags()["scalars"]:
            found[name] = {each.step: each.value for each in events.Scalars(name)}
    return found, wandb.lines


def teach_nothing(experiment: Experiment) -> None:
    """Let the losses be sums over users and rows of the batch, without any gradient."""
    model = experiment.model

    def calculate_loss(interaction: Any) -> tuple[Any, ...]:
        nothing = sum(parameter.sum() for parameter in model.parameters()) * 0.0
        users = interaction[model.USER_ID]
        return nothing + users.sum() * 0.01, nothing + float(len(users))

    model.calculate_loss = calculate_loss


def test_both_trainers_write_the_same_curves(tmp_path: Path) -> None:
    root = random_world(2).write(tmp_path)
    theirs, their_lines = fit(root, "VBPR", Trainer)
    ours, our_lines = fit(root, "VBPR")
    assert {"Loss/Train0", "Loss/Train1", "Vaild_score"} <= set(theirs)
    assert theirs["Loss/Train1"] == dict.fromkeys(range(4), 80.0)  # rows of the train part
    assert sorted(theirs["Vaild_score"]) == [1, 3]
    for name, curve in theirs.items():
        assert ours[name] == pytest.approx(curve, abs=1e-4), name  # RecBole rounds to 4 decimals

    assert [head for head, _ in our_lines] == [head for head, _ in their_lines]
    for (head, mine), (_, other) in zip(our_lines, their_lines, strict=True):
        assert set(other) <= set(mine)
        step = f"{head}_step"
        assert mine[step] == other[step]
        for name, value in other.items():
            expected = sum(value) if isinstance(value, tuple) else value
            assert mine[name] == pytest.approx(expected, abs=1e-4), name
    assert [line["valid_step"] for head, line in our_lines if head == "valid"] == [0, 1]


def test_the_whole_loss_lies_over_that_of_recboles_models(tmp_path: Path) -> None:
    root = random_world(2).write(tmp_path)
    theirs, _ = fit(root, "BPR")
    ours, _ = fit(root, "VBPR")
    assert sorted(ours["Loss/Train"]) == sorted(theirs["Loss/Train"]) == [0, 1, 2, 3]
    terms = ours["Loss/Train0"], ours["Loss/Train1"]
    assert ours["Loss/Train"] == pytest.approx(
        {epoch: terms[0][epoch] + terms[1][epoch] for epoch in range(4)}
    )


def test_steps_go_on_through_the_stages(tmp_path: Path) -> None:
    root = random_world(2).write(tmp_path)
    experiment = prepare(root, "MARGO", **SETTINGS)
    with tensorboard_in(tmp_path / "events"):
        trainer = experiment.trainer()
    wandb = trainer._epoch_log.wandb = WandB()
    trainer.fit(*experiment.loaders[:2], verbose=False, saved=False)
    steps = [line["train_step"] for head, line in wandb.lines if head == "train"]
    validations = [line["valid_step"] for head, line in wandb.lines if head == "valid"]
    assert (steps, validations) == (list(range(8)), list(range(4)))
