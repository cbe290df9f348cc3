"""Curves over hyper-parameters: what is trained, what is written, what is refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from small_studies import compare_seeds, sweep

from recbole_margo.cli import main
from recbole_margo.errors import CheckpointError, ConfigError
from recbole_margo.model.lgmrec import LGMRec
from recbole_margo.model.margo import MARGO
from recbole_margo.model.parameters import Hyperparameter
from recbole_margo.store.plain import as_plain
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.studies.sweep.command import (
    SWEEP,
    parse_over,
    published_values,
    same_value,
    sweep_entries,
)
from recbole_margo.studies.sweep.result import axis_scale
from recbole_margo.testing import NAME, SETTINGS, random_world, small_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    random_world().write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    changes = {"data_path": str(tmp_path / "data"), "epochs": 1, "train_batch_size": 64}
    return {**SETTINGS, **small_settings("MARGO"), **changes}


def words(settings: dict[str, Any]) -> list[str]:
    return [f"--{key}={json.dumps(value)}" for key, value in settings.items()]


def labels(*over: str, settings: dict[str, Any], model: str = "MARGO") -> list[str]:
    entries = sweep_entries(model, parse_over(over), NAME, settings)
    return [entry.label for entry in entries]


def test_the_own_value_is_trained_once_and_belongs_to_every_curve(settings):
    over = {"alpha": [0.1, 1, 10], "tau": [0.5, 1.0]}
    swept = as_plain(sweep(over, NAME, [1, 2], settings, "out"))
    trained = sorted(path.name for path in Path("out/seed-2").iterdir())
    assert trained == ["MARGO", "alpha-0.1", "alpha-10", "tau-0.5"]
    alpha, tau = swept["hyperparameters"]
    assert [point["value"] for point in alpha["points"]] == [0.1, 1.0, 10]
    assert [point["own"] for point in alpha["points"]] == [False, True, False]
    assert [point["own"] for point in tau["points"]] == [False, True]
    assert {**alpha["points"][1], "value": 1.0} == {**tau["points"][1], "value": 1.0}


def test_the_numbers_are_those_of_the_runs(settings):
    swept = as_plain(sweep({"tau": [0.5]}, NAME, [4, 7], settings, "out"))
    point = swept["hyperparameters"][0]["points"][0]
    for place, seed in enumerate([4, 7]):
        record = json.loads(Path(f"out/seed-{seed}/tau-0.5/result.json").read_text())
        assert record["hyperparameters"]["tau"] == 0.5
        assert point["valid"][place] == record["stages"][-1]["best_score"]
        assert point["test"]["ndcg@5"][place] == record["test"]["ndcg@5"]
    assert json.loads(Path("out/sweep.json").read_text()) == swept
    rows = list(csv.DictReader(io.StringIO(Path("out/sweep.csv").read_text())))
    # Two values, two seeds, one metric on validation and two on test.
    assert len(rows) == 2 * 2 * 3
    chosen = [row for row in rows if row["own"] == "false" and row["on"] == "valid"]
    assert [float(row["number"]) for row in chosen] == point["valid"]
    for file in ("sweep.md", "sweep.html", "sweep.png", "sweep.svg", "report.html"):
        assert Path("out", file).stat().st_size > 200


def test_an_interrupted_sweep_continues_to_the_same_numbers(settings, monkeypatch):
    from recbole_margo.training.trainer import MultimodalTrainer

    over = {"tau": [0.5, 4.0]}
    whole = as_plain(sweep(over, NAME, [1], settings, "whole"))
    with monkeypatch.context() as patch:
        fit, calls = MultimodalTrainer.fit, []

        def interrupted(self: Any, *arguments: Any, **named: Any) -> Any:
            calls.append(self)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return fit(self, *arguments, **named)

        patch.setattr(MultimodalTrainer, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sweep(over, NAME, [1], settings, "out")
    assert not Path("out/sweep.json").exists()
    assert as_plain(SWEEP.resume("out"))["hyperparameters"] == whole["hyperparameters"]


def test_a_value_that_fails_is_left_out_and_named(settings, monkeypatch):
    from recbole_margo.training.trainer import MultimodalTrainer

    fit = MultimodalTrainer.fit

    def failing(self: Any, *arguments: Any, **named: Any) -> Any:
        if self.config["tau"] == 4.0:
            raise ValueError("no luck")
        return fit(self, *arguments, **named)

    monkeypatch.setattr(MultimodalTrainer, "fit", failing)
    swept = as_plain(sweep({"tau": [0.5, 4.0]}, NAME, [1], settings, "out"))
    failed = swept["hyperparameters"][0]["points"][2]
    assert failed["seeds"] == [] and "no luck" in failed["errors"]["1"]
    assert "tau=4 failed, seed 1: ValueError: no luck" in Path("out/sweep.html").read_text()


def test_the_published_range_gives_five_round_values():
    assert published_values(MARGO, "alpha") == [0.001, 0.01, 0.1, 1.0, 10.0]
    assert published_values(MARGO, "tau") == [0.05, 0.22, 1.0, 4.5, 20.0]
    assert published_values(MARGO, "item_neighbors") == [5, 10, 20]
    assert published_values(MARGO, "backbone") == ["DRAGON", "LightGCN"]
    linear = [
        key
        for key, known in LGMRec.parameters_class.descriptions().items()
        if known.search == (0.1, 1.0, "linear")
    ]
    assert published_values(LGMRec, linear[0]) == [0.1, 0.33, 0.55, 0.78, 1.0]
    with pytest.raises(ConfigError, match="no published search range for `beta`"):
        published_values(MARGO, "beta")


def test_values_of_any_kind_can_be_swept(settings):
    assert labels("two_stage=true,false", settings=settings) == ["MARGO", "two_stage=false"]
    assert labels("modalities=[text],[image]", settings=settings)[1:] == [
        'modalities=["text"]',
        'modalities=["image"]',
    ]
    assert labels("embedding_size=4,8", settings={**settings, "embedding_size": 4})[1:] == [
        "embedding_size=8"
    ]
    of_recbole = {"data_path": settings["data_path"], "n_layers": 2}
    assert labels("n_layers=1,2,3", settings=of_recbole, model="LightGCN")[1:] == [
        "n_layers=1",
        "n_layers=3",
    ]


def test_whether_two_values_are_the_same():
    assert same_value(1, 1.0)
    assert not same_value(1, True)
    assert not same_value(None, 0)


@pytest.mark.parametrize(
    ("values", "search", "scale"),
    [
        ([0.01, 0.1, 10], None, "log"),
        ([1, 2, 3], None, "linear"),
        ([1, 2, 3], (1.0, 3.0, "log"), "log"),
        ([0, 0.1, 10], (1e-3, 10.0, "log"), "ordinal"),
        ([None, 0.1], [0.1], "ordinal"),
        ([True, False], None, "ordinal"),
        (["DRAGON", "LightGCN"], None, "ordinal"),
    ],
)
def test_the_axis_fits_the_values(values, search, scale):
    assert axis_scale(values, Hyperparameter("", search=search)) == scale


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ([], "name what to sweep over"),
        (["alhpa=1,2"], "unknown key `alhpa` for model MARGO: did you mean alpha"),
        (["beta"], "has no published search range for `beta`: write the values"),
        (["alpha=1"], "expected a value other than the model's own, found only 1"),
        (["alpha=2,2.0"], "names a value twice|different names"),
        (["alpha=-1,2"], r"`alpha` must lie in \[0"),
        (["alpha=low,high"], "`alpha` must be a number|must be float"),
        (["seed=1,2"], "`seed` cannot be swept over"),
        (["valid_metric=Recall@5"], "`valid_metric` cannot be swept over"),
        (["alpha=1", "alpha=2"], "names alpha twice"),
        (["alpha="], "has no values"),
        (["=3"], "expected KEY or KEY=VALUE"),
        (["alpha=[1"], "not valid YAML"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(settings, over, message):
    with pytest.raises(ConfigError, match=message):
        sweep(parse_over(over), NAME, [1], settings, "out")
    assert not Path("out").exists()


def test_a_comparison_is_not_continued_as_a_sweep(settings):
    compare_seeds(Entry.of_models(["BPR", "DRAGON"]), NAME, [1], settings, "out")
    with pytest.raises(ConfigError, match="to be continued with `recbole-margo compare"):
        SWEEP.resume("out")
    with pytest.raises(CheckpointError, match="does not hold a sweep"):
        SWEEP.resume("nothing")


def test_the_command_prints_tables_and_resumes(settings, capsys):
    over = ["--over", "tau=0.5,2", "backbone=LightGCN"]
    code = main(
        ["sweep", *over, f"--dataset={NAME}", "--seeds=[3]", "--output_dir=out", *words(settings)]
    )
    printed = capsys.readouterr().out
    assert code == 0
    assert "1 (own)" in printed and "DRAGON (own)" in printed
    assert "validation Recall@5" in printed and "Report: out/sweep.html" in printed
    assert "One seed (3), so there is no deviation" in printed
    assert main(["sweep", "--resume=out"]) == 0
    assert capsys.readouterr().out == printed
    assert main(["sweep", "--resume=out", "--over", "tau"]) == 2
    assert "a resumed run keeps its settings; leave out --over" in capsys.readouterr().err
    assert main(["sweep", "--over", "tau", "--seeds=many"]) == 2
    assert "--seeds must be a number or a list" in capsys.readouterr().err
