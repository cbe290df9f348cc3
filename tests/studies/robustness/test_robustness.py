"""The robustness study from the command to its files, on tiny worlds."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_margo.cli import main
from recbole_margo.errors import CheckpointError, ConfigError
from recbole_margo.evaluation.detection import detect
from recbole_margo.evaluation.item_weights import ItemWeights
from recbole_margo.store.plain import as_plain
from recbole_margo.studies.robustness.command import ROBUSTNESS
from recbole_margo.studies.robustness.plan import RobustnessPlan
from recbole_margo.testing import NAME, SETTINGS, random_world, small_settings
from recbole_margo.training.trainer import MultimodalTrainer

FILES = (
    "robustness.json",
    "robustness.csv",
    "robustness.md",
    "robustness.html",
    "quality.png",
    "quality.svg",
    "detection.png",
    "detection.svg",
    "weights-of-corrupted.png",
    "corrupted_items-seed-1.csv",
    "comparison/report.html",
)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    random_world().write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    changes = {"data_path": str(tmp_path / "data"), "epochs": 1, "train_batch_size": 64}
    return {**SETTINGS, **small_settings("DRAGON"), **changes}


def words_of(settings: dict[str, Any]) -> list[str]:
    return [f"--{key}={json.dumps(value)}" for key, value in settings.items()]


def test_the_command_trains_the_models_and_writes_the_report(settings, capsys) -> None:
    words = ["robustness", f"--dataset={NAME}", "--corrupt", "image=0.4", "text=0.4"]
    words += [
        "--models=MARGO,w/o weight,DRAGON",
        "--seeds=[1]",
        "--output_dir=out",
        *words_of(settings),
    ]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "Recall@5 on test" in printed and "Detection of corrupted text" in printed
    assert "Report: out/robustness.html" in printed
    for file in FILES:
        assert Path("out", file).stat().st_size > 100, file
    summary = json.loads(Path("out/robustness.json").read_text())
    assert summary["models"] == ["MARGO", "w/o weight", "DRAGON"]
    assert summary["steps"] == [0, 1]
    assert len(summary["quality"]) == 6
    detectors = {row["detector"] for row in summary["detection"]}
    assert detectors == {"MARGO", "DRAGON", "neighbor agreement", "held-out score"}
    check_against_the_run_s_files(summary)


def test_held_out_evidence_is_a_model_of_the_study(settings) -> None:
    assert "MARGO held_out" in RobustnessPlan(NAME, {"text": 0.4}).models
    plan = RobustnessPlan(
        NAME, {"text": 0.4}, models=["MARGO", "MARGO held_out"], seeds=[1], settings=settings
    )
    result = ROBUSTNESS.begin(plan, "out")
    assert not result.errors
    detectors = {row.detector for row in result.detection}
    assert {"MARGO", "MARGO held_out", "held-out score"} <= detectors
    for model, evidence in (("MARGO-1", "trained"), ("MARGO-held_out-1", "held_out")):
        record = json.loads(Path(f"out/comparison/seed-1/{model}/result.json").read_text())
        assert record["hyperparameters"]["evidence"] == evidence


def check_against_the_run_s_files(summary: dict[str, Any]) -> None:
    """Score the table of items as somebody else would, and compare with the summary."""
    with Path("out/corrupted_items-seed-1.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["modality"] == "text"]
    weights = ItemWeights.load(Path("out/comparison/seed-1/MARGO-1/weights.npz"))
    of_item = dict(zip(weights.items.tolist(), weights.weights[:, 1].tolist(), strict=True))
    assert {row["item"] for row in rows if row["corrupted"] == "1"} <= set(of_item)
    assert sum(row["corrupted"] == "1" for row in rows) == round(0.4 * 15)
    asked = [row for row in rows if row["asked"] == "1"]
    scores = [-of_item[row["item"]] for row in asked]
    assert scores == pytest.approx([-float(row["MARGO"]) for row in asked], abs=1e-7)
    found = detect(scores, np.array([row["corrupted"] == "1" for row in asked]), resamples=1)
    (row,) = [
        row
        for row in summary["detection"]
        if (row["detector"], row["modality"]) == ("MARGO", "text")
        and (row["items"], row["negatives"]) == ("all", "all others")
    ]
    assert row["auc"]["mean"] == pytest.approx(found.auc)
    assert row["seeds"][0]["items"] == len(asked)


def test_an_interrupted_study_is_continued(settings, monkeypatch, capsys) -> None:
    plan = RobustnessPlan(
        NAME, {"text": 0.4}, models=["MARGO", "DRAGON"], seeds=[1], settings=settings
    )
    whole = ROBUSTNESS.begin(plan, "whole")
    with monkeypatch.context() as patch:
        patch.setattr(MultimodalTrainer, "evaluate_unrounded", _interrupted_the_fifth_time())
        with pytest.raises(KeyboardInterrupt):
            ROBUSTNESS.begin(plan, "out")
    assert not Path("out/robustness.json").exists()
    assert main(["robustness", "--resume=out"]) == 0
    resumed = json.loads(Path("out/robustness.json").read_text())
    assert resumed["quality"] == as_plain(whole.quality)
    assert resumed["detection"] == as_plain(whole.detection)
    assert main(["robustness", "--resume=out", "--alpha=3"]) == 2
    assert "a resumed run keeps its settings" in capsys.readouterr().err


def _interrupted_the_fifth_time() -> Any:
    original, calls = MultimodalTrainer.evaluate_unrounded, []

    def evaluate(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(self.config["model"])
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    return evaluate


def test_the_same_items_are_corrupted_for_every_model_and_others_by_every_seed(settings) -> None:
    plan = RobustnessPlan(
        NAME, {"text": 0.4}, models=["w/o weight", "DRAGON"], seeds=[1, 2], settings=settings
    )
    result = ROBUSTNESS.begin(plan, "out")
    items = []
    for seed in (1, 2):
        with Path(f"out/corrupted_items-seed-{seed}.csv").open() as file:
            rows = list(csv.DictReader(file))
        items.append({row["item"] for row in rows if row["corrupted"] == "1"})
        for model in ("w-o-weight-1", "DRAGON-1"):
            log = Path(f"out/comparison/seed-{seed}/{model}/train.log").read_text()
            assert "'text': 6 items corrupted on purpose (swap)" in log
    assert items[0] != items[1]
    assert {row.detector for row in result.detection} == {
        *("DRAGON", "neighbor agreement", "held-out score")
    }
    assert all(row.auc.deviation is not None for row in result.detection)
    assert {histogram.model for histogram in result.weights} == {"DRAGON"}


def test_missing_modalities_are_not_detected_but_cost_quality(settings) -> None:
    plan = RobustnessPlan(
        NAME, {"text": 0.4}, "missing", models=["MARGO"], seeds=[1], settings=settings
    )
    result = ROBUSTNESS.begin(plan, "out")
    assert result.detection == ()
    assert "weight 0 for it by construction" in str(result.why_no_detection)
    assert str(result.why_no_detection) in Path("out/robustness.md").read_text()
    assert [row.step for row in result.quality] == [0, 1]
    assert not Path("out/detection.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--corrupt", "smell=0.3"], "expected modalities of tiny, image, text, found 'smell'"),
        (["--corrupt", "text"], "expected MODALITY=SHARE"),
        (["--corrupt", "text=30"], "a share from 0 to 1, such as text=0.3, found 'text=30'"),
        (["--corrupt", "text=nan"], "found 'text=nan'"),
        (["--corrupt", "text=0.3", "text=0.4"], "'text' is given twice"),
        (["--corrupt", "text=0"], "a share above 0 and at most 1, found text=0;"),
        (["--corrupt=text=0.6", "--steps=1,2"], "found text=0.6 times the largest step 2"),
        (["--steps=0"], "one of them above 0"),
        (["--steps=a"], "found 'a'"),
        (["--steps=nan,1"], "found 'nan,1'"),
        (["--models=FREEDOM"], "--models: expected different names among MARGO, w/o L_cal"),
        (["--models=,"], "found none"),
        (["--seeds=[1, 1]"], "`seeds` must be different whole numbers"),
        (["--signal_to_noise=3"], "--kind noise only, found --kind swap"),
        (["--seed=3"], "a comparison takes its seeds from `seeds`"),
        (["--alhpa=3"], "alhpa"),
        (["--feature_corruption={share: {text: 0.3}}"], "say what is corrupted with --corrupt"),
        (["--resume=nothing"], "does not hold a robustness study"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(settings, capsys, words, message) -> None:
    own = [] if words[0].startswith("--resume") else words_of(settings)
    assert main(["robustness", f"--dataset={NAME}", "--output_dir=out", *words, *own]) == 2
    assert message in capsys.readouterr().err
    assert not any(Path("out").glob("[!.]*"))


def test_a_folder_that_holds_something_is_not_written_into(settings) -> None:
    Path("out").mkdir()
    Path("out/thesis.tex").touch()
    plan = RobustnessPlan(NAME, {"text": 0.4}, settings=settings)
    with pytest.raises(ConfigError, match="out is not empty"):
        ROBUSTNESS.begin(plan, "out")
    with pytest.raises(CheckpointError, match="does not hold a robustness study"):
        ROBUSTNESS.resume("out")
    assert [path.name for path in Path("out").iterdir()] == ["thesis.tex"]


def test_steps_scale_the_shares_and_noise_keeps_its_ratio() -> None:
    plan = RobustnessPlan(NAME, {"text": 0.1, "image": 0.2}, "noise", 6.0, steps=[0.0, 1.0, 3.0])
    assert plan.shares(3) == {"text": 0.3, "image": 0.6}
    entries = {entry.label: entry for entry in plan.entries()}
    assert "feature_corruption" not in entries["MARGO @ 0"].settings
    assert entries["w/o L_cal @ 3"].settings == {
        "alpha": 0.0,
        "feature_corruption": {
            "share": {"text": 0.3, "image": 0.6},
            "kind": "noise",
            "signal_to_noise": 6.0,
        },
    }
    assert len({entry.folder for entry in entries.values()}) == 18
