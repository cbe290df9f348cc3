"""`save_dataloaders` writes the loaders and changes nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_margo import resume_run, run_recbole_margo
from recbole_margo.testing import NAME, SETTINGS, random_world, small_settings
from recbole_margo.training.trainer import MultimodalTrainer

MODELS = ["BPR", "VBPR", "MARGO"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return random_world().write(tmp_path / "data")


def train(root: Path, model: str, output: str, saved: bool) -> dict[str, Any]:
    values = {
        **SETTINGS,
        **small_settings(model),
        "data_path": str(root),
        "save_dataloaders": saved,
        "seed": 3,
    }
    return run_recbole_margo(model, NAME, config_dict=values, output_dir=output)


def parameters(output: str, model: str) -> dict[str, torch.Tensor]:
    from recbole_margo.compat import load_checkpoint

    state: dict[str, torch.Tensor] = load_checkpoint(Path(output, model, "checkpoint.pth"))[
        "state_dict"
    ]
    return state


@pytest.mark.parametrize("model", MODELS)
def test_numbers_are_the_same_with_saved_loaders(root: Path, model: str) -> None:
    plain, saving = train(root, model, "plain", False), train(root, model, "saving", True)
    assert (saving["valid"], saving["test"]) == (plain["valid"], plain["test"])
    first, second = parameters("plain", model), parameters("saving", model)
    assert all(torch.equal(first[name], second[name]) for name in first)
    [written] = Path("saving", model).glob("*dataloader.pth")
    assert written.stat().st_size > 1_000
    assert not list(Path("plain", model).glob("*dataloader.pth"))


@pytest.mark.parametrize("model", ["VBPR", "MARGO"])
def test_a_run_with_saved_loaders_resumes_exactly(
    root: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(root, model, "whole", True)
    validate = MultimodalTrainer._validate

    def interrupted(trainer: Any, stage: Any, fit: Any, step: int) -> None:
        if stage.epochs == 2:
            raise KeyboardInterrupt
        validate(trainer, stage, fit, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MultimodalTrainer, "_validate", interrupted)
        train(root, model, "half", True)
    resumed = resume_run(Path("half", model, "checkpoint-last.pth"))
    assert (resumed["valid"], resumed["test"]) == (whole["valid"], whole["test"])
    first, second = parameters("whole", model), parameters("half", model)
    assert all(torch.equal(first[name], second[name]) for name in first)
