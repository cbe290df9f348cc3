"""What a search found, read off a study whose numbers were worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recbole_margo.report import json_text, terminal_text
from recbole_margo.store.plain import as_plain
from recbole_margo.studies.comparison.result import ComparedModel, Comparison
from recbole_margo.studies.tuning.command import TUNING
from recbole_margo.studies.tuning.plan import TuningPlan
from recbole_margo.studies.tuning.report import tuning_report
from recbole_margo.studies.tuning.result import FinalResult, TrialResult, Tuning
from recbole_margo.testing import NAME, SETTINGS, random_world, small_settings

optuna = pytest.importorskip("optuna")

from recbole_margo.studies.tuning.trials import (  # noqa: E402
    counted_trials,
    open_study,
    prepare_study,
    study_url,
)

STATE = optuna.trial.TrialState


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TuningPlan:
    random_world().write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    settings = {**SETTINGS, **small_settings("MARGO"), "data_path": "data", "epochs": 30}
    # A plan as earlier versions wrote it.
    stored = {
        "model": "MARGO",
        "dataset": NAME,
        "settings": settings,
        "space": [
            {
                "key": "tau",
                "low": 0.05,
                "high": 20.0,
                "scale": "log",
                "integer": False,
                "choices": [],
            },
            {
                "key": "user_neighbors",
                "low": float("nan"),
                "high": float("nan"),
                "scale": "choice",
                "integer": False,
                "choices": [3, 10],
            },
        ],
        "trials": 5,
        "seed": 7,
        "seeds": [1, 2],
        "study": "tune",
        "storage": None,
    }
    Path(TUNING.file).write_text(json.dumps(stored))
    return TUNING.read(Path())


def told(study: Any, tau: float, neighbors: int, seconds: float) -> Any:
    study.enqueue_trial({"tau": tau, "user_neighbors": neighbors})
    trial = study.ask()
    trial.suggest_float("tau", 0.05, 20.0, log=True)
    trial.suggest_categorical("user_neighbors", [3, 10])
    trial.set_user_attr("seconds", seconds)
    return trial


@pytest.fixture
def study(plan: TuningPlan) -> Any:
    """Return a study as earlier versions left it, with every fate that a trial can have."""
    study = open_study(plan, study_url(Path()))
    for tau, neighbors, scores in ((1.0, 3, (0.1, 0.2)), (2.0, 10, (0.5, 0.4)), (4.0, 3, (0.5,))):
        trial = told(study, tau, neighbors, 1.5)
        for step, score in enumerate(scores):
            trial.report(score, step)
        study.tell(trial, max(scores))
    pruned = told(study, 8.0, 3, 0.5)
    pruned.report(0.25, 30)
    study.tell(pruned, state=STATE.PRUNED)
    interrupted = told(study, 3.0, 10, 0.25)
    study.tell(interrupted, state=STATE.FAIL)
    study.set_user_attr(f"trial {interrupted.number}", "interrupted, tried again")
    lost = told(study, 3.0, 10, 0.25)
    study.tell(lost, state=STATE.FAIL)
    study.set_user_attr(f"trial {lost.number}", "its process ended with -9")
    return study


FINAL = FinalResult.of(
    Comparison(
        dataset=NAME,
        eval_protocol="recbole",
        split="abc",
        seeds=(1, 2, 3),
        valid_metric="Recall@5",
        reference="MARGO",
        metrics=("recall@5",),
        models=(
            ComparedModel(
                label="MARGO",
                model="MARGO",
                status="finished",
                errors={"3": "out of memory"},
                values={"recall@5": (0.1, 0.3)},
                valid=(0.2, None, 0.4),
                mean={"recall@5": 0.2},
                std={"recall@5": 0.5},
            ),
        ),
    )
)


def test_every_fate_of_a_trial_is_read_off_the_study(plan, study):
    found = Tuning.of(plan, study, FINAL)
    assert [trial.number for trial in found.trials] == [0, 1, 2, 3, 5]
    assert found.trials[0] == TrialResult(
        number=0,
        state="complete",
        value=0.2,
        last_score=0.2,
        validations=2,
        own=True,
        values={"tau": 1.0, "user_neighbors": 3},
        seconds=1.5,
        error=None,
    )
    assert (found.trials[1].value, found.trials[1].last_score) == (0.5, 0.4)
    assert found.trials[3] == TrialResult(
        3, "pruned", None, 0.25, 1, False, {"tau": 8.0, "user_neighbors": 3}, 0.5, None
    )
    assert (found.trials[4].state, found.trials[4].error) == ("failed", "its process ended with -9")
    assert [(score, trial.number) for score, trial in found.ranked()] == [
        (0.5, 1),
        (0.5, 2),
        (0.2, 0),
    ]
    assert (found.best, found.best_values) == (1, {"tau": 2.0, "user_neighbors": 10})
    assert found.importances is None
    assert found.importances_note == "fewer than 4 trials are complete"
    assert [(one.key, one.low, one.own) for one in found.space] == [
        ("tau", 0.05, 1.0),
        ("user_neighbors", None, 3),
    ]


def test_the_final_result_has_mean_and_deviation_of_the_seeds_that_finished():
    assert FINAL.valid == (0.2, 0.4)
    assert FINAL.valid_mean == pytest.approx(0.3)
    assert FINAL.valid_std == pytest.approx(0.02**0.5)
    assert FINAL.errors == {"3": "out of memory"}


def test_the_files_and_tables_hold_these_numbers(plan, study):
    found = Tuning.of(plan, study, FINAL)
    assert tuning_report(found).texts["tuning.csv"] == (
        "number,state,value,last_score,validations,seconds,parameter tau,"
        "parameter user_neighbors,error\n"
        "0,complete,0.2,0.2,2,1.5,1.0,3,\n"
        "1,complete,0.5,0.4,2,1.5,2.0,10,\n"
        "2,complete,0.5,0.5,1,1.5,4.0,3,\n"
        "3,pruned,,0.25,1,0.5,8.0,3,\n"
        "5,failed,,,0,0.25,3.0,10,its process ended with -9\n"
    )
    plain = json.loads(json_text(as_plain(found)))
    assert list(plain) == [
        "model",
        "dataset",
        "eval_protocol",
        "valid_metric",
        "bigger_is_better",
        "settings",
        "seed",
        "planned_trials",
        "space",
        "trials",
        "best",
        "best_values",
        "importances",
        "importances_note",
        "final",
    ]
    assert plain["final"]["values"] == {"recall@5": [0.1, 0.3]}
    text = terminal_text(tuning_report(found).shown)
    assert "5 of 5 trials: 3 complete, 1 pruned, 1 failed." in text
    assert "Trial 5 failed: its process ended with -9" in text
    assert "The best values failed, seed 3: out of memory" in text
    assert "validation Recall@5  0.3000 ± 0.1414" in text
    assert "Trial 1 had 0.5000 on validation, the largest of 3" in text
    shown = tuning_report(found).document
    assert [figure.name for figure in shown.figures()] == ["history", "slices"]
    tables = {part.title: part for section in shown.sections for part in section.parts[:3]
              if hasattr(part, "rows")}  # fmt: skip
    row = [cell.text for cell in tables["All trials"].rows[3]]
    assert row == ["3", "pruned at 0.2500", "8", "3", "1", "0.5"]
    assert [cell.text for cell in tables["Search space"].rows[0]] == [
        "tau",
        "0.05 to 20, log",
        "1",
        "2",
    ]


def test_figures_show_every_complete_and_pruned_trial(plan, study):
    for figure in tuning_report(Tuning.of(plan, study)).document.figures():
        drawn = figure.drawing()
        panels = {panel.get_xlabel(): panel for panel in drawn.axes}
        assert set(panels) in ({"trial"}, {"tau, log scale", "user_neighbors"})
        for panel in panels.values():
            points = {line.get_label(): len(line.get_xdata()) for line in panel.lines}
            assert points["complete trial"] == 3 and points["best trial"] == 1
            assert points["pruned, its last score"] == points["own values of the model"] == 1


def test_a_study_of_an_earlier_version_goes_on_without_trying_closed_trials_again(plan, study):
    before = len(study.trials)
    prepare_study(plan, study)
    assert len(study.trials) == before
    assert len(counted_trials(study)) == 5
