"""`recbole-margo agreement`: replays that change nothing, what is pooled, the command."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_margo.cli import main
from recbole_margo.errors import CheckpointError
from recbole_margo.run import run_config
from recbole_margo.studies.agreement.command import choose_runs, measure_agreement
from recbole_margo.studies.agreement.replay import (
    COORDINATES,
    Replay,
    measure_training,
    prepare_replay,
    replay_stage,
)
from recbole_margo.studies.agreement.result import PooledBatches, Share
from recbole_margo.studies.comparison.plan import label_of, labelled_runs
from recbole_margo.studies.runs.trained_run import TrainedRun
from recbole_margo.testing import MISSING, NAME, make_config, random_world
from recbole_margo.training.checkpoint import read_checkpoint
from recbole_margo.training.outputs import tensorboard_in

# --- replays --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Return a folder of runs as `ablate` leaves it, two seeds of some."""
    root = tmp_path_factory.mktemp("agreement")
    random_world().without(MISSING["some items miss one"]).write(root / "data")
    for folder, changes in {
        "seed-1/MARGO": {},
        "seed-2/MARGO": {"seed": 2, "epochs": 1},
        "seed-1/w-o-nograd": {"stop_gradient": False},
        "seed-1/w-o-L_cal": {"alpha": 0.0, "epochs": 1},
        "seed-1/w-o-two-stage": {"two_stage": False},
    }.items():
        settings = {"seed": 1, "split_seed": 5, "epochs": 2, "train_batch_size": 32, **changes}
        run_config(make_config(root / "data", "MARGO", **settings), root / folder)
    # Of these only the records are looked at.
    for folder, model, modalities, changes in (
        ("seed-1/w-o-weight", "MARGO", ["image", "text"], {"item_weights": False}),
        ("seed-1/MARGO-text", "MARGO", ["text"], {}),
        ("seed-1/DRAGON", "DRAGON", ["image", "text"], {}),
        ("other/MARGO", "MARGO", ["image", "text"], {"tau": 2.0}),
        ("kept/MARGO", "MARGO", ["image", "text"], {"keep_optimizer": True}),
        ("nograd/MARGO", "MARGO", ["image", "text"], {"stop_gradient": False, "alpha": 0.0}),
    ):
        record = json.loads((root / "seed-1/MARGO/result.json").read_text())
        record.update(model=model, modalities=modalities)
        record["hyperparameters"].update(changes)
        (root / folder).mkdir(parents=True)
        (root / folder / "result.json").write_text(json.dumps(record))
    return root


def parameters_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("label", ["MARGO", "w-o-nograd", "w-o-L_cal"])
def test_measuring_does_not_change_what_is_trained(runs, tmp_path, label):
    run = TrainedRun.read(runs / "seed-1" / label)
    trained = []
    with tensorboard_in(tmp_path):
        for measures in (False, True):
            trainer, train = prepare_replay(run, 3, str(tmp_path))
            if measures:
                replay = measure_training(trainer, train)
            else:
                trainer.fit(train, verbose=False, saved=False)
            trained.append(parameters_of(trainer.model))
    assert_equal(*trained)
    assert replay.cosine.shape == (3, len(train), 3)
    assert replay.triplets.sum() == 3 * len(train._dataset)
    assert trainer.model.on_triplets is None
    assert 0 < replay.measuring_seconds < replay.seconds


def test_a_replay_starts_from_the_best_epoch_of_stage_1(runs, tmp_path):
    run = TrainedRun.read(runs / "seed-1/MARGO")
    with tensorboard_in(tmp_path):
        trainer, _ = prepare_replay(run, 1, str(tmp_path))
    stored = read_checkpoint(runs / "seed-1/MARGO/checkpoint-stage1.pth")
    assert_equal(parameters_of(trainer.model), stored["state_dict"])
    assert trainer.model.training_stages == ("stage2",)


def test_the_replay_of_a_run_without_two_stages_is_that_run(runs, tmp_path):
    folder = runs / "seed-1/w-o-two-stage"
    with tensorboard_in(tmp_path):
        trainer, train = prepare_replay(TrainedRun.read(folder), 2, str(tmp_path))
        measure_training(trainer, train)
    stored = read_checkpoint(folder / "checkpoint-last.pth")
    assert_equal(parameters_of(trainer.model), stored["state_dict"])


def test_a_replay_leaves_nothing_in_the_run_and_nothing_about(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = runs / "seed-2/MARGO"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    replay_stage(TrainedRun.read(folder), 1)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert not list(tmp_path.iterdir())


def a_replay(seed: int = 0) -> Replay:
    random = np.random.default_rng(seed)
    shape = (2, 4, 3)
    cosine = random.uniform(-1, 1, shape)
    cosine[0, 1] = np.nan
    triplets = np.full(shape[:2], 10)
    conflicts = random.integers(0, 11, shape)
    return Replay(
        cosine, ~(cosine < 0), conflicts, triplets, random.integers(0, 11, shape[:2]), 2.0, 0.5
    )


def test_a_stored_replay_is_read_again_only_for_the_same_run(tmp_path):
    path = tmp_path / "folder/replay.npz"
    assert Replay.load(path, "this") is None
    a_replay().save(path, "this")
    stored = Replay.load(path, "this")
    assert stored is not None and stored.seconds == 2.0
    np.testing.assert_array_equal(stored.cosine, a_replay().cosine)
    assert Replay.load(path, "that") is None
    path.write_bytes(path.read_bytes()[:100])
    assert Replay.load(path, "this") is None


def test_the_batches_of_several_replays_are_pooled():
    replays = [a_replay(0), a_replay(1)]
    found = PooledBatches.of(replays, slice(0, 1))
    assert (found.batches, found.triplets) == (8, 80)
    assert found.silent_triplets == sum(int(replay.silent[0].sum()) for replay in replays)
    for index, name in enumerate(COORDINATES):
        cosine = np.concatenate([replay.cosine[0, :, index] for replay in replays])
        agreeing = 8 - int((cosine < 0).sum())
        agreement = found.coordinates[name]
        assert agreement.agreeing_batches == agreeing
        known = sorted(cosine[~np.isnan(cosine)])
        assert len(known) == 6
        assert agreement.cosine_quartiles[1] == pytest.approx((known[2] + known[3]) / 2)
        conflicts = sum(int(replay.conflicts[0, :, index].sum()) for replay in replays)
        assert agreement.share_in_conflict.value == conflicts / 80


def test_pooled_batches_known_by_hand():
    # One epoch of three batches of 4, 4 and 2 triplets; the second has a gradient of 0.
    cosine = np.array([0.5, np.nan, -0.1])[None, :, None].repeat(3, axis=2)
    conflicts = np.array([1, 0, 2])[None, :, None].repeat(3, axis=2)
    replay = Replay(
        cosine, ~(cosine < 0), conflicts, np.array([[4, 4, 2]]), np.array([[1, 4, 0]]), 2.0, 0.5
    )
    plain = PooledBatches.of([replay], slice(None)).as_plain()
    assert (plain["batches"], plain["triplets"], plain["silent_triplets"]) == (3, 10, 5)
    assert list(plain)[3:] == list(COORDINATES)
    for name in COORDINATES:
        found = plain[name]
        assert (found["agreeing_batches"], found["share_agreeing"]["value"]) == (2, 2 / 3)
        assert found["cosine_mean"] == pytest.approx(0.2)
        assert found["cosine_quartiles"] == pytest.approx((0.05, 0.2, 0.35))
        assert (found["triplets_in_conflict"], found["share_in_conflict"]["value"]) == (3, 0.3)


@pytest.mark.parametrize(("count", "total"), [(0, 20), (7, 20), (20, 20), (1, 1)])
def test_the_interval_of_a_share_is_wilsons(count, total):
    found, z, p = Share.of(count, total), 1.959963984540054, count / total
    middle = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z * math.sqrt(p * (1 - p) / total + z**2 / (4 * total**2)) / (1 + z**2 / total)
    assert found.value == p
    assert found.low == pytest.approx(middle - half, abs=1e-12)
    assert found.high == pytest.approx(middle + half, abs=1e-12)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def call(*words: object) -> int:
    return main(["agreement", *map(str, words)])


def test_the_command_puts_margo_and_the_ablation_side_by_side(runs, out, capsys):
    words = ("--run", runs / "seed-1", runs / "seed-2", f"--output_dir={out}", "--epochs=1")
    assert call(*words) == 0
    printed = capsys.readouterr().out
    assert "w/o nograd" in printed and f"Report: {out / 'agreement.html'}" in printed
    summary = json.loads((out / "agreement.json").read_text())
    assert [(entry["label"], entry["seeds"]) for entry in summary["labels"]] == [
        ("MARGO", [1, 2]),
        ("w/o nograd", [1]),
    ]
    assert summary["labels"][0]["whole"]["weights"]["triplets_in_conflict"] == 0
    assert summary["labels"][0]["epochs"][0]["seeds"] == 2
    with (out / "agreement.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * len(COORDINATES)
    first = summary["runs"][0]["epochs"][0]["weights"]
    assert float(rows[0]["share_agreeing"]) == first["share_agreeing"]["value"]
    assert float(rows[0]["cosine_median"]) == first["cosine_quartiles"][1]
    page = (out / "agreement.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert "data:image/svg+xml;base64," in page
    assert (out / "agreement.png").stat().st_size > 20_000


def test_what_was_replayed_is_kept_and_an_interrupted_call_goes_on(runs, out, monkeypatch, caplog):
    replayed = []

    def interrupted(run: TrainedRun, epochs: int, description: str) -> Replay:
        replayed.append((description, epochs))
        if len(replayed) == 2:
            raise KeyboardInterrupt
        return a_replay()

    monkeypatch.setattr("recbole_margo.studies.agreement.command.replay_stage", interrupted)
    chosen = choose_runs(labelled_runs(runs / "seed-1"), None)
    with pytest.raises(KeyboardInterrupt):
        measure_agreement(chosen, out)
    assert "The same command goes on with w/o nograd, seed 1" in caplog.text
    first = measure_agreement(chosen, out)
    assert replayed == [("MARGO, seed 1", 2), *[("w/o nograd, seed 1", 2)] * 2]
    assert measure_agreement(chosen, out) == first
    assert len(replayed) == 3
    measure_agreement(chosen, out, epochs=5)
    assert replayed[3:] == [("MARGO, seed 1", 5), ("w/o nograd, seed 1", 5)]


def test_a_replay_is_the_same_every_time(runs):
    run = TrainedRun.read(runs / "seed-1/MARGO")
    one, other = (replay_stage(run, 1) for _ in range(2))
    np.testing.assert_array_equal(one.cosine, other.cosine)
    np.testing.assert_array_equal(one.silent, other.silent)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run=nowhere"], "nowhere holds no finished run"),
        (["--run=seed-1/w-o-weight"], "is the ablation w/o weight (`item_weights: false`)"),
        (["--run=seed-1/MARGO-text"], "has one modality, text, whose weight is always 1"),
        (["--run=kept/MARGO"], "began stage 2 in a way that a replay does not repeat"),
        (["--run=seed-1/DRAGON"], "is a run of DRAGON, which has no calibration loss"),
        (["--run=seed-1", "--labels=DRAGON"], "is a run of DRAGON"),
        (["--run=seed-1", "--labels=MICRO"], "there is no run 'MICRO', found DRAGON, MARGO"),
        (["--run=seed-1", "--labels="], "--labels names no run"),
        (["--run=seed-1", "--epochs=0"], "--epochs must be 1 or more, found 0"),
        (["--run=seed-1", "--run=other", "--output_dir=out"], "are both MARGO with seed 1"),
        (["--run", "seed-1", "seed-2"], "say with --output_dir=DIR where to write"),
    ],
)
def test_bad_input_is_refused_before_anything_is_replayed(
    runs, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(runs)
    before = set(runs.rglob("*"))
    assert call(*words) == 2
    assert message in capsys.readouterr().err
    assert set(runs.rglob("*")) == before


def test_a_run_without_its_first_stage_says_so(runs, tmp_path):
    run = TrainedRun.read(runs / "seed-1/MARGO")
    copied = tmp_path / "MARGO"
    copied.mkdir()
    (copied / "result.json").write_text(json.dumps(run.result.as_plain()))
    with pytest.raises(CheckpointError, match=r"no checkpoint .*checkpoint-stage1\.pth"):
        replay_stage(TrainedRun.read(copied), 1)


def test_runs_are_called_by_what_they_leave_out(runs):
    found = {
        str(path.relative_to(runs)): label_of(TrainedRun.read(path))
        for path in (*runs.glob("seed-1/*"), runs / "other/MARGO", runs / "nograd/MARGO")
    }
    assert found == {
        "seed-1/MARGO": "MARGO",
        "seed-1/DRAGON": "DRAGON",
        "seed-1/MARGO-text": "MARGO-text",
        "seed-1/w-o-nograd": "w/o nograd",
        "seed-1/w-o-L_cal": "w/o L_cal",
        "seed-1/w-o-two-stage": "w/o two-stage",
        "seed-1/w-o-weight": "w/o weight",
        "other/MARGO": "MARGO",
        "nograd/MARGO": "w/o L_cal, w/o nograd",
    }


def test_the_ablation_without_calibration_can_be_measured_too(runs, out):
    chosen = choose_runs(labelled_runs(runs / "seed-1"), ["w-o-L_cal", "w/o two-stage"])
    result = measure_agreement(chosen, out)
    assert [entry.label for entry in result.labels] == ["w/o L_cal", "w/o two-stage"]
    assert all(run.whole.coordinates["weights"].triplets_in_conflict == 0 for run in result.runs)
    assert result.dataset == NAME
