"""A short training run of every model gives the numbers that it gave before.

The numbers in `golden.json` are not right or wrong in themselves: the dense formulas say what is
right. They catch what changes a model without anybody meaning to. Write them anew, with

    python tests/model/test_golden.py

only when a change of the numbers is meant (a formula or a default that was wrong, another order of
random draws), and say in the commit why they changed; never to make a failure that nobody
understands go away.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from recbole_margo.registry import multimodal_models
from recbole_margo.testing import Experiment, prepare, random_world
from recbole_margo.training.stages import EpochLog

GOLDEN = Path(__file__).resolve().with_name("golden.json")
COMMAND = "python tests/model/test_golden.py"
MODELS = [name for name, entry in multimodal_models().items() if entry.source == "recbole-margo"]
DIGITS = 7
PAIRS = [(1, 1), (2, 9), (7, 4), (13, 15), (20, 6)]  # user and item


class RecordedEpochs(EpochLog):
    """Keeps the figures of every epoch instead of writing them."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []

    def trained(self, stage: Any, losses: Any, *_: Any) -> None:
        self.epochs.append({"stage": stage.name, "losses": dict(losses)})

    def validated(self, stage: Any, result: Any, *_: Any) -> None:
        self.epochs[-1]["validation"] = dict(result)

    def stage_ended(self, stage: Any, metric: str) -> None:
        pass


def _dropout(values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False):
    return values * (torch.rand(values.shape) >= p) / (1 - p) if training else values


def _gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    noise = -torch.log(-torch.log(torch.rand(logits.shape).clamp(1e-6, 1 - 1e-6)))
    return torch.softmax((logits + noise) / tau, dim)


@contextmanager
def portable_noise() -> Iterator[None]:
    """Draw dropout and Gumbel noise from uniform numbers, which every build of torch has alike.

    Builds with MKL draw Bernoulli and exponential numbers otherwise than builds without.
    """
    with (
        patch.object(functional, "dropout", _dropout),
        patch.object(functional, "gumbel_softmax", _gumbel_softmax),
    ):
        yield


def trained(root: Path, model: str) -> tuple[Experiment, list[dict[str, Any]]]:
    """Return a model after three epochs (each stage) and the figures of its epochs."""
    experiment = prepare(random_world(2).write(root), model, seed=2020, epochs=3)
    trainer = experiment.trainer()
    trainer._epoch_log = RecordedEpochs()
    with portable_noise():
        trainer.fit(*experiment.loaders[:2], verbose=False, saved=False)
    return experiment, trainer._epoch_log.epochs


def figures(root: Path, model: str) -> dict[str, Any]:
    """Return what `golden.json` holds of a model."""
    experiment, epochs = trained(root, model)
    scores = experiment.all_scores()
    return {
        "epochs": epochs,
        "scores": {f"{user}, {item}": float(scores[user, item]) for user, item in PAIRS},
    }


def rounded(value: Any) -> Any:
    """Return nested figures with as many digits as are worth keeping."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of every figure."""
    if isinstance(value, (dict, list)):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(each, f"{name} / {key}" if name else str(key))
    else:
        yield name, value


def stored() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return content


def missing_and_unknown(golden: dict[str, Any], models: list[str]) -> str:
    """Return what is wrong with the list of models, empty if nothing is."""
    missing, unknown = sorted(set(models) - set(golden)), sorted(set(golden) - set(models))
    parts = [f"no golden values of {', '.join(missing)}"] if missing else []
    parts += [f"golden values of unknown models {', '.join(unknown)}"] if unknown else []
    return f"{' and '.join(parts)}: run `{COMMAND}` and commit {GOLDEN.name}" if parts else ""


def test_every_model_has_golden_values_and_no_other():
    problem = missing_and_unknown(stored(), MODELS)
    assert not problem, problem


def test_a_model_without_golden_values_is_told_how_to_get_them():
    problem = missing_and_unknown({"A": {}, "C": {}}, ["A", "B"])
    assert "no golden values of B and golden values of unknown models C" in problem
    assert COMMAND in problem


@pytest.mark.parametrize("model", MODELS)
def test_a_short_training_run_gives_the_golden_values(tmp_path, model):
    golden = stored()
    assert model in golden, missing_and_unknown(golden, MODELS)
    found, expected = dict(flat(figures(tmp_path, model))), dict(flat(golden[model]))
    assert list(found) == list(expected)
    for name, value in expected.items():
        if isinstance(value, str):
            assert found[name] == value, name
        else:
            assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-12), name


@pytest.mark.parametrize("model", MODELS)
def test_a_change_in_the_last_digits_of_the_parameters_does_not_reach_the_golden_values(
    tmp_path, model, monkeypatch
):
    """Values that other threads, processors or builds of torch would change are of no use."""
    build = prepare

    def nearly(*arguments: Any, **settings: Any) -> Experiment:
        experiment = build(*arguments, **settings)
        random = np.random.default_rng(7)
        with torch.no_grad():
            for parameter in experiment.model.parameters():
                noise = 1 + 1e-6 * random.normal(size=tuple(parameter.shape))
                parameter.mul_(torch.as_tensor(noise, dtype=parameter.dtype))
        return experiment

    monkeypatch.setitem(globals(), "prepare", nearly)
    test_a_short_training_run_gives_the_golden_values(tmp_path, model)


def write() -> None:
    """Write `golden.json` anew."""
    golden, before = {}, Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # RecBole's trainer writes its TensorBoard files into the working folder
        for model in MODELS:
            golden[model] = rounded(figures(Path(folder) / model, model))
            sys.stdout.write(f"{model}\n")
        os.chdir(before)
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write()
