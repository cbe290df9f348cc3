from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
import torch

from recbole_margo.training.stages import CHECK_EVERY, EpochLosses, StageProgress


def play(scores: list[float], bigger_is_better: bool = True, patience: int = 10) -> StageProgress:
    stage = StageProgress("stage1")
    for score in scores:
        if stage.finished:
            break
        stage.epochs += 1
        stage.record(score, {"recall@5": score}, bigger_is_better, patience)
    return stage


def test_a_tie_is_no_improvement():
    stage = play([0.2, 0.2, 0.2])
    assert (stage.best_epoch, stage.waited) == (0, 2)


def test_the_last_digit_counts():
    stage = play([0.2, 0.2 + 1e-15])
    assert (stage.best_epoch, stage.best_score, stage.waited) == (1, 0.2 + 1e-15, 0)


def test_an_improvement_starts_the_waiting_anew():
    stage = play([0.1, 0.05, 0.05, 0.2, 0.1])
    assert (stage.best_epoch, stage.waited, stage.best_result) == (3, 1, {"recall@5": 0.2})


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_one_more_than_the_patience_ends_the_stage(patience):
    stage = play([0.3] + [0.1] * 9, patience=patience)
    assert stage.finished
    assert stage.epochs == 1 + patience + 1


def test_smaller_may_be_better():
    stage = play([0.5, 0.4, 0.4, 0.6], bigger_is_better=False)
    assert (stage.best_epoch, stage.waited) == (1, 2)


def test_a_score_that_is_no_number_never_is_the_best():
    stage = play([float("nan"), 0.1, float("nan")])
    assert (stage.best_epoch, stage.best_score, stage.waited) == (1, 0.1, 1)


def test_it_survives_a_checkpoint():
    stage = play([0.1, 0.2, 0.1])
    stage.figures, stage.seconds = {"weight_mean/text": 0.5}, 1.5
    assert StageProgress(**json.loads(json.dumps(asdict(stage)))) == stage


def add(losses: EpochLosses, *values: float) -> bool:
    return losses.add([torch.tensor(value, requires_grad=True) for value in values])


def test_means_over_the_batches():
    losses = EpochLosses(["a", "b"])
    add(losses, 1.0, 10.0)
    add(losses, 2.0, 20.0)
    assert losses.first_failure() is None
    add(losses, 6.0, 60.0)
    assert losses.first_failure() is None
    assert losses.means() == {"a": 3.0, "b": 30.0}


def test_no_batches():
    losses = EpochLosses(["a"])
    assert losses.first_failure() is None
    assert losses.means() == {"a": 0.0}


def test_it_asks_for_a_check_now_and_then():
    losses = EpochLosses(["a"])
    due = []
    for _ in range(2 * CHECK_EVERY):
        due.append(add(losses, 1.0))
        if due[-1]:
            losses.first_failure()
    assert [number for number, now in enumerate(due, 1) if now] == [CHECK_EVERY, 2 * CHECK_EVERY]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_term_that_is_no_number_is_named(value):
    losses = EpochLosses(["a", "b"])
    for _ in range(3):
        add(losses, 1.0, 1.0)
    assert losses.first_failure() is None
    add(losses, 1.0, 1.0)
    add(losses, 1.0, value)
    add(losses, value, value)
    batch, name, found = losses.first_failure()
    assert (batch, name) == (4, "b")
    assert found == value or (math.isnan(found) and math.isnan(value))
