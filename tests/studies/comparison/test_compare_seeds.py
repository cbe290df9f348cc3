from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recbole.trainer import Trainer
from small_studies import compare_seeds

from recbole_margo.cli import main
from recbole_margo.config import Config
from recbole_margo.data.protocol import split_fingerprint
from recbole_margo.errors import CheckpointError, ConfigError
from recbole_margo.evaluation.per_user import PerUserMetrics
from recbole_margo.evaluation.significance import compare_paired
from recbole_margo.run import load_split
from recbole_margo.store.plain import as_plain
from recbole_margo.studies.comparison.command import COMPARISON
from recbole_margo.studies.comparison.plan import ablation_entries
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.testing import MISSING, NAME, SETTINGS, random_world, small_settings

MODELS = Entry.of_models(["DRAGON", "FREEDOM", "BPR"])
WORLD = random_world().without(MISSING["some items miss one"])


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    WORLD.write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    changes = {"data_path": str(tmp_path / "data"), "epochs": 1, "train_batch_size": 64}
    return {**SETTINGS, **small_settings("DRAGON"), **changes}


def record_of(seed: int, label: str) -> dict[str, Any]:
    return json.loads(Path(f"out/seed-{seed}/{label}/result.json").read_text())


def test_means_and_deviations_are_those_of_the_records(settings):
    summary = as_plain(compare_seeds(MODELS, NAME, [1, 5], settings, "out"))
    assert [row["label"] for row in summary["models"]] == ["DRAGON", "FREEDOM", "BPR"]
    assert summary["metrics"] == ["recall@5", "ndcg@5"]
    assert summary.pop("cold") is None  # the file is as it was before there were cold items
    assert json.loads(Path("out/summary.json").read_text()) == summary
    for row in summary["models"]:
        values = [record_of(seed, row["label"])["test"]["recall@5"] for seed in (1, 5)]
        assert row["values"]["recall@5"] == values
        assert row["mean"]["recall@5"] == pytest.approx(sum(values) / 2)
        assert row["std"]["recall@5"] == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))
    for file in ("report.html", "comparison.tex", "comparison.csv", "comparison.md", "metrics.svg"):
        assert Path("out", file).stat().st_size > 200


def test_tests_compare_users_whose_values_are_averaged_over_seeds(settings):
    summary = as_plain(compare_seeds(MODELS, NAME, [1, 2], settings, "out", reference="FREEDOM"))
    per_user = {
        label: [PerUserMetrics.load(Path(f"out/seed-{s}/{label}/per_user.npz")) for s in (1, 2)]
        for label in ("DRAGON", "FREEDOM")
    }
    assert (per_user["DRAGON"][0].users == per_user["FREEDOM"][1].users).all()
    means = {
        label: np.mean([result.metrics["ndcg@5"] for result in results], axis=0)
        for label, results in per_user.items()
    }
    found = {row["label"]: row for row in summary["tests"]["ndcg@5"]}
    assert set(found) == {"DRAGON", "BPR"}
    expected = compare_paired(means["DRAGON"], means["FREEDOM"])
    assert found["DRAGON"]["difference"] == pytest.approx(expected.difference)
    assert found["DRAGON"]["wilcoxon_p"] == pytest.approx(expected.wilcoxon_p)
    by_mean = {row["label"]: row["mean"]["ndcg@5"] for row in summary["models"]}
    assert found["BPR"]["difference"] == pytest.approx(by_mean["BPR"] - by_mean["FREEDOM"])
    for row in found.values():
        assert row["wilcoxon_p"] <= row["wilcoxon_holm"] <= min(1, 2 * row["wilcoxon_p"]) + 1e-12


def test_slices_count_the_test_interactions_of_their_items(settings):
    summary = as_plain(compare_seeds(MODELS, NAME, [1], settings, "out"))
    of_modalities = {
        row["name"]: row for row in summary["slices"] if row["kind"] == "missing modality"
    }
    missing = MISSING["some items miss one"]
    tested = [item for _, item in WORLD.splits["test"]]
    for modality in ("image", "text"):
        row = of_modalities[f"misses {modality}"]
        assert row["pairs"] == sum(item in missing[modality] for item in tested)
        assert set(row["values"]) == {"DRAGON", "FREEDOM", "BPR"}
    # One positive a user: a slice's recall is the share of its pairs that are hits.
    result = PerUserMetrics.load(Path("out/seed-1/DRAGON/per_user.npz"))
    of_text = np.isin(result.pair_item, missing["text"])
    hits = (result.pair_rank[of_text] > 0).mean()
    assert of_modalities["misses text"]["values"]["DRAGON"] == pytest.approx(hits)


def test_a_seed_never_changes_the_split_of_a_comparison():
    fingerprints = {}
    for seed, split_seed in ((1, 7), (2, 7), (1, None), (2, None)):
        settings = {"seed": seed, "split_seed": split_seed}
        loaders = load_split(Config("BPR", "ml-100k", config_dict=settings))
        fingerprints[seed, split_seed] = split_fingerprint(*loaders)
    assert fingerprints[1, 7] == fingerprints[2, 7]
    assert fingerprints[1, None] != fingerprints[2, None]


def test_finished_runs_are_kept_and_the_others_trained(settings, monkeypatch):
    whole = as_plain(compare_seeds(MODELS, NAME, [1, 2], settings, "whole"))
    fit, calls = Trainer.fit, []

    def interrupted(self, *args, **kwargs):
        calls.append(self.config["model"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(self, *args, **kwargs)

    # RecBole's own trainer trains BPR, once a seed.
    monkeypatch.setattr(Trainer, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare_seeds(MODELS, NAME, [1, 2], settings, "out")
    assert not Path("out/summary.json").exists()
    kept = Path("out/seed-1/DRAGON/result.json")
    before = kept.stat().st_mtime_ns
    resumed = as_plain(COMPARISON.resume("out"))
    assert kept.stat().st_mtime_ns == before
    assert calls == ["BPR", "BPR", "BPR"]
    for one, other in zip(whole["models"], resumed["models"], strict=True):
        assert one["values"] == other["values"]


def test_a_model_that_fails_does_not_cost_the_others_their_results(settings):
    entries = [*MODELS, Entry("broken", "DRAGON", {"learning_rate": 1e30})]
    summary = as_plain(compare_seeds(entries, NAME, [1], settings, "out"))
    by_label = {row["label"]: row for row in summary["models"]}
    assert by_label["broken"]["status"] == "failed"
    assert "learning_rate" in by_label["broken"]["errors"]["1"]
    assert by_label["FREEDOM"]["status"] == "finished"
    assert "loss of DRAGON became" in Path("out/comparison.md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entries": []}, "reference"),
        ({"seeds": []}, "`seeds` must be different whole numbers"),
        ({"seeds": [1, 1]}, r"`seeds` must be different whole numbers, found \[1, 1\]"),
        ({"reference": "MICRO"}, "`reference` must be one of DRAGON, FREEDOM, BPR"),
        ({"entries": [*MODELS, MODELS[0]]}, "need different names, found DRAGON"),
        ({"settings": {"seed": 4}}, "split_seed"),
        ({"settings": {"alhpa": 4}}, "alhpa"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(settings, changes, message):
    words = {"entries": MODELS, "seeds": [1], "folder": "out", **changes}
    words["settings"] = {**settings, **changes.get("settings", {})}
    with pytest.raises(ConfigError, match=message):
        compare_seeds(dataset=NAME, **words)
    assert not Path("out").exists()


def test_a_folder_that_holds_something_is_not_written_into(settings):
    Path("out").mkdir()
    Path("out/thesis.tex").touch()
    with pytest.raises(ConfigError, match="out is not empty"):
        compare_seeds(MODELS, NAME, [1], settings, "out")
    with pytest.raises(CheckpointError, match="does not hold a comparison"):
        COMPARISON.resume("out")


def test_the_ablations_of_the_paper_are_entries(settings):
    entries = ablation_entries(NAME, settings)
    assert {entry.label: dict(entry.settings) for entry in entries} == {
        "MARGO": {},
        "w/o weight": {"item_weights": False},
        "w/o L_cal": {"alpha": 0.0},
        "w/o two-stage": {"two_stage": False},
        "w/o nograd": {"stop_gradient": False},
        "w/o weight, mean": {"item_weights": False, "score_scale": 0.5},
        "MARGO image": {"modalities": ["image"]},
        "MARGO text": {"modalities": ["text"]},
        "DRAGON": {},
    }
    assert len({entry.folder for entry in entries}) == len(entries)
    scaled = {
        entry.label: entry for entry in ablation_entries(NAME, {**settings, "score_scale": 2})
    }
    assert scaled["w/o weight, mean"].settings["score_scale"] == 1
    alone = [entry.label for entry in ablation_entries(NAME, {**settings, "modalities": ["text"]})]
    assert alone[-1] == "DRAGON"
    assert not {"w/o weight, mean", "MARGO text"} & set(alone)


def test_the_command_ablates_and_says_where_the_report_is(settings, capsys):
    words = [f"--{key}={json.dumps(value)}" for key, value in settings.items()]
    assert main(["ablate", f"--dataset={NAME}", "--seeds=[3]", "--output_dir=out", *words]) == 0
    printed = capsys.readouterr().out
    assert "w/o L_cal" in printed and "Report: out/report.html" in printed
    assert record_of(3, "w-o-nograd")["hyperparameters"]["stop_gradient"] is False
    assert main(["ablate", "--resume=out"]) == 0
    assert main(["ablate", "--resume=out", "--alpha=3"]) == 2
    assert "a resumed run keeps its settings" in capsys.readouterr().err
    assert main(["compare", "--seeds=many"]) == 2
    assert "--seeds must be a number or a list" in capsys.readouterr().err
