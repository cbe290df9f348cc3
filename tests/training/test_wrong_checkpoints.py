"""Well-formed files that are no checkpoints of the run that is to use them: each is an error."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.quick_start import load_data_and_model

import recbole_margo
from recbole_margo.cli import main
from recbole_margo.errors import CheckpointError
from recbole_margo.run import run_recbole_margo
from recbole_margo.studies.runs.trained_run import TrainedRun
from recbole_margo.testing import NAME, SETTINGS, SMALL, random_world

State = dict[str, Any]
Change = Callable[[State], Any]
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train MARGO for two epochs a stage; return its folder."""
    recbole_margo.register()
    root = random_world().write(tmp_path_factory.mktemp("world"))
    settings = {**SETTINGS, **SMALL, "data_path": str(root), "epochs": 2}
    folder = tmp_path_factory.mktemp("runs")
    run_recbole_margo("MARGO", NAME, config_dict=settings, output_dir=folder)
    return folder / "MARGO"


def put(*places: Any, value: Any) -> Change:
    """Return what puts a value at a place in a state."""

    def change(state: State) -> None:
        for place in places[:-1]:
            state = state[place]
        state[places[-1]] = value

    return change


def drop(*places: Any) -> Change:
    def change(state: State) -> None:
        for place in places[:-1]:
            state = state[place]
        del state[places[-1]]

    return change


def each_parameter(field: str, value: float) -> Change:
    def change(state: State) -> None:
        state[field] = {
            name: torch.full_like(tensor, value) for name, tensor in state[field].items()
        }

    return change


def one_number(field: str, value: float) -> Change:
    def change(state: State) -> None:
        state[field] = {name: tensor.clone() for name, tensor in state[field].items()}
        next(reversed(state[field].values())).view(-1)[0] = value

    return change


def reshaped(field: str) -> Change:
    def change(state: State) -> None:
        name = next(iter(state[field]))
        state[field] = {**state[field], name: state[field][name][:-1].clone()}

    return change


def moments(change: Callable[[State], Any]) -> Change:
    """Return what changes the optimiser's state of one parameter."""
    return lambda state: change(next(iter(state["optimizer"]["state"].values())))


# What `train --resume` and `load_data_and_model` refuse, and the field that they name.
WRONG: dict[str, tuple[Change, str]] = {
    "no state_dict": (drop("state_dict"), "state_dict"),
    "an empty state_dict": (put("state_dict", value={}), "state_dict"),
    "a state_dict of lists": (put("state_dict", value={"a": [1.0]}), "state_dict"),
    "a list as state_dict": (put("state_dict", value=[1, 2]), "state_dict"),
    "another model's state_dict": (put("state_dict", value={"w": torch.ones(2)}), "state_dict"),
    "a shorter tensor": (reshaped("state_dict"), "state_dict"),
    "parameters of NaN": (each_parameter("state_dict", NAN), "not finite"),
    "parameters of infinity": (each_parameter("state_dict", INF), "not finite"),
    "one NaN": (one_number("state_dict", NAN), "not finite"),
    "no config": (drop("config"), "config"),
    "a text as config": (put("config", value="MARGO"), "config"),
    "a list as config": (put("config", value=["MARGO"]), "config"),
    "a config without model": (drop("config", "model"), "config"),
    "a config without dataset": (drop("config", "dataset"), "config"),
    "a number as model": (put("config", "model", value=7), "config"),
    "a tensor in the config": (put("config", "seed", value=torch.ones(1)), "config"),
    "a text as format": (put("format", value="1"), "format"),
    "no format": (drop("format"), "format"),
    "a negative format": (put("format", value=-1), "format"),
    "a newer format": (put("format", value=99), "upgrade"),
    "a true format": (put("format", value=True), "format"),
    "a negative epoch": (put("epoch", value=-5), "epoch"),
    "another epoch": (put("epoch", value=77), "epoch"),
    "a text as epoch": (put("epoch", value="1"), "epoch"),
    "no stages": (drop("stages"), "stages"),
    "stages of nothing": (put("stages", value=[]), "stages"),
    "a dict as stages": (put("stages", value={"name": "stage1"}), "stages"),
    "a stage without epochs": (drop("stages", -1, "epochs"), "stages"),
    "a stage with more": (put("stages", -1, "more", value=1), "stages"),
    "a stage of negative epochs": (put("stages", -1, "epochs", value=-2), "stages"),
    "a stage of no name": (put("stages", -1, "name", value=None), "stages"),
    "a best epoch to come": (put("stages", -1, "best_epoch", value=9), "stages"),
    "a text as score": (put("best_valid_score", value="0.5"), "best_valid_score"),
    "a NaN as score": (put("best_valid_score", value=NAN), "best_valid_score"),
    "a list as other_parameter": (put("other_parameter", value=[1]), "other_parameter"),
    "another other_parameter": (put("other_parameter", value={"forward": 1}), "other_parameter"),
    "a number as stage": (put("other_parameter", "stage", value=1), "other_parameter"),
    "a stage that is none": (put("other_parameter", "stage", value="stage9"), "stage9"),
    "no optimizer": (drop("optimizer"), "optimizer"),
    "a list as optimizer": (put("optimizer", value=[]), "optimizer"),
    "an optimizer without groups": (drop("optimizer", "param_groups"), "optimizer"),
    "groups of text": (put("optimizer", "param_groups", value=["a"]), "optimizer"),
    "no user_tokens": (drop("user_tokens"), "user_tokens"),
    "item_tokens without PAD": (drop("item_tokens", 0), "item_tokens"),
    "item_tokens twice": (lambda s: s["item_tokens"].append(s["item_tokens"][1]), "item_tokens"),
    "item_tokens of numbers": (put("item_tokens", 1, value=1), "item_tokens"),
    "a list as split": (put("split", value=[]), "split"),
    "a list as checksums": (put("feature_checksums", value=[]), "feature_checksums"),
    "no modalities": (drop("modalities"), "modalities"),
}
# What only the going on needs.
NOT_RESUMABLE: dict[str, tuple[Change, str]] = {
    "other item_tokens": (put("item_tokens", 1, value="else"), "item tokens"),
    "an item token more": (lambda s: s["item_tokens"].append("else"), "item tokens"),
    "another split": (put("split", value="0" * 16), "training interactions"),
    "other checksums": (put("feature_checksums", value={"image": "0"}), "feature files"),
    "another stage": (put("stages", 0, "name", value="stage7"), "stages"),
    "no best_state": (drop("best_state"), "best_state"),
    "a list as best_state": (put("best_state", value=[]), "best_state"),
    "another best_state": (put("best_state", value={"w": torch.ones(2)}), "best_state"),
    "a shorter best_state": (reshaped("best_state"), "best_state"),
    "a best_state of NaN": (each_parameter("best_state", NAN), "not finite"),
    "no random_states": (drop("random_states"), "not a state to resume from"),
    "random_states of nothing": (put("random_states", value={}), "random_states"),
    "a list as random_states": (put("random_states", value=[1]), "random_states"),
    "no state of Python": (drop("random_states", "python"), "random_states"),
    "half a state of Python": (
        put("random_states", "python", value=(3, (1, 2), None)),
        "random_states",
    ),
    "half a state of NumPy": (
        put("random_states", "numpy", value=(torch.ones(3), 1, 0, 0.0)),
        "random_states",
    ),
    "a short state of torch": (
        put("random_states", "torch", value=torch.zeros(3, dtype=torch.uint8)),
        "random_states",
    ),
    "a state of torch in floats": (
        put("random_states", "loader", value=torch.zeros(5056)),
        "random_states",
    ),
    "an optimizer of fewer groups": (put("optimizer", "param_groups", value=[]), "optimizer"),
    "an optimizer of fewer parameters": (drop("optimizer", "param_groups", 0, "params", 0), "opt"),
    "an optimizer without a rate": (drop("optimizer", "param_groups", 0, "lr"), "optimizer"),
    "a rate of NaN": (put("optimizer", "param_groups", 0, "lr", value=NAN), "optimizer"),
    "a rate in words": (put("optimizer", "param_groups", 0, "lr", value="high"), "optimizer"),
    "a moment of another shape": (moments(put("exp_avg", value=torch.ones(2))), "optimizer"),
    "a moment of NaN": (moments(lambda s: s["exp_avg"].fill_(NAN)), "optimizer"),
    "a moment too few": (moments(drop("exp_avg")), "optimizer"),
    "a state of nobody": (put("optimizer", "state", 999, value={}), "optimizer"),
}


def changed(run: Path, folder: Path, change: Change) -> Path:
    """Write the run's last state, changed, into a folder of its own."""
    state = torch.load(run / "checkpoint-last.pth", weights_only=True)
    change(state)
    path = folder / "checkpoint-last.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize("name", WRONG | NOT_RESUMABLE)
def test_no_run_goes_on_from_a_wrong_checkpoint(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    change, named = (WRONG | NOT_RESUMABLE)[name]
    path = changed(run, tmp_path, change)
    assert main(["train", f"--resume={path}"]) == 2
    shown = capsys.readouterr().err.strip().splitlines()[-1]
    assert shown.startswith("error: ")
    assert named in shown
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("name", WRONG)
def test_no_model_is_loaded_from_a_wrong_checkpoint(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    change, named = WRONG[name]
    with pytest.raises(CheckpointError) as caught:
        load_data_and_model(str(changed(run, tmp_path, change)))
    assert named in str(caught.value)


@pytest.mark.parametrize("name", ["parameters of NaN", "no stages", "another other_parameter"])
@pytest.mark.parametrize("verb", ["reliability", "agreement"])
def test_no_verb_reads_a_wrong_checkpoint(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, name: str
) -> None:
    folder = tmp_path / "MARGO"
    shutil.copytree(run, folder)
    for file in ("checkpoint.pth", "checkpoint-stage1.pth"):
        state = torch.load(run / file, weights_only=True)
        WRONG[name][0](state)
        torch.save(state, folder / file)
    assert main([verb, f"--run={folder}"]) == 2
    assert WRONG[name][1] in capsys.readouterr().err.strip().splitlines()[-1]


def test_the_checkpoint_that_the_others_are_made_from_is_right(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    path = changed(run, tmp_path, lambda state: None)
    for file in ("checkpoint.pth", "checkpoint-stage1.pth"):
        shutil.copy(run / file, tmp_path)
    model = load_data_and_model(str(path))[1]
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    assert main(["train", f"--resume={path}"]) == 0
    assert TrainedRun.read(run).load_model() is not None
