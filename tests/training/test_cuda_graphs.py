"""When a step is captured and when it runs kernel by kernel; the contract runs it on a card."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from recbole.data.interaction import Interaction
from torch.optim import SGD, Adam

from recbole_margo.errors import ConfigError
from recbole_margo.model.base import StepCapture
from recbole_margo.testing import prepare, random_world
from recbole_margo.training import cuda_graphs
from recbole_margo.training.cuda_graphs import WARM_UP_STEPS, CapturedSteps, obstacle

FULL, LAST = 8, 3


class Recorded:
    """Stands in for a graph: notes what it was made of and launched with."""

    made: list[int] = []

    def __init__(self, step, batch, optimizer):
        self.made.append(len(batch["user_id"]))

    def launch(self, batch):
        return "graph", len(batch["user_id"])


class Refused:
    def __init__(self, *_):
        raise RuntimeError("operation not permitted when stream is capturing\nlong story")


@pytest.fixture
def steps(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "_Graph", Recorded)
    monkeypatch.setattr(cuda_graphs, "_beside_the_default_stream", lambda step, batch: step(batch))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    Recorded.made = []
    return CapturedSteps(Adam([torch.nn.Parameter(torch.zeros(1))]))


def eager(batch):
    return "eager", len(batch["user_id"])


def epoch(steps, scope, sizes):
    steps.begin_epoch(scope)
    batches = [Interaction({"user_id": torch.arange(size)}) for size in sizes]
    return [steps.take(eager, batch) for batch in batches]


def test_the_first_steps_and_batches_of_another_size_run_eagerly(steps):
    sizes = [FULL] * (WARM_UP_STEPS + 2) + [LAST]
    found = epoch(steps, StepCapture.STAGE, sizes)
    assert [way for way, _ in found] == ["eager"] * WARM_UP_STEPS + ["graph"] * 2 + ["eager"]
    # No batch is left out or taken twice.
    assert [size for _, size in found] == sizes
    again = epoch(steps, StepCapture.STAGE, [FULL, FULL, LAST])
    assert [way for way, _ in again] == ["graph", "graph", "eager"]
    assert Recorded.made == [FULL] and steps.launches == 4


def test_an_epoch_shorter_than_the_warm_up_is_captured_in_a_later_one(steps):
    for _ in range(2):
        found = epoch(steps, StepCapture.STAGE, [FULL, LAST])
    assert found == [("eager", FULL), ("eager", LAST)]
    assert epoch(steps, StepCapture.STAGE, [FULL, LAST]) == [("graph", FULL), ("eager", LAST)]


def test_what_an_epoch_makes_anew_is_captured_anew_after_its_first_batch(steps):
    epoch(steps, StepCapture.EPOCH, [FULL] * (WARM_UP_STEPS + 1))
    found = epoch(steps, StepCapture.EPOCH, [FULL, FULL, FULL, LAST])
    assert [way for way, _ in found] == ["eager", "graph", "graph", "eager"]
    assert Recorded.made == [FULL, FULL]


def test_a_step_that_cannot_be_captured_runs_on(steps, monkeypatch, caplog):
    monkeypatch.setattr(cuda_graphs, "_Graph", Refused)
    found = epoch(steps, StepCapture.STAGE, [FULL] * (WARM_UP_STEPS + 3))
    assert found == [("eager", FULL)] * (WARM_UP_STEPS + 3)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "not permitted when stream is capturing" in message and "long story" not in message


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"device": torch.device("cpu")}, "without a CUDA device"),
        ({"model": SimpleNamespace(step_capture=StepCapture.NEVER)}, "not made for it"),
        ({"processes": SimpleNamespace(count=2)}, "several processes"),
        ({"optimizer": SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)}, "SGD, not Adam"),
        ({"enable_amp": True}, "mixed precision"),
        ({"clip_grad_norm": {"max_norm": 1.0, "error_if_nonfinite": True}}, "every step"),
        ({"clip_grad_norm": {"max_norm": 1.0}}, None),
    ],
)
def test_obstacles_are_named(changed, reason):
    values = {
        "device": torch.device("cuda"),
        "model": SimpleNamespace(step_capture=StepCapture.STAGE),
        "processes": SimpleNamespace(count=1),
        "optimizer": Adam([torch.nn.Parameter(torch.zeros(1))]),
        "enable_amp": False,
        "enable_scaler": False,
        "clip_grad_norm": None,
    }
    found = obstacle(SimpleNamespace(**{**values, **changed}))
    assert found is None if reason is None else reason in found


def test_what_must_be_captured_and_cannot_is_refused(tmp_path):
    experiment = prepare(random_world().write(tmp_path), "VBPR", cuda_graphs=True, epochs=1)
    with pytest.raises(ConfigError, match=r"`cuda_graphs: true` .* without a CUDA device"):
        experiment.fit()


@pytest.mark.parametrize(
    ("key", "value"), [("cuda_graphs", "always"), ("matmul_precision", "medium")]
)
def test_other_values_are_refused(tmp_path, key, value):
    with pytest.raises(ConfigError, match=f"`{key}` must be one of"):
        prepare(random_world().write(tmp_path), "VBPR", **{key: value})


def test_one_who_listens_to_every_batch_hears_every_batch(tmp_path):
    model = prepare(random_world().write(tmp_path), "MARGO").model
    assert model.step_capture is StepCapture.STAGE
    model.on_triplets = lambda *_: None
    assert model.step_capture is StepCapture.NEVER
