"""Runs, a comparison and a sweep of an earlier version are resumed and shown as they were.

The folders in `tests/stored_runs` were written by the version of commit 9751a5d; the data set is
made up.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_margo.cli import main
from recbole_margo.evaluation.item_weights import ItemWeights
from recbole_margo.run_folder import RunFolder
from recbole_margo.studies.runs.trained_run import find_runs

STORED = Path(__file__).resolve().parents[2] / "stored_runs"
# What another machine, library or hour changes.
OF_THE_MOMENT = {"seconds", "peak_memory_bytes", "versions", "config", "device"}


@pytest.fixture(autouse=True)
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(STORED, tmp_path / "stored")
    monkeypatch.chdir(tmp_path / "stored")


def numbers(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record without what is of the moment."""
    kept = {key: value for key, value in record.items() if key not in OF_THE_MOMENT}
    if "stages" in kept:
        kept["stages"] = [numbers(stage) for stage in kept["stages"]]
    return kept


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def read(path: str | Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def test_every_record_has_its_plain_form_again():
    folders = [path.parent for path in Path().rglob("result.json")]
    assert len(folders) == 2 + 4 + 3
    for folder in folders:
        files = RunFolder(folder)
        before = text(files.result)
        files.write_result(files.read_result())
        assert text(files.result) == before


@pytest.mark.parametrize("model", ["MARGO", "BPR"])
def test_a_run_goes_on_with_its_numbers(model: str):
    before = read(f"train/{model}/result.json")
    Path(f"train/{model}/result.json").unlink()
    assert main(["train", "--resume=train"]) == 0
    after = read(f"train/{model}/result.json")
    hyperparameters = before.pop("hyperparameters")  # a later version may have more of them
    assert hyperparameters.items() <= after.pop("hyperparameters").items()
    assert numbers(after) == numbers(before)
    assert [record["model"] for record in read("train/comparison.json")] == ["MARGO", "BPR"]


def test_a_stored_model_has_the_weights_that_it_had():
    run = next(run for run in find_runs("train") if run.label == "MARGO")
    found = ItemWeights.of_model(run.load_model(), run.dataset).weights
    before = np.load(RunFolder(run.folder).weights, allow_pickle=False)["weights"]
    np.testing.assert_allclose(found, before, rtol=1e-5)


def test_a_comparison_trains_what_is_missing_and_has_the_same_table():
    Path("compare/seed-2/BPR/result.json").unlink()
    assert main(["compare", "--resume=compare"]) == 0
    assert text(Path("compare/comparison.csv")) == text(STORED / "compare/comparison.csv")


def test_a_sweep_trains_what_is_missing_and_has_the_same_tables():
    Path("sweep/seed-1/learning_rate-0.1/result.json").unlink()
    assert main(["sweep", "--resume=sweep"]) == 0
    for name in ("sweep.csv", "comparison.csv"):
        assert text(Path("sweep", name)) == text(STORED / "sweep" / name)
