"""One experiment from start to end, and several in one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_margo import compare, resume_run, run_recbole_margo
from recbole_margo.errors import CheckpointError, ConfigError, DatasetNotFoundError
from recbole_margo.evaluation.item_weights import ItemWeights
from recbole_margo.model.dragon import DRAGON
from recbole_margo.studies.comparison.compare import resume_comparison
from recbole_margo.testing import NAME, SETTINGS, random_world, small_settings
from recbole_margo.training.trainer import MultimodalTrainer


def settings(root: Path, **changes: Any) -> dict[str, Any]:
    return {**SETTINGS, **small_settings("MARGO"), "data_path": str(root), **changes}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    random_world().write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def test_a_run_leaves_everything_it_promises(root: Path, tmp_path: Path) -> None:
    record = run_recbole_margo("MARGO", NAME, config_dict=settings(root), output_dir="out")
    folder = tmp_path / "out" / "MARGO"
    assert json.loads((folder / "result.json").read_text()) == record
    assert [stage["name"] for stage in record["stages"]] == ["stage1", "stage2"]
    assert all(set(stage["test"]) == {"recall@5", "ndcg@5"} for stage in record["stages"])
    assert record["test"] == record["stages"][1]["test"]
    assert record["valid"]["recall@5"] == record["stages"][1]["best_score"]
    assert record["modalities"] == ["image", "text"]
    assert set(record["feature_checksums"]) == {"image", "text"}
    assert record["hyperparameters"]["alpha"] == 1.0
    assert record["eval_protocol"] == "recbole"
    assert record["peak_memory_bytes"]["host"] > 2**20
    # The package's own name of its build need not be the distribution's.
    assert record["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    weights = ItemWeights.load(folder / "weights.npz")
    np.testing.assert_allclose(weights.weights.sum(axis=1), 1.0, rtol=1e-6)
    assert (folder / "weights.png").stat().st_size > 5_000
    assert {path.name for path in folder.glob("*.pth")} == {
        "checkpoint.pth",
        "checkpoint-stage1.pth",
        "checkpoint-last.pth",
    }
    assert "stage2 epoch" in (folder / "train.log").read_text()
    assert list((folder / "tensorboard").glob("events*"))
    # Nothing lies about in the working folder.
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out"}


def test_the_ablation_without_weights_has_one_stage_and_no_weights(root: Path) -> None:
    record = run_recbole_margo(
        "MARGO", NAME, config_dict=settings(root, item_weights=False), output_dir="out"
    )
    assert [stage["name"] for stage in record["stages"]] == ["stage1"]
    assert not Path("out/MARGO/weights.npz").exists()


def test_several_models_share_a_split_and_a_table(root: Path) -> None:
    records = compare(
        ["MARGO", "DRAGON", "BPR"], NAME, config_dict=settings(root, alpha=0.5), output_dir="out"
    )
    assert [record["status"] for record in records] == ["finished"] * 3
    assert len({record["split"] for record in records}) == 1
    assert records[0]["hyperparameters"]["alpha"] == 0.5
    assert records[2]["hyperparameters"]["embedding_size"] == 8
    assert "alpha" not in records[2]["config"]
    page = Path("out/comparison.md").read_text()
    assert all(f"| {record['model']}" in page for record in records)
    assert json.loads(Path("out/comparison.json").read_text()) == records


def test_a_failing_model_does_not_stop_the_others(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(DRAGON, "calculate_loss", fail)
    records = compare(["DRAGON", "BPR"], NAME, config_dict=settings(root), output_dir="out")
    assert [record["status"] for record in records] == ["failed", "finished"]
    assert records[0]["error"] == "RuntimeError: out of luck"
    assert "out of luck" in Path("out/DRAGON/train.log").read_text()
    assert "DRAGON failed: RuntimeError: out of luck" in Path("out/comparison.md").read_text()


def test_bad_input_is_refused_before_anything_is_trained(root: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key `alpa`"):
        compare(["MARGO", "BPR"], NAME, config_dict=settings(root, alpa=1), output_dir="out")
    with pytest.raises(ConfigError, match="there is no model"):
        compare(["MARGO", "Nothing"], NAME, config_dict=settings(root), output_dir="out")
    assert not Path("out").exists()


def test_a_missing_dataset_says_what_brings_it(root: Path) -> None:
    with pytest.raises(DatasetNotFoundError) as error:
        run_recbole_margo("BPR", "baby", config_dict={"data_path": str(root)}, output_dir="out")
    message = str(error.value)
    assert "baby.train.inter" in message
    assert str(root / "baby") in message
    assert "recbole-margo convert tabular --source" in message


def interrupt_at(monkeypatch: pytest.MonkeyPatch, stage: str, epoch: int) -> None:
    """Let the user press Ctrl-C in an epoch of a stage, once."""
    train_epoch = MultimodalTrainer._train_epoch

    def press(self: MultimodalTrainer, data: Any, index: int, *rest: Any, **named: Any) -> Any:
        losses = train_epoch(self, data, index, *rest, **named)
        if self.progress[-1].name == stage and index == epoch:
            monkeypatch.setattr(MultimodalTrainer, "_train_epoch", train_epoch)
            raise KeyboardInterrupt
        return losses

    monkeypatch.setattr(MultimodalTrainer, "_train_epoch", press)


@pytest.mark.parametrize(("stage", "epoch"), [("stage1", 0), ("stage1", 2), ("stage2", 1)])
def test_a_resumed_run_has_the_numbers_of_an_uninterrupted_one(
    root: Path, monkeypatch: pytest.MonkeyPatch, stage: str, epoch: int
) -> None:
    whole = run_recbole_margo("MARGO", NAME, config_dict=settings(root), output_dir="whole")
    interrupt_at(monkeypatch, stage, epoch)
    with pytest.raises(KeyboardInterrupt):
        run_recbole_margo("MARGO", NAME, config_dict=settings(root), output_dir="part")
    log = Path("part/MARGO/train.log").read_text()
    assert "--resume=part/MARGO/checkpoint-last.pth" in log
    resumed = resume_run("part/MARGO/checkpoint-last.pth")
    for first, second in zip(whole["stages"], resumed["stages"], strict=True):
        assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert resumed["test"] == whole["test"]
    first, second = (ItemWeights.load(Path(run) / "MARGO/weights.npz") for run in ("whole", "part"))
    np.testing.assert_array_equal(first.weights, second.weights)


def test_an_interrupted_comparison_goes_on_where_it_stopped(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compare(["BPR", "MARGO"], NAME, config_dict=settings(root), output_dir="whole")
    interrupt_at(monkeypatch, "stage2", 0)
    with pytest.raises(KeyboardInterrupt):
        compare(["BPR", "MARGO"], NAME, config_dict=settings(root), output_dir="part")
    done = Path("part/BPR/result.json").stat().st_mtime_ns
    resumed = [outcome.as_plain() for outcome in resume_comparison("part")]
    assert Path("part/BPR/result.json").stat().st_mtime_ns == done, "BPR was trained again"
    assert [record["test"] for record in resumed] == [record["test"] for record in whole]
    with pytest.raises(ConfigError, match="already holds a run"):
        compare(["BPR"], NAME, config_dict={"data_path": str(root)}, output_dir="part")


def test_a_folder_without_a_run_cannot_be_resumed(root: Path) -> None:
    with pytest.raises(CheckpointError, match="does not hold a run"):
        resume_comparison(root)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        resume_run(root / "nothing-last.pth")
