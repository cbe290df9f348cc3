"""Every kind of data without a validation or a test part, through everything that trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from recbole.quick_start import load_data_and_model, run_recbole
from small_studies import compare_seeds, sweep

import recbole_margo
from recbole_margo.cli import main
from recbole_margo.errors import ConfigError
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.registry import find_model
from recbole_margo.run import run_recbole_margo
from recbole_margo.store.plain import as_plain
from recbole_margo.studies.comparison.compare import compare, resume_comparison
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.testing import NAME, SETTINGS, SMALL, random_world
from recbole_margo.training.checkpoint import read_checkpoint
from recbole_margo.training.trainer import MultimodalTrainer

recbole_margo.register()

EPOCHS = 2
LAST_EPOCH = "the last epoch's parameters are the result"
NO_TEST = "no test part"
MODELS = ["all", "Pop", "ItemKNN"]
# What is changed -> settings, the parts that are emptied, and what is there to evaluate on.
CASES: dict[str, tuple[dict[str, Any], tuple[str, ...], bool, bool]] = {
    "validation switched off": ({"eval_step": 0}, (), False, True),
    "empty validation": ({}, ("valid",), False, True),
    "empty test": ({}, ("test",), True, False),
    "both empty": ({}, ("valid", "test"), False, False),
    "switched off and empty test": ({"eval_step": 0}, ("test",), False, False),
}
FULL = {"order": "RO", "group_by": "user", "mode": "full"}


def write_world(root: Path, empty: tuple[str, ...] = ()) -> None:
    """Write the world with files that hold nothing but their header for some parts."""
    random_world().write(root)
    for part in empty:
        (root / NAME / f"{NAME}.{part}.inter").write_text("user_id:token\titem_id:token\n")


def write_unsplit_world(root: Path) -> None:
    """Write one file of interactions, which RecBole splits."""
    write_world(root)
    folder = root / NAME
    parts = [pd.read_csv(folder / f"{NAME}.{part}.inter", sep="\t") for part in PARTS]
    pd.concat(parts).to_csv(folder / f"{NAME}.inter", sep="\t", index=False)
    settings = yaml.safe_load((folder / f"{NAME}.yaml").read_text())
    del settings["benchmark_filename"]
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump(settings))


PARTS = ("train", "valid", "test")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    changes = {"data_path": str(tmp_path / "data"), "epochs": EPOCHS, "train_batch_size": 64}
    return {**SETTINGS, **SMALL, **changes}


def words(settings: dict[str, Any]) -> list[str]:
    return [f"--{key}={json.dumps(value)}" for key, value in settings.items()]


def small(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in SMALL}


def check_record(record: dict[str, Any], valid: bool, test: bool) -> None:
    assert record["status"] == "finished", record
    assert bool(record["valid"]) is valid
    assert bool(record["test"]) is test
    folder = Path("out", record["model"])
    assert json.loads((folder / "result.json").read_text()) == record
    assert (folder / "per_user.npz").exists() is test
    for stage in record["stages"]:
        assert (stage["best_epoch"] >= 0) is valid
        assert (stage["best_score"] is None) is not valid
        assert bool(stage["test"]) is test
    if valid or not issubclass(find_model(record["model"]), MultimodalRecommender):
        return
    # The result is what training ended with.
    result = read_checkpoint(folder / "checkpoint.pth")
    last = read_checkpoint(folder / "checkpoint-last.pth")
    assert [stage["epochs"] for stage in result["stages"]] == [EPOCHS] * len(record["stages"])
    for name, tensor in last["state_dict"].items():
        assert torch.equal(result["state_dict"][name], tensor), name


@pytest.mark.parametrize("case", CASES)
def test_every_model_has_a_result_without_a_part(
    case: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    changes, empty, valid, test = CASES[case]
    write_world(tmp_path / "data", empty)
    records = compare(MODELS, NAME, config_dict={**settings, **changes}, output_dir="out")
    assert len(records) == 15
    for record in records:
        check_record(record, valid, test)
    page = Path("out/comparison.md").read_text()
    assert (LAST_EPOCH in page) is not valid
    assert ("selected by Recall@5 on validation" in page) is valid
    assert (NO_TEST in page.lower()) is not test
    assert ("The test set was scored once" in page) is test
    assert (f"{EPOCHS} (last) + {EPOCHS} (last)" in page) is not valid
    assert ("recall@5 " in next(line for line in page.splitlines() if "| model" in line)) is (
        valid or test
    )
    assert ("**0." in page) is (valid or test)
    assert [one.as_plain() for one in resume_comparison("out")] == records


@pytest.mark.parametrize(
    ("split", "valid", "test"),
    [
        ({"RS": [0.8, 0, 0.2]}, False, True),
        ({"RS": [0.8, 0.2, 0]}, True, False),
        ({"RS": [1, 0, 0]}, False, False),
        ({"LS": "test_only"}, False, True),
        ({"LS": "valid_only"}, True, False),
    ],
)
def test_every_split_of_recbole_gives_a_result(
    split: dict[str, Any], valid: bool, test: bool, settings: dict[str, Any], tmp_path: Path
) -> None:
    write_unsplit_world(tmp_path / "data")
    changes = {"eval_args": {"split": split, **FULL}}
    models = ["MARGO", "VBPR", "BPR", "Pop"]
    for record in compare(models, NAME, config_dict={**settings, **changes}, output_dir="out"):
        check_record(record, valid, test)


def test_the_command_says_in_words_what_was_not_there(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_world(tmp_path / "data", ("valid", "test"))
    given = ["train", "--model=MARGO,BPR", f"--dataset={NAME}", "--output_dir=out"]
    assert main([*given, *words(settings)]) == 0
    printed = capsys.readouterr().out
    assert LAST_EPOCH in printed
    assert NO_TEST in printed.lower()
    assert "selected by" not in printed
    assert "Test metrics" not in printed
    assert "without a validation score" in Path("out/MARGO/train.log").read_text()


@pytest.mark.parametrize("case", CASES)
def test_a_comparison_of_seeds_says_what_was_not_there(
    case: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    changes, empty, valid, test = CASES[case]
    write_world(tmp_path / "data", empty)
    entries = [*Entry.of_models(["MARGO", "BPR"]), Entry("other", "MARGO", {"alpha": 0.5})]
    summary = as_plain(compare_seeds(entries, NAME, [1, 2], {**settings, **changes}, "out"))
    assert [model["status"] for model in summary["models"]] == ["finished"] * 3
    assert summary["absent_parts"] == [
        part for part, there in (("valid", valid), ("test", test)) if not there
    ]
    assert bool(summary["tests"]) is test
    for file in ("comparison.md", "report.html"):
        page = Path("out", file).read_text().replace("&#x27;", "'").replace("&#39;", "'")
        assert (LAST_EPOCH in page) is not valid, file
        assert ("selected by Recall@5 on validation" in page) is valid, file
        assert (NO_TEST in page.lower()) is not test, file
        assert ("best epoch on validation was tested" in page.lower()) is (valid and test), file
        assert "None" not in page, file
    table = pd.read_csv("out/comparison.csv")
    assert set(table["on"]) == {part for part, there in (("valid", valid), ("test", test)) if there}
    assert not table["value"].isna().any()
    assert Path("out/comparison.tex").is_file()


@pytest.mark.parametrize("case", CASES)
def test_a_sweep_draws_what_was_there(case: str, settings: dict[str, Any], tmp_path: Path) -> None:
    changes, empty, valid, test = CASES[case]
    write_world(tmp_path / "data", empty)
    swept = as_plain(
        sweep(
            {"learning_rate": [0.01, 0.1]},
            NAME,
            [1],
            {**small(settings), **changes},
            "out",
            model="BPR",
        )
    )
    assert swept["absent_parts"] == [
        part for part, there in (("valid", valid), ("test", test)) if not there
    ]
    assert Path("out/sweep.svg").is_file() is (valid or test)
    page = Path("out/sweep.md").read_text()
    assert ("Choose a value by validation" in page) is valid
    assert (LAST_EPOCH in page) is not valid
    assert main(["sweep", "--resume=out"]) == 0


@pytest.mark.parametrize("case", [case for case in CASES if not CASES[case][2]])
def test_a_search_without_validation_is_refused_at_once(
    case: str, settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    changes, empty, *_ = CASES[case]
    write_world(tmp_path / "data", empty)
    given = {**small(settings), **changes}
    assert (
        main(
            [
                "tune",
                "--model=BPR",
                f"--dataset={NAME}",
                "--space=learning_rate=[0.1, 0.2]",
                "--output_dir=out",
                *words(given),
            ]
        )
        == 2
    )
    assert "a search needs" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_search_without_a_test_part_finds_values(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    write_world(tmp_path / "data", ("test",))
    assert (
        main(
            [
                "tune",
                "--model=BPR",
                f"--dataset={NAME}",
                "--space=learning_rate=[0.1, 0.2]",
                "--trials=2",
                "--output_dir=out",
                *words(small(settings)),
            ]
        )
        == 0
    )
    assert NO_TEST in Path("out/tuning.md").read_text().lower()


@pytest.mark.parametrize("case", [case for case in CASES if not CASES[case][3]])
def test_a_robustness_study_without_a_test_part_is_refused_at_once(
    case: str, settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, empty, *_ = CASES[case]
    write_world(tmp_path / "data", empty)
    given = ["robustness", f"--dataset={NAME}", "--output_dir=out", "--corrupt", "text=0.3"]
    assert main([*given, *words({**settings, **changes})]) == 2
    assert "a robustness study needs a test part" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_robustness_study_does_without_validation(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    write_world(tmp_path / "data", ("valid",))
    given = [
        "robustness",
        f"--dataset={NAME}",
        "--output_dir=out",
        "--corrupt",
        "text=0.3",
        "--models=MARGO,DRAGON",
        "--seeds=[1]",
    ]
    assert main([*given, *words(settings)]) == 0
    assert LAST_EPOCH in Path("out/robustness.md").read_text()


@pytest.mark.parametrize("case", CASES)
def test_a_trained_margo_is_audited_and_replayed(
    case: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    changes, empty, *_ = CASES[case]
    write_world(tmp_path / "data", empty)
    run_recbole_margo("MARGO", NAME, config_dict={**settings, **changes}, output_dir="out")
    assert main(["reliability", "--run=out", "--min_pairs=1", "--resamples=100"]) == 0
    assert main(["agreement", "--run=out", "--epochs=1"]) == 0
    assert main(["inspect", f"--dataset={NAME}", "--data_path=data"]) == 0


@pytest.mark.parametrize("model", ["MARGO", "BPR"])
@pytest.mark.parametrize("case", CASES)
def test_a_run_can_be_loaded(
    case: str, model: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    changes, empty, *_ = CASES[case]
    write_world(tmp_path / "data", empty)
    given = {**(settings if model == "MARGO" else small(settings)), **changes}
    run_recbole_margo(model, NAME, config_dict=given, output_dir="out")
    loaded = load_data_and_model(f"out/{model}/checkpoint.pth")
    sizes = dict(zip(PARTS, (len(loader._dataset) for loader in loaded[3:]), strict=True))
    assert [part for part in PARTS if not sizes[part]] == list(empty)


@pytest.mark.parametrize("case", CASES)
def test_stock_recbole_trains_without_a_part(
    case: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    changes, empty, valid, test = CASES[case]
    write_world(tmp_path / "data", empty)
    splits = {"benchmark_filename": list(PARTS), "modalities": ["image", "text"]}
    given = {**settings, **splits, **changes, "checkpoint_dir": "saved", "nproc": 1}
    result = run_recbole("MARGO", NAME, config_dict=given)
    assert bool(result["best_valid_result"]) is valid
    assert bool(result["test_result"]) is test


def test_a_run_without_validation_is_resumed_with_equal_numbers(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_world(tmp_path / "data", ("valid",))
    whole = run_recbole_margo("MARGO", NAME, config_dict=settings, output_dir="whole")
    interrupt(monkeypatch, lambda trainer: len(trainer.progress) == 2)
    with pytest.raises(KeyboardInterrupt):
        run_recbole_margo("MARGO", NAME, config_dict=settings, output_dir="out")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--resume=out/MARGO/checkpoint-last.pth"]) == 0
    resumed = json.loads(Path("out/MARGO/result.json").read_text())
    assert resumed["test"] == whole["test"]


def interrupt(monkeypatch: pytest.MonkeyPatch, here: Callable[[MultimodalTrainer], bool]) -> None:
    """Press Ctrl-C in the second epoch of a stage."""
    original = MultimodalTrainer._train_epoch

    def press(self: MultimodalTrainer, data: Any, epoch: int, *rest: Any, **named: Any) -> Any:
        if here(self) and epoch == 1:
            raise KeyboardInterrupt
        return original(self, data, epoch, *rest, **named)

    monkeypatch.setattr(MultimodalTrainer, "_train_epoch", press)


def test_data_without_a_training_part_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    write_world(tmp_path / "data", ("train",))
    (record,) = compare(["BPR"], NAME, config_dict=small(settings), output_dir="out")
    assert "leave interactions to train on" in record["error"]


def test_a_fixed_split_needs_three_files(settings: dict[str, Any], tmp_path: Path) -> None:
    write_world(tmp_path / "data")
    with pytest.raises(ConfigError, match="three"):
        compare(
            ["BPR"],
            NAME,
            config_dict={**small(settings), "benchmark_filename": ["train", "test"]},
            output_dir="out",
        )
