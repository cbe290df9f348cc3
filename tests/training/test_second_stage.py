"""How MARGO's second stage may begin: with the optimiser of the first, and the weights ahead."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_margo.errors import CheckpointError
from recbole_margo.studies.comparison.command import COMPARISON
from recbole_margo.studies.comparison.plan import ComparisonPlan
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.testing import NAME, SETTINGS, random_world, small_settings
from recbole_margo.testing.interruption import (
    Interruption,
    assert_same,
    at_batch,
    build_run,
    fit_run,
    interrupted,
    uninterrupted,
)

BATCHES = 5  # 80 training rows in batches of 16
GENTLE = {"keep_optimizer": True, "weight_warmup_epochs": 2, "evidence_scale": "standardized"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_world().without({"image": ("i1",)}).write(tmp_path_factory.mktemp("world"))


def started(root: Path, folder: Path, **settings: Any) -> Any:
    """Return the trainer of a run that is interrupted before the first batch of stage 2."""
    experiment, trainer = build_run(root, folder, "MARGO", **settings)
    original = experiment.model.calculate_loss

    def calculate_loss(interaction: Any) -> Any:
        if experiment.model.stage == "stage2":
            raise KeyboardInterrupt
        return original(interaction)

    experiment.model.calculate_loss = calculate_loss
    with pytest.raises(KeyboardInterrupt):
        fit_run(experiment, trainer, [])
    return trainer


# --- the optimiser --------------------------------------------------------------------------------


def kept_by_name(model: Any, optimizer: Any) -> dict[str, Any]:
    return {
        name: dict(optimizer.state[parameter])
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
    }


@pytest.mark.parametrize("learner", ["adam", "adagrad"])
def test_stage_2_goes_on_with_the_state_of_the_best_epoch(root, tmp_path, learner):
    trainer = started(root, tmp_path, keep_optimizer=True, learner=learner, epochs=4)
    kept = kept_by_name(trainer.model, trainer.optimizer)
    # The best epoch's checkpoint holds the state by the places of the parameters.
    best = torch.load(tmp_path / "checkpoint-stage1.pth")
    assert 0 <= best["epoch"] < 3, "the best epoch must not be the last"
    names = [n for n, _ in trainer.model.named_parameters() if n != "weight_logits"]
    expected = {names[place]: state for place, state in best["optimizer"]["state"].items()}
    if learner == "adagrad":  # It has a state of the new logits from the start.
        del kept["weight_logits"]
    assert kept.keys() == expected.keys() == set(names)
    assert_same(kept, expected)
    assert all((state["step"] == BATCHES * (best["epoch"] + 1)).all() for state in kept.values())


def test_as_published_it_begins_with_a_new_one(root, tmp_path):
    trainer = started(root, tmp_path)
    assert not trainer.optimizer.state
    assert "best_moments" not in torch.load(tmp_path / "checkpoint-last.pth")


def test_runs_that_keep_it_share_a_first_stage_with_the_numbers_of_each_alone(
    root, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    settings = {**SETTINGS, **small_settings("MARGO"), "data_path": str(root), "epochs": 4}
    entries = [
        Entry("one", "MARGO", GENTLE),
        Entry("two", "MARGO", {**GENTLE, "alpha": 0.0}),
        Entry("three", "MARGO", {**GENTLE, "weight_warmup_epochs": 0}),
    ]
    COMPARISON.begin(ComparisonPlan.of(entries, NAME, [1], settings), "together")
    for entry in entries:
        COMPARISON.begin(ComparisonPlan.of([entry], NAME, [1], settings), entry.label)
        found = [
            json.loads(Path(folder, "seed-1", entry.label, "result.json").read_text())["stages"]
            for folder in ("together", entry.label)
        ]
        for stages in found:
            for stage in stages:
                del stage["seconds"]
        assert found[0] == found[1]


def test_a_state_that_does_not_fit_is_refused(root, tmp_path):
    experiment, trainer = build_run(root, tmp_path, "MARGO", keep_optimizer=True)
    with pytest.MonkeyPatch.context() as patch:
        at_batch(2 * BATCHES)(experiment, trainer, patch)
        with pytest.raises(KeyboardInterrupt):
            fit_run(experiment, trainer, [])
    state = torch.load(trainer.last_model_file)
    name = "backbone.user_preference.0"
    state["best_moments"][name]["exp_avg"] = torch.zeros(3)
    torch.save(state, trainer.last_model_file)
    experiment, again = build_run(root, tmp_path, "MARGO", keep_optimizer=True)
    again.resume_checkpoint(trainer.last_model_file)
    with pytest.raises(CheckpointError, match="of another shape"):
        fit_run(experiment, again, [])
    torch.save({**state, "best_moments": {name: 3}}, trainer.last_model_file)
    with pytest.raises(CheckpointError, match="`best_moments`: expected what the optimiser kept"):
        again.resume_checkpoint(trainer.last_model_file)


# --- the warm-up ----------------------------------------------------------------------------------


@pytest.mark.parametrize("learner", ["adam", "sgd", "rmsprop"])
def test_the_weights_move_alone_for_as_long_as_asked(root, tmp_path, learner):
    experiment, trainer = build_run(
        root, tmp_path, "MARGO", weight_warmup_epochs=2, learner=learner, epochs=4, stopping_step=9
    )
    seen: list[dict[str, torch.Tensor]] = []
    begin_epoch = experiment.model.begin_epoch

    def watching(epoch: int) -> None:
        begin_epoch(epoch)
        if experiment.model.stage == "stage2":
            seen.append({n: p.detach().clone() for n, p in experiment.model.named_parameters()})

    experiment.model.begin_epoch = watching
    fit_run(experiment, trainer, [])
    assert len(seen) == 4
    for epoch, (before, after) in enumerate(pairwise(seen)):
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == ({"weight_logits"} if epoch < 2 else set(before))


def test_without_a_first_stage_nothing_is_frozen(root, tmp_path):
    experiment, _ = build_run(root, tmp_path, "MARGO", weight_warmup_epochs=2, two_stage=False)
    experiment.model.begin_stage("stage2")
    assert not any("frozen_epochs" in g for g in experiment.model.parameter_groups(0.1))


# --- interruptions --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole")
    expected = uninterrupted(root, folder / "saved", "MARGO", **GENTLE, epochs=4, stopping_step=9)
    assert [stage["epochs"] for stage in expected["stages"]] == [4, 4]
    return expected


STAGE_1 = 4 * BATCHES


@pytest.mark.parametrize(
    "interruptions",
    [
        [at_batch(0)],
        [at_batch(BATCHES + 2)],
        [at_batch(STAGE_1)],
        [at_batch(STAGE_1 + BATCHES + 2)],
        [at_batch(STAGE_1 + 2 * BATCHES)],
        [at_batch(STAGE_1 + 3 * BATCHES + 1)],
        [at_batch(3 * BATCHES + 1), at_batch(BATCHES + 1), at_batch(2 * BATCHES)],
    ],
    ids=[
        "before anything",
        "within stage 1",
        "between the stages",
        "within the warm-up",
        "at its end",
        "after it",
        "three times",
    ],
)
def test_an_interrupted_run_equals_the_whole_one(
    root: Path, tmp_path: Path, whole_run: dict[str, Any], interruptions: list[Interruption]
) -> None:
    found = interrupted(
        root, tmp_path / "saved", "MARGO", *interruptions, **GENTLE, epochs=4, stopping_step=9
    )
    assert_same(found, whole_run)
