"""The optimiser that takes a step in one kernel moves as RecBole's does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from recbole.trainer import Trainer

from recbole_margo.testing import prepare, random_world
from recbole_margo.training.trainer import MultimodalTrainer


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return random_world().write(tmp_path)


@pytest.mark.parametrize("learner", ["adam", "adamw"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_fused_step_is_recboles_up_to_rounding(root, monkeypatch, learner, weight_decay):
    settings = {"learner": learner, "weight_decay": weight_decay, "clip_grad_norm": {"max_norm": 1}}
    states = []
    for fused in (True, False):
        if not fused:
            monkeypatch.setattr(MultimodalTrainer, "_build_optimizer", Trainer._build_optimizer)
        experiment = prepare(root, "MARGO", **settings)
        # Adam divides by the size of a gradient, so that rounding shows where it is nearly zero.
        trainer = experiment.trainer()
        trainer.fit(experiment.loaders[0], verbose=False)
        assert {group["fused"] or False for group in trainer.optimizer.param_groups} == {fused}
        states.append(experiment.model.state_dict())
    moved = prepare(root, "MARGO", **settings).model.state_dict()
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(value, moved[name], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("learner", ["sgd", "adagrad", "rmsprop"])
def test_other_optimisers_are_recboles(root, learner):
    experiment = prepare(root, "MARGO", learner=learner, epochs=1)
    trainer = experiment.trainer()
    trainer.fit(*experiment.loaders[:2], verbose=False)
    assert not any(group.get("fused") for group in trainer.optimizer.param_groups)
