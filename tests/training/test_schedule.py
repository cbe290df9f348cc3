"""The learning rate decays with the epochs of a stage, and goes on where a run was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from recbole.utils import init_seed

from recbole_margo.registry import multimodal_models
from recbole_margo.testing import Experiment, prepare, random_world

BATCHES = 5  # 80 training rows in batches of 16
RATE = 0.01
DECAYING = ("LATTICE", "MICRO", "MGCN")


@pytest.fixture
def root(tmp_path) -> Path:
    return random_world().write(tmp_path)


def build(root: Path, model: str, **settings: Any) -> tuple[Experiment, Any]:
    experiment = prepare(root, model, **{"learning_rate": RATE, **settings})
    trainer = experiment.trainer()
    trainer.saved_model_file = str(root / "saved" / "checkpoint.pth")
    return experiment, trainer


def watch_rates(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """Return a list to which every step of Adam adds the rates of its parameter groups."""
    rates: list[list[float]] = []
    step = torch.optim.Adam.step

    def watching(optimizer: Any, *arguments: Any, **others: Any) -> Any:
        rates.append([float(group["lr"]) for group in optimizer.param_groups])
        return step(optimizer, *arguments, **others)

    monkeypatch.setattr(torch.optim.Adam, "step", watching)
    return rates


def fit(experiment: Experiment, trainer: Any, batches: int | None = None) -> None:
    """Train, and interrupt before a batch, counted from 0 from here on, if one is given."""
    original, calls = experiment.model.calculate_loss, []

    def calculate_loss(interaction: Any) -> Any:
        if len(calls) == batches:
            raise KeyboardInterrupt
        calls.append(1)
        return original(interaction)

    experiment.model.calculate_loss = calculate_loss
    if batches is None:
        trainer.fit(*experiment.loaders[:2], verbose=False)
        return
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(*experiment.loaders[:2], verbose=False)


def of_epochs(decay: float, epochs: Sequence[int], rate: float = RATE) -> np.ndarray:
    """Return the rate of every step of some epochs, written out."""
    return np.repeat([rate * decay ** (epoch / 50) for epoch in epochs], BATCHES)


@pytest.mark.parametrize("model", DECAYING)
def test_the_rate_falls_by_four_percent_over_fifty_epochs(root, monkeypatch, model):
    rates = watch_rates(monkeypatch)
    fit(*build(root, model, epochs=4))
    assert_allclose(np.ravel(rates), of_epochs(0.96, range(4)), rtol=1e-12)
    assert len(set(np.ravel(rates))) == 4


@pytest.mark.parametrize("model", multimodal_models())
def test_only_three_models_decay_unless_asked(root, model):
    experiment, _ = build(root, model)
    factor = experiment.model.learning_rate_factor
    assert factor(0) == 1
    assert factor(50) == pytest.approx(0.96 if model in DECAYING else 1.0)
    assert factor(100) == pytest.approx(0.9216 if model in DECAYING else 1.0)


def test_the_rate_is_that_of_the_step_that_is_taken(root):
    """Plain gradient descent moves a parameter by the rate times its gradient."""
    settings = {"learner": "sgd", "learning_rate_decay": 1e-6, "epochs": 4}
    experiment, trainer = build(root, "MGCN", **settings)
    parameter = experiment.model.user_embedding
    found: list[float] = []
    step = torch.optim.SGD.step

    def watching(optimizer: Any, *arguments: Any, **others: Any) -> Any:
        before, gradient = parameter.detach().clone().double(), parameter.grad.clone().double()
        result = step(optimizer, *arguments, **others)
        moved = (before - parameter.detach().double()) * gradient
        found.append((moved.sum() / gradient.square().sum()).item())
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", watching)
        fit(experiment, trainer)
    assert_allclose(found, of_epochs(1e-6, range(4)), rtol=1e-3)


def test_every_stage_and_group_starts_from_its_own_rate(root, monkeypatch):
    rates = watch_rates(monkeypatch)
    settings = {"learning_rate_decay": 0.5, "weight_learning_rate": 0.3, "epochs": 3}
    fit(*build(root, "MARGO", **settings))
    first, second = rates[: 3 * BATCHES], rates[3 * BATCHES :]
    assert_allclose(np.ravel(first), of_epochs(0.5, range(3)), rtol=1e-12)
    expected = [of_epochs(0.5, range(3)), of_epochs(0.5, range(3), rate=0.3)]
    assert_allclose(np.array(second), np.stack(expected, axis=1), rtol=1e-12)


# --- interrupted runs -----------------------------------------------------------------------------


def resumed(root: Path, trainer: Any, model: str, **settings: Any) -> tuple[Experiment, Any]:
    """Return what a new process makes of the last checkpoint."""
    last = trainer.last_model_file
    init_seed(99, True)
    experiment, trainer = build(root, model, **settings)
    trainer.resume_checkpoint(last)
    return experiment, trainer


@pytest.mark.parametrize("model", DECAYING)
@pytest.mark.parametrize(
    ("batches", "epoch"),
    [(0, 0), (2, 0), (BATCHES, 1), (2 * BATCHES + 3, 2)],
    ids=["before anything", "in the first epoch", "between two epochs", "in the third epoch"],
)
def test_an_interrupted_run_goes_on_with_the_rate_of_its_epoch(
    root, monkeypatch, model, batches, epoch
):
    settings = {"epochs": 4, "learning_rate_decay": 0.5}
    experiment, trainer = build(root, model, **settings)
    fit(experiment, trainer, batches)
    rates = watch_rates(monkeypatch)
    fit(*resumed(root, trainer, model, **settings))
    assert_allclose(np.ravel(rates), of_epochs(0.5, range(epoch, 4)), rtol=1e-12)


def test_a_run_interrupted_twice_decays_once_an_epoch(root, monkeypatch):
    settings = {"epochs": 5, "learning_rate_decay": 0.5}
    experiment, trainer = build(root, "MGCN", **settings)
    fit(experiment, trainer, BATCHES + 1)
    experiment, trainer = resumed(root, trainer, "MGCN", **settings)
    fit(experiment, trainer, 2 * BATCHES + 1)
    rates = watch_rates(monkeypatch)
    fit(*resumed(root, trainer, "MGCN", **settings))
    assert_allclose(np.ravel(rates), of_epochs(0.5, [3, 4]), rtol=1e-12)


def test_a_second_stage_interrupted_goes_on_with_the_rates_of_its_own_epoch(root, monkeypatch):
    settings = {"epochs": 3, "learning_rate_decay": 0.5, "weight_learning_rate": 0.3}
    experiment, trainer = build(root, "MARGO", **settings)
    fit(experiment, trainer, (3 + 1) * BATCHES + 2)
    rates = watch_rates(monkeypatch)
    fit(*resumed(root, trainer, "MARGO", **settings))
    expected = [of_epochs(0.5, [1, 2]), of_epochs(0.5, [1, 2], rate=0.3)]
    assert_allclose(np.array(rates), np.stack(expected, axis=1), rtol=1e-12)


@pytest.mark.parametrize("momentum", [True, False])
@pytest.mark.parametrize("model", ["LATTICE", "MICRO"])
def test_an_interrupted_run_ends_with_equal_parameters(root, model, momentum):
    settings = {"epochs": 3, "learning_rate_decay": 0.5, "momentum_between_refreshes": momentum}
    whole, trainer = build(root, model, **settings)
    fit(whole, trainer)
    experiment, trainer = build(root, model, **settings)
    fit(experiment, trainer, BATCHES + 2)
    experiment, trainer = resumed(root, trainer, model, **settings)
    fit(experiment, trainer)
    for name, value in experiment.model.state_dict().items():
        assert torch.equal(value, whole.model.state_dict()[name]), name
