"""Runs that share their first stage, and runs in several processes, equal those by themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_studies import compare_seeds

from recbole_margo.config import Config
from recbole_margo.errors import ConfigError
from recbole_margo.model.margo import MARGO
from recbole_margo.run import run_config
from recbole_margo.store.plain import as_plain
from recbole_margo.studies.comparison.command import COMPARISON
from recbole_margo.studies.comparison.plan import ABLATIONS
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.testing import NAME, SETTINGS, random_world, small_settings
from recbole_margo.training.trainer import MultimodalTrainer

ENTRIES = [
    Entry("MARGO", "MARGO"),
    *(Entry(label, "MARGO", settings) for label, settings in ABLATIONS.items()),
    Entry("alpha=3", "MARGO", {"alpha": 3.0, "weight_learning_rate": 0.1, "weight_init_std": 0.5}),
    Entry("other backbone", "MARGO", {"backbone": "LightGCN"}),
    Entry("DRAGON", "DRAGON"),
]
SHARING = ["MARGO", "w-o-weight", "w-o-L_cal", "w-o-nograd", "alpha-3"]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    random_world().write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    changes = {"data_path": str(tmp_path / "data"), "epochs": 4, "stopping_step": 1}
    return {**SETTINGS, **small_settings("MARGO"), **changes}


def results(root: Path) -> dict[str, Any]:
    """Return what came out of each run, without times and memory."""
    found = {}
    for path in sorted(root.rglob("result.json")):
        record = json.loads(path.read_text())
        for stage in record["stages"]:
            del stage["seconds"]
        found[str(path.parent.relative_to(root))] = (record["stages"], record["hyperparameters"])
    return found


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "checkpoint.pth")["state_dict"]
    return state


def epochs_trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the stage of each epoch that is trained from now on."""
    train_epoch, trained = MultimodalTrainer._train_epoch, []

    def counted(self: Any, *args: Any, **named: Any) -> Any:
        trained.append(f"{self.config['model']} {self.progress[-1].name}")
        return train_epoch(self, *args, **named)

    monkeypatch.setattr(MultimodalTrainer, "_train_epoch", counted)
    return trained


def test_a_shared_first_stage_is_trained_once_and_changes_no_number(settings, monkeypatch):
    trained = epochs_trained(monkeypatch)
    compare_seeds(ENTRIES, NAME, [1, 2], settings, "shared")
    stages = [stage for stage, _ in results(Path("shared")).values()]
    # Once for the five that share it, and once for the other backbone.
    first = {
        label: results(Path("shared"))[f"seed-{seed}/{label}"][0][0]["epochs"]
        for seed in (1, 2)
        for label in ("MARGO", "other-backbone")
    }
    both = sum(
        results(Path("shared"))[f"seed-{seed}/{label}"][0][0]["epochs"]
        for seed in (1, 2)
        for label in first
    )
    assert trained.count("MARGO stage1") == both
    assert len(stages) == 2 * len(ENTRIES)
    alone = Path("alone")
    for seed in (1, 2):
        for entry in ENTRIES:
            values = {**settings, **entry.settings, "seed": seed, "split_seed": 2020}
            run_config(
                Config(entry.model, NAME, config_dict=values),
                alone / f"seed-{seed}" / entry.folder,
            )
    assert results(Path("shared")) == results(alone)
    for folder in SHARING:
        ours = parameters(Path("shared/seed-2") / folder)
        theirs = parameters(alone / "seed-2" / folder)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not list(Path("shared").rglob("first-stages"))


def test_the_files_of_a_run_are_the_same_whether_its_first_stage_was_shared(settings):
    compare_seeds(ENTRIES[:3], NAME, [1], settings, "shared")
    compare_seeds(ENTRIES[:1], NAME, [1], settings, "alone")
    for folder in ("shared", "alone"):
        files = {path.name for path in Path(folder, "seed-1/MARGO").iterdir()}
        assert {"checkpoint.pth", "checkpoint-stage1.pth", "checkpoint-last.pth"} <= files
        for path in Path(folder, "seed-1/MARGO").glob("*.pth"):
            assert torch.load(path)["config"]["item_weights"] is True
            assert torch.load(path)["config"]["checkpoint_dir"] == f"{folder}/seed-1/MARGO"
    assert not Path("shared/seed-1/w-o-weight/checkpoint-stage1.pth").exists()


def test_an_interruption_in_any_phase_is_continued_with_the_same_numbers(settings, monkeypatch):
    compare_seeds(ENTRIES[:4], NAME, [1], settings, "whole")
    train_epoch = MultimodalTrainer._train_epoch
    for stop in (2, 6, 9):
        calls = []

        def interrupted(self, *args, calls=calls, stop=stop, **named):
            calls.append(1)
            if len(calls) == stop:
                raise KeyboardInterrupt
            return train_epoch(self, *args, **named)

        monkeypatch.setattr(MultimodalTrainer, "_train_epoch", interrupted)
        out = Path(f"stopped-{stop}")
        with pytest.raises(KeyboardInterrupt):
            compare_seeds(ENTRIES[:4], NAME, [1], settings, out)
        COMPARISON.resume(out)
        assert results(out) == results(Path("whole"))


def test_a_first_stage_that_fails_is_reported_by_each_run_that_needed_it(settings, monkeypatch):
    def broken(self, interaction):
        raise ValueError("no loss today")

    monkeypatch.setattr(MARGO, "calculate_loss", broken)
    summary = as_plain(compare_seeds([*ENTRIES[:2], ENTRIES[-1]], NAME, [1], settings, "out"))
    assert [row["status"] for row in summary["models"]] == ["failed", "failed", "finished"]
    assert summary["models"][0]["errors"] == {"1": "ValueError: no loss today"}


@pytest.mark.slow
def test_several_processes_give_the_numbers_of_one(settings):
    one = compare_seeds(ENTRIES, NAME, [1], settings, "one")
    two = compare_seeds(ENTRIES, NAME, [1], settings, "two", workers=2)
    assert results(Path("one")) == results(Path("two"))
    assert [row.values for row in one.models] == [row.values for row in two.models]


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_a_number_of_workers_that_makes_no_sense_is_refused(settings, workers):
    with pytest.raises(ConfigError, match="`workers` must be a positive whole number"):
        compare_seeds(ENTRIES[:1], NAME, [1], settings, "out", workers=workers)
