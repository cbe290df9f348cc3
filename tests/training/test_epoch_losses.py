from __future__ import annotations

import math

import pytest
import torch

from recbole_margo.training.epoch_losses import CHECK_EVERY, EpochLosses


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
