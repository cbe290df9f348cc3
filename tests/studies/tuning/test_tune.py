"""A search from start to end, interrupted, failing, in several processes."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from recbole_margo.cli import main
from recbole_margo.config import Config
from recbole_margo.errors import CheckpointError, ConfigError, TrainingError
from recbole_margo.store.plain import as_plain
from recbole_margo.store.writing import write_json
from recbole_margo.studies.runs.pool import HERE, LostWorkerError, Pool
from recbole_margo.studies.runs.study import StudyReport
from recbole_margo.studies.tuning import trials
from recbole_margo.studies.tuning.command import TUNING
from recbole_margo.studies.tuning.plan import TuningPlan
from recbole_margo.studies.tuning.result import Tuning
from recbole_margo.testing import NAME, SETTINGS, random_world, small_settings
from recbole_margo.training.trainer import MultimodalTrainer

optuna = pytest.importorskip("optuna")

from recbole_margo.studies.tuning.trials import (  # noqa: E402
    ask_trial,
    best_trial,
    close_abandoned,
    counted_trials,
    open_study,
    prepare_study,
    report_score,
    shown_url,
    study_url,
)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    random_world().write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    changes = {"data_path": str(tmp_path / "data"), "epochs": 2, "train_batch_size": 64}
    return {**SETTINGS, **small_settings("MARGO"), **changes}


@pytest.fixture
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes most of the time of a tiny search: its reports."""
    monkeypatch.setattr(StudyReport, "write", lambda *words: [])


def plan_of(settings: dict[str, Any], **changes: Any) -> TuningPlan:
    words = {"over": ["tau", "learning_rate"], "trials": 3, **changes}
    plan = TuningPlan.make("MARGO", NAME, settings, **words)
    plan.check()
    write_json(Path("out", TUNING.file), as_plain(plan))
    return plan


def study_of(plan: TuningPlan) -> Any:
    return open_study(plan, study_url(Path("out")))


def run(plan: TuningPlan, pool: Pool = HERE) -> Tuning:
    return TUNING.go_on(plan, Path("out"), pool)


class Untouchable:
    """Stands in for what must not be used."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the test interactions were looked at: {name}")

    def __iter__(self) -> Any:
        raise AssertionError("the test interactions were looked at")


def test_no_trial_looks_at_the_test_set_and_the_best_is_tested_once(
    settings, unreported, monkeypatch
):
    load_split, tested = trials.load_split, []
    monkeypatch.setattr(trials, "load_split", lambda c: (*load_split(c)[:2], Untouchable()))
    from recbole_margo import run as running

    evaluate = running.evaluate_per_user
    monkeypatch.setattr(
        running,
        "evaluate_per_user",
        lambda trainer, data, *rest: tested.append(1) or evaluate(trainer, data, *rest),
    )
    found = run(plan_of(settings))
    assert [trial.state for trial in found.trials] == ["complete"] * 3
    # Both stages of the one final training.
    assert len(tested) == 2
    assert set(found.final.mean) == {"recall@5", "ndcg@5"}


def test_the_final_training_has_the_validation_score_of_the_best_trial(settings, unreported):
    found = run(plan_of(settings, trials=4))
    values = [trial.value for trial in found.trials]
    assert found.final.valid == (max(values),)
    assert found.best == values.index(max(values))
    record = json.loads(next(Path("out/final").glob("seed-*/MARGO/result.json")).read_text())
    for key, value in found.best_values.items():
        assert record["hyperparameters"][key] == value
    assert record["stages"][-1]["best_score"] == max(values)


def test_the_first_trial_is_the_model_as_it_is_and_the_files_tell_all(settings):
    given = {**settings, "alpha": 0.5}
    found = run(plan_of(given, over=(), own_space=["weight_decay=[1e-6, 1e-3, log]"]))
    first = found.trials[0]
    assert first.own and first.values["alpha"] == 0.5 and first.values["tau"] == 1.0
    assert json.loads(Path("out/tuning.json").read_text()) == as_plain(found)
    for file in ("tuning.md", "tuning.csv", "tuning.html", "history.png", "slices.svg"):
        assert Path("out", file).stat().st_size > 200
    best = yaml.safe_load(Path("out/best.yaml").read_text())
    config = Config("MARGO", NAME, ["out/best.yaml"])
    assert {key: config[key] for key in found.best_values} == found.best_values
    assert config["split_seed"] == best["split_seed"] and config["epochs"] == 2


def test_an_interrupted_search_continues_and_tries_the_interrupted_values_again(
    settings, unreported, monkeypatch
):
    plan = plan_of(settings)
    with monkeypatch.context() as patch:
        fit, calls = MultimodalTrainer.fit, []

        def interrupted(self: Any, *arguments: Any, **named: Any) -> Any:
            calls.append(self)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return fit(self, *arguments, **named)

        patch.setattr(MultimodalTrainer, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(plan)
    assert len(counted_trials(study_of(plan))) == 1
    lost = study_of(plan).trials[1].params
    found = run(TUNING.read(Path("out")))
    assert len(found.trials) == 3
    assert found.trials[1].values == lost
    resumed = run(TUNING.read(Path("out")))
    assert resumed == found


def test_a_trial_of_a_killed_process_is_closed_and_tried_again(settings):
    plan = plan_of(settings)
    study = study_of(plan)
    prepare_study(plan, study)
    killed = study.ask()
    values = {dimension.key: dimension.suggest(killed) for dimension in plan.space}
    before_it_chose = study.ask()
    assert close_abandoned(study) == 2
    assert close_abandoned(study) == 0
    states = [trial.state.name for trial in study.trials]
    assert states == ["FAIL", "FAIL", "WAITING"]
    assert counted_trials(study) == []
    again = study.ask()
    assert {dimension.key: dimension.suggest(again) for dimension in plan.space} == values
    assert before_it_chose.number == 1


def test_trials_of_processes_that_die_are_tried_again_alone_and_then_fail(
    settings, unreported, monkeypatch
):
    plan = plan_of(settings)
    asked = []

    def dying(_: Pool, function: Any, items: Any) -> Iterator[tuple[int, Any]]:
        asked.append(len(items))
        if len(asked) > 2:
            yield from ((index, function(item)) for index, item in enumerate(items))
            return
        # Two die together, and the first of them by itself too.
        for _ in items[:2]:
            trial = ask_trial(study_of(plan), plan.seed)
            for dimension in plan.space:
                dimension.suggest(trial)
        raise LostWorkerError("out of memory")

    monkeypatch.setattr(Pool, "run", dying)
    found = run(plan)
    assert asked == [3, 1, 1, 1, 1], "the last one is the final training"
    assert [trial.state for trial in found.trials] == ["failed", "complete", "complete"]
    assert "its process was lost: out of memory" in found.trials[0].error
    lost, alone = study_of(plan).trials[:2], study_of(plan).trials[2:4]
    assert [trial.params for trial in lost] == [trial.params for trial in alone]
    assert found.trials[1].number == alone[1].number


def test_a_search_that_can_begin_no_trial_ends(settings, unreported, monkeypatch):
    def dying(*words: Any) -> Iterator[None]:
        yield from ()
        raise LostWorkerError("out of memory")

    monkeypatch.setattr(Pool, "run", dying)
    with pytest.raises(TrainingError, match="no trial could be begun: out of memory"):
        run(plan_of(settings))


def test_a_trial_that_fails_is_recorded_and_the_others_go_on(settings, monkeypatch):
    fit, calls = MultimodalTrainer.fit, []

    def failing(self: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(self)
        if len(calls) == 2:
            raise TrainingError("the loss became nan")
        return fit(self, *arguments, **named)

    monkeypatch.setattr(MultimodalTrainer, "fit", failing)
    found = run(plan_of(settings))
    assert [trial.state for trial in found.trials] == ["complete", "failed", "complete"]
    assert "TrainingError: the loss became nan" in Path("out/tuning.md").read_text()


def test_a_search_without_a_result_says_why(settings, monkeypatch):
    def failing(self: Any, *arguments: Any, **named: Any) -> Any:
        raise TrainingError("the loss became nan")

    monkeypatch.setattr(MultimodalTrainer, "fit", failing)
    with pytest.raises(TrainingError, match="none of 3 trials has a result"):
        run(plan_of(settings))
    assert Path("out/tuning.md").read_text().count("the loss became nan") >= 3


@pytest.mark.slow
def test_two_processes_run_exactly_the_trials_that_were_asked_for(settings, unreported):
    found = run(plan_of(settings, trials=3), Pool(2))
    assert [trial.state for trial in found.trials] == ["complete"] * 3
    taus = {trial.values["tau"] for trial in found.trials}
    assert len(taus) == 3


def test_the_trial_that_waits_is_asked_for_by_one_process_at_a_time(settings, unreported, tmp_path):
    # SQLite gives it to two that ask at the same moment, and the later one fails at its end.
    plan = plan_of(settings, trials=2)
    url = study_url(tmp_path)
    study = open_study(plan, url)
    prepare_study(plan, study)
    waits = study.get_trials(deepcopy=False)[0].state
    with FileLock(f"{tmp_path / trials.STUDY_FILE}.lock"):
        other = threading.Thread(target=trials.run_trial, args=(plan, url))
        other.start()
        other.join(timeout=2)
        assert other.is_alive()
        assert [trial.state for trial in study.get_trials(deepcopy=False)] == [waits]
    other.join(timeout=120)
    assert [trial.state.name for trial in study.get_trials(deepcopy=False)] == ["COMPLETE"]


def test_the_steps_of_a_stage_are_the_same_in_every_trial(settings):
    steps: list[int] = []
    plan = plan_of({**settings, "epochs": 30, "stopping_step": 0, "eval_step": 2})
    trials.validation_score(plan.config({}), lambda step, score: steps.append(step))
    first = [step for step in steps if step < 30]
    second = [step for step in steps if step >= 30]
    assert first == list(range(1, 2 * len(first), 2)) and len(first) < 15
    assert second == list(range(31, 31 + 2 * len(second), 2)) and second


def test_the_score_of_a_trial_is_the_best_of_the_last_stage(settings):
    scores: dict[int, float] = {}
    plan = plan_of({**settings, "epochs": 4})
    score = trials.validation_score(plan.config({}), scores.__setitem__)
    assert score == max(value for step, value in scores.items() if step >= 4)
    assert len(scores) == 8


def test_what_is_worse_than_the_median_of_the_same_stage_is_pruned(settings):
    plan = plan_of({**settings, "epochs": 40})
    study = study_of(plan)
    for level in range(7):
        good = study.ask()
        # Stage 1 ends early in some; in stage 2 the scores are higher than they ever were before.
        for epoch in range(12 + level):
            good.report(0.2, epoch)
        for epoch in range(12):
            good.report(0.5 + level / 100, 40 + epoch)
        study.tell(good, 0.5 + level / 100)
    fair = study.ask()
    for epoch in range(30):
        report_score(fair, epoch, 0.2)
    for epoch in range(11):
        report_score(fair, 40 + epoch, 0.53)
    with pytest.raises(optuna.TrialPruned):
        bad = study.ask()
        for epoch in range(11):
            report_score(bad, epoch, 0.1)
    with pytest.raises(optuna.TrialPruned):
        report_score(study.ask(), 40, 0.4)
    early = study.ask()
    for epoch in range(9):
        report_score(early, epoch, 0.0)


def test_the_best_of_equals_is_the_earlier_also_where_smaller_is_better(settings):
    for metric, worst in (("NDCG@5", 0.1), ("AveragePopularity@5", 9.0)):
        plan = plan_of(
            {**settings, "valid_metric": metric, "metrics": ["NDCG", "AveragePopularity"]},
            study=metric,
        )
        study = study_of(plan)
        for value in (worst, 3.0, 3.0):
            study.tell(study.ask(), value)
        assert best_trial(study).number == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 0}, "--trials must be a positive whole number"),
        ({"seeds": [1, 1]}, "--seeds must be different"),
        ({"settings": {"eval_step": 0}}, "a search needs validation"),
        ({"settings": {"tua": 1}}, "unknown key `tua`"),
        ({"over": (), "own_space": ["tua=[1, 2]"]}, "unknown key `tua`"),
        ({"over": ["tau"], "own_space": ["tau=[-1, 2, linear]"]}, "`tau` must lie in"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(settings, changes, message):
    changes = dict(changes)
    values = {**settings, **changes.pop("settings", {})}
    with pytest.raises(ConfigError, match=message):
        plan_of(values, **changes)
    assert not list(Path("out").iterdir())


def test_the_command_searches_reports_and_resumes(settings, capsys):
    words = [f"--{key}={json.dumps(value)}" for key, value in settings.items()]
    command = ["tune", f"--dataset={NAME}", "--over=tau", "--trials=2", "--seed=5"]
    assert main([*command, "--seeds=[1, 2]", "--output_dir=new", *words]) == 0
    printed = capsys.readouterr().out
    assert "2 of 2 trials: 2 complete, 0 pruned, 0 failed." in printed
    assert "0 (own)" in printed and "test Recall@5" in printed
    assert "--config_files=new/best.yaml" in printed
    assert TUNING.read(Path("new")).seed == 5
    assert sorted(path.name for path in Path("new/final").glob("seed-*")) == ["seed-1", "seed-2"]
    assert main(["tune", "--resume=new"]) == 0
    assert capsys.readouterr().out == printed
    for wrong, message in {
        "--trials=9": "leave out --trials",
        "--alpha=1": "leave out --alpha",
        "--cluster=auto": "--cluster needs a storage",
        "--ray=auto": "--cluster needs a storage",
        "--storage=sqlite:///x.sqlite3": "expected none, the trials are in the folder",
        "--workers=0": "`workers` must be",
    }.items():
        assert main(["tune", "--resume=new", wrong]) == 2
        assert message in capsys.readouterr().err
    assert main([*command, "--output_dir=new", *words]) == 2
    assert "new is not empty: continue a search with --resume=new" in capsys.readouterr().err


def test_a_folder_that_holds_no_search_is_not_resumed(settings):
    with pytest.raises(CheckpointError, match="does not hold a search"):
        TUNING.read(Path("out"))


def test_two_searches_do_not_work_on_one_folder(settings):
    from filelock import FileLock

    plan = plan_of(settings)
    with (
        FileLock(Path("out/.lock")),
        pytest.raises(ConfigError, match="out: another process is writing its run into this"),
    ):
        run(plan)


def test_a_password_is_shown_nowhere():
    assert "secret" not in shown_url("postgresql://me:secret@host/db")
    with pytest.raises(ConfigError, match="expected the URL of a database"):
        shown_url("nonsense")


@pytest.mark.parametrize(
    ("module", "words"), [("optuna", []), ("ray", ["--ray=auto", "--storage=sqlite:///x"])]
)
def test_a_missing_library_is_named_with_its_command(module, words, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["tune", *words]) == 2
    extra = "tune" if module == "optuna" else "ray"
    assert f"pip install 'recbole-margo[{extra}]'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_cluster_runs_exactly_the_trials_that_were_asked_for(settings, unreported):
    pytest.importorskip("ray")
    found = run(plan_of(settings, trials=3), Pool(2, "local"))
    assert [trial.state for trial in found.trials] == ["complete"] * 3
    assert len({trial.values["tau"] for trial in found.trials}) == 3
    assert found.final.valid == (max(trial.value for trial in found.trials),)
