"""The benchmarks measure what they say: one loss, computed two ways, on graphs of known size."""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import precision, repeated_timing, score_scale, startup
from benchmarks.__main__ import main
from benchmarks.contenders import Naive, Ours, RecBoleEvaluation
from benchmarks.generated_graph import generated_splits, power_law_degrees, read_splits
from benchmarks.options import Options
from benchmarks.repeated_timing import in_turn
from benchmarks.scaling import exponent, series
from benchmarks.shapes import SHAPES, TINY
from benchmarks.shown import duration
from benchmarks.workload import Workload, make_dataset
from recbole_margo.errors import RecBoleMargoError
from recbole_margo.testing import NAME, SETTINGS, random_world, small_settings

ROOT = Path(__file__).resolve().parents[1]
FILES = ["benchmarks.json", "benchmarks.md"]
FIGURES = ["benchmarks-overview", "benchmarks-step", "benchmarks-scaling"]
STAGES = ["DRAGON", "MARGO stage 1", "MARGO stage 2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("benchmarks")
    _, name = make_dataset(TINY, folder / "data")
    return folder, name


def workload(data: tuple[Path, str], model: str) -> Workload:
    folder, name = data
    return Workload(TINY, folder / "data", name, model, "cpu", folder / "checkpoints")


def contenders(data: tuple[Path, str], stage: str) -> tuple[Ours, Naive]:
    """Return both on the same data, all parameters drawn anew so that none is equal by chance."""
    work = workload(data, stage.split()[0])
    ours = Ours(work, work.stages()[stage])
    with torch.no_grad():
        for parameter in ours.model.parameters():
            parameter.normal_(std=0.5)
    return ours, Naive.like(ours, build_graphs=True)


# --- the naive reference --------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_the_naive_loss_and_gradients_are_ours(data, stage):
    ours, naive = contenders(data, stage)
    for batch in ours.loaders[0]:
        losses = []
        for model in (ours.model, naive.model):
            model.train()
            model.zero_grad()
            terms = model.calculate_loss(batch)
            sum(terms).backward()
            losses.append([term.item() for term in terms])
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        expected = dict(naive.model.named_parameters())
        for name, parameter in ours.model.named_parameters():
            gradient = expected.pop(name.removeprefix("backbone.")).grad
            if gradient is None:
                assert parameter.grad is None
                continue
            assert gradient.abs().max() > 0
            scale = gradient.abs().max().item()
            torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=2e-5 * scale)
        assert expected == {}


def test_the_stages_of_margo_have_different_losses(data):
    losses = []
    for stage in STAGES[1:]:
        ours, naive = contenders(data, stage)
        batch = next(iter(ours.loaders[0]))
        losses.append(len(naive.model.calculate_loss(batch)))
        assert ours.model.training_stages == (stage.removeprefix("MARGO ").replace(" ", ""),)
    assert losses == [2, 3]


def test_graphs_taken_over_are_those_built_in_the_naive_way(data):
    ours, built = contenders(data, "DRAGON")
    taken = Naive.like(ours)
    user_graphs = []
    for naive in (taken.model, built.model):
        dense = torch.zeros(naive.n_users, naive.n_users)
        ids = torch.tensor(naive.user_neighbors)
        user_graphs.append(dense.scatter_add(1, ids, naive.user_weights_of_neighbors))
    torch.testing.assert_close(*user_graphs)
    assert user_graphs[0][1:].sum(dim=1).allclose(torch.ones(TINY.users))
    nodes = torch.randn(ours.model.n_users + ours.model.n_items, 3)
    items = nodes[: ours.model.n_items]
    for graph, values in (("interaction_graph", nodes), ("item_graph", items)):
        both = [getattr(naive.model, graph).messages(values) for naive in (taken, built)]
        torch.testing.assert_close(*both)


@pytest.mark.parametrize("stage", STAGES)
def test_all_evaluations_give_the_same_metrics(data, stage):
    ours, naive = contenders(data, stage)
    metrics = [each.evaluate()[1] for each in (ours, naive, RecBoleEvaluation(ours))]
    assert metrics[0] == metrics[2]
    assert metrics[1] == pytest.approx(metrics[0], abs=1e-12)
    assert max(metrics[0].values()) > 0


# --- what is timed --------------------------------------------------------------------------------


def test_a_step_is_timed_in_four_phases_and_the_model_is_left_as_it_was(data):
    ours, naive = contenders(data, "MARGO stage 2")
    for contender in (ours, naive):
        steps = contender.phases(7)
        assert len(steps) == 7
        assert all(value >= 0 for step in steps for value in step.values())
        assert set(steps[0]) == {"sampling", "forward", "backward", "optimizer"}
        assert "calculate_loss" not in vars(contender.model)
        assert "begin_epoch" not in vars(contender.model)


def test_an_epoch_has_all_steps_and_the_part_outside_of_the_model_is_a_part_of_it(data):
    ours, naive = contenders(data, "MARGO stage 1")
    before = ours.model.backbone.user_preference[0].detach().clone()
    for run in (ours.epoch(), naive.epoch(None), naive.epoch(2)):
        assert 0 < run["outside"] < run["seconds"]
    assert not torch.equal(before, ours.model.backbone.user_preference[0])


def test_contenders_take_turns_and_a_slow_one_sits_out(monkeypatch):
    monkeypatch.setattr(repeated_timing, "LONGEST", 0.0)
    turns: list[str] = []
    run = {name: lambda name=name: turns.append(name) for name in "ab"}
    assert {name: len(values) for name, values in repeated_timing.in_turn("", run, 3).items()} == {
        "a": 1,
        "b": 1,
    }
    monkeypatch.setattr(repeated_timing, "LONGEST", 60.0)
    turns.clear()
    repeated_timing.in_turn("", run, 2)
    assert turns == ["a", "b", "a", "b"]


def test_a_topic_on_a_gpu_is_over_after_a_minute():
    assert Options(5, 30).on("cpu") == Options(5, 30)
    asked = Options(5, 30).on("cuda")
    assert (asked.repeats, asked.steps, asked.seconds) == (1, 5, 60.0)
    assert 59 < asked.until() - perf_counter() <= 60
    assert Options().until() == math.inf


def test_no_round_but_the_first_begins_when_the_time_is_used():
    ran = []
    contenders = {name: lambda name=name: ran.append(name) for name in "ab"}
    in_turn("counting", contenders, 3, until=perf_counter() - 1)
    assert ran == ["a", "b"]


@pytest.mark.parametrize("who", [Ours, Naive])
def test_where_the_time_is_used_the_least_number_of_steps_is_timed(data, who):
    work = workload(data, "MARGO")
    ours = Ours(work, work.last_stage())
    each = ours if who is Ours else Naive.like(ours)
    assert len(each.phases(4)) == 4
    assert len(each.phases(4, until=perf_counter() - 1)) == 1


def test_an_epoch_is_extrapolated_from_the_steps_that_there_was_time_for(data):
    work = workload(data, "MARGO")
    naive = Naive.like(Ours(work, work.last_stage()))
    found = naive.epoch(3, until=perf_counter() - 1)
    assert found["steps"] == 1
    assert found["seconds"] > 0
    assert naive.epoch(3)["steps"] == 3


def test_precision_trains_all_settings_until_the_time_is_used(data, tmp_path, capsys):
    folder, name = data
    root = folder / "data"
    words = [f"--dataset={name}", f"--data_path={root}", "--model=VBPR", "--epochs=1"]
    assert precision.main([*words, "--seeds=1", f"--output_dir={tmp_path / 'out'}"]) == 0
    shown = capsys.readouterr().out
    settings = precision.settings_on("cpu", 2048)
    assert all(name in shown for name in settings)
    runs = json.loads((tmp_path / "out" / "precision.json").read_text())["runs"]
    assert [run["setting"] for run in runs] == list(settings)
    assert "TF32" in precision.settings_on("cuda", 2048)
    options = argparse.Namespace(
        device="cpu", epochs=1, data_path=str(root), seeds=2, model="VBPR", dataset=name
    )
    assert len(list(precision.measure(options, tmp_path / "runs", seconds=0))) == 1
    assert precision.main(["--dataset=none", f"--data_path={tmp_path}"]) == 2


def test_two_starts_are_timed_in_their_parts(tmp_path, capsys):
    assert startup.main(["--shape=tiny", f"--output_dir={tmp_path}"]) == 0
    starts = json.loads((tmp_path / "startup.json").read_text())["starts"]
    assert list(starts) == ["first start", "second start"]
    assert all(seconds > 0 for parts in starts.values() for seconds, _ in parts.values())
    shown = capsys.readouterr().out
    assert all(part in shown for part in starts["first start"])


def test_summaries_and_ratios_compare_medians():
    entries = {
        "fast": repeated_timing.summary([1.0, 2.0, 9.0]),
        "slow": repeated_timing.summary([8.0]),
    }
    assert entries["fast"] == {"median": 2.0, "least": 1.0, "largest": 9.0, "runs": 3}
    ratios = [ratio for _, _, ratio in repeated_timing.with_ratios(entries, "slow")]
    assert ratios == [4.0, None]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.01234, "12.3 ms"), (1.234, "1.23 s"), (123.4, "123 s")]
)
def test_durations_have_three_digits(seconds, text):
    assert duration(seconds) == text


def test_the_exponent_of_a_power_law_is_found():
    sizes = [1, 2, 4, 8, 16]
    assert exponent(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)


def test_only_what_a_series_names_grows():
    shapes = series(SHAPES["baby"])
    assert {(shape.items, shape.batch) for shape in shapes["interactions"]} == {(2048, 2048)}
    assert (
        len({shape.train // shape.batch for shape in shapes["interactions, batch grows alike"]})
        == 1
    )
    assert {(shape.train, shape.users) for shape in shapes["items"]} == {(32768, 4096)}
    assert [shape.items for shape in shapes["items"]] == [512, 1024, 2048, 4096, 8192]


# --- generated graphs -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "baby"])
def test_a_generated_graph_has_the_promised_sizes_and_is_the_same_each_time(name):
    shape = SHAPES[name]
    splits = generated_splits(shape, seed=3)
    assert [len(splits[part]) for part in ("train", "valid", "test")] == [
        shape.train,
        shape.valid,
        shape.test,
    ]
    table = pd.concat(splits.values())
    assert table["user_id"].nunique() == shape.users
    assert table["item_id"].nunique() == shape.items
    assert not table.duplicated().any()
    for part in splits.values():
        assert part["user_id"].nunique() == shape.users
    degrees = table["user_id"].value_counts(), table["item_id"].value_counts()
    assert min(degree.min() for degree in degrees) >= 5
    again = generated_splits(shape, seed=3)
    assert all(splits[part].equals(again[part]) for part in splits)
    assert not splits["train"].equals(generated_splits(shape, seed=4)["train"])


def test_degrees_are_skewed_as_those_of_real_catalogues():
    shape = SHAPES["baby"]
    degrees = power_law_degrees(shape.items, shape.interactions, shape.users, 2.2)
    assert degrees.sum() == shape.interactions
    assert degrees.min() == 5
    popular = np.sort(degrees)[-shape.items // 100 :].sum()
    assert 0.1 < popular / shape.interactions < 0.4
    assert degrees.max() <= shape.users / 4


@given(
    count=st.integers(1, 60),
    limit=st.integers(1, 60),
    share=st.floats(0, 1),
    exponent_=st.floats(1.5, 4),
)
def test_degrees_have_the_sum_and_never_fall_below_what_is_left_for_all(
    count, limit, share, exponent_
):
    total = count + int(share * count * (limit - 1))
    degrees = power_law_degrees(count, total, limit, exponent_)
    assert degrees.sum() == total
    assert degrees.min() >= min(5, total // count)
    assert degrees.max() <= limit
    assert (np.diff(degrees) <= 0).all()


def test_a_dataset_is_written_once_and_again_when_anything_changes(tmp_path):
    _, name = make_dataset(TINY, tmp_path)
    file = tmp_path / name / f"{name}.train.inter"
    first = file.stat().st_mtime_ns
    make_dataset(TINY, tmp_path)
    assert file.stat().st_mtime_ns == first
    make_dataset(TINY, tmp_path, seed=1)
    assert file.stat().st_mtime_ns != first


# --- real interactions ----------------------------------------------------------------------------


def write_interactions(path: Path, labels: tuple[int, ...] = (0, 1, 2)) -> Path:
    rows = [
        (user, (user + step) % 9, label) for user in range(8) for step, label in enumerate(labels)
    ]
    pd.DataFrame(rows, columns=["userID", "itemID", "x_label"]).to_csv(path, sep="\t", index=False)
    return path


def test_a_file_of_interactions_gives_the_sizes(tmp_path):
    file = write_interactions(tmp_path / "real.inter")
    shape, name = make_dataset(TINY, tmp_path / "data", file)
    assert (shape.users, shape.items, shape.train, shape.valid, shape.test) == (8, 9, 8, 8, 8)
    assert shape.columns == TINY.columns
    assert name == "real-tiny"
    assert read_splits(file)["test"]["item_id"].tolist()[:2] == ["2", "3"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no file"),
        ("user,item\n1,2\n", "userID, itemID, x_label"),
        ("userID\titemID\tx_label\n1\t2\t0\n", "1 (valid), 2 (test)"),
        ("", "userID, itemID, x_label"),
    ],
)
def test_a_wrong_file_of_interactions_is_a_clear_error(tmp_path, text, said):
    file = tmp_path / "x.inter"
    if text is not None:
        file.write_text(text)
    with pytest.raises(RecBoleMargoError) as caught:
        read_splits(file)
    assert said in str(caught.value)


# --- the command ----------------------------------------------------------------------------------


def run(*words: str) -> int:
    return main([*words, "--shape", "tiny", "--threads", "1", "--repeats", "1", "--steps", "3"])


def test_topics_measured_one_after_another_are_kept_together(tmp_path, capsys):
    assert run("step", "--output_dir", str(tmp_path), "--model", "DRAGON") == 0
    assert run("graph", "--output_dir", str(tmp_path), "--model", "DRAGON") == 0
    shown = capsys.readouterr().out
    assert "One training step" in shown
    assert "Building the graphs" in shown
    stored = json.loads((tmp_path / "benchmarks.json").read_text())
    assert list(stored["results"]) == ["step", "graph"]
    assert stored["about"]["machine"]["cpu"]
    assert "torch" in stored["about"]["machine"]["versions"]
    graphs = stored["results"]["graph"]["graphs"]
    assert {entry["same_edges"] for entry in graphs.values()} == {1.0}
    assert stored["results"]["step"]["stages"]["DRAGON"]["loss_difference"] < 1e-5
    assert run("graph", "--output_dir", str(tmp_path), "--model", "MARGO") == 2
    assert "another model (DRAGON, now MARGO)" in capsys.readouterr().err
    assert json.loads((tmp_path / "benchmarks.json").read_text()) == stored


def test_a_wrong_word_and_a_missing_device_are_clear_errors(tmp_path, capsys):
    for words in (["step", "--shape", "huge"], ["stepp"], ["--repeats", "0"], ["--threads", "two"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
    capsys.readouterr()
    folder = str(tmp_path)
    if not torch.cuda.is_available():
        assert main(["step", "--shape", "tiny", "--device", "cuda", "--output_dir", folder]) == 2
        assert "no CUDA device" in capsys.readouterr().err
    missing = ["step", "--interactions", str(tmp_path / "none.inter"), "--output_dir", folder]
    assert main(missing) == 2
    assert "there is no file" in capsys.readouterr().err


@pytest.mark.slow
def test_quick_measures_what_the_machine_has(tmp_path, capsys):
    assert main(["quick", "--threads=1", "--output_dir", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "quick.json").read_text(encoding="utf-8"))
    assert found["tests"] is None and found["machine"]["threads"] == 1
    whats = [each["what"] for each in found["measured"]]
    assert {"step, eager, float32", "full ranking of all users"} <= set(whats)
    assert all(0 < each["least"] <= each["seconds"] for each in found["measured"])
    shown = capsys.readouterr().out
    assert all(what in shown for what in whats)


@pytest.mark.slow
def test_everything_runs_at_the_tiny_shape_and_is_written(tmp_path):
    words = ["all", "--shape=tiny", "--threads=1", "--repeats=1", "--steps=3"]
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words, f"--output_dir={tmp_path}"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    names = FILES + [f"{name}.{ending}" for name in FIGURES for ending in ("png", "svg")]
    assert all((tmp_path / name).stat().st_size > 500 for name in names)
    results = json.loads((tmp_path / "benchmarks.json").read_text())["results"]
    assert list(results) == ["step", "epoch", "graph", "evaluate", "memory", "scaling"]
    assert results["evaluate"]["differences"]["recbole-margo"] == 0
    peaks = results["memory"]["contenders"]["naive reference"]["peaks"]
    assert 0 < peaks["libraries"]["host"] <= peaks["evaluation"]["host"]


def test_each_variant_takes_the_scale_that_is_best_on_validation(tmp_path, monkeypatch, capsys):
    random_world().write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    settings = {**SETTINGS, **small_settings("MARGO"), "data_path": "data", "epochs": 1}
    words = [f"--{key}={json.dumps(value)}" for key, value in settings.items()]
    words += [f"--dataset={NAME}", "--seeds=2", "--scales=[4]", "--variants=w/o weight,MARGO"]
    assert score_scale.main(words) == 0
    printed = capsys.readouterr().out
    root = Path("runs/score-scale") / NAME

    def scores(folder):
        found = {}
        for path in folder.glob("seed-*/*/result.json"):
            record = json.loads(path.read_text())
            scale = record["hyperparameters"]["score_scale"]
            name = "MARGO" if record["hyperparameters"]["item_weights"] else "w/o weight"
            found[name, scale, record["seed"]] = record["stages"][-1]["best_score"]
        return found

    tuned, final = scores(root / "tuning"), scores(root)
    names, scales = ("w/o weight", "MARGO"), (0.5, 1.0, 4.0)
    assert tuned.keys() == {(name, scale, 1) for name in names for scale in scales}
    best = {name: max(scales, key=lambda scale: tuned[name, scale, 1]) for name in names}
    published = {("w/o weight", 1.0), ("w/o weight", 0.5), ("MARGO", 1.0)}
    assert {key[:2] for key in final} == published | set(best.items())
    assert {key[2] for key in final} == {1, 2}
    assert all(final[key] == tuned[key] for key in final if key[2] == 1)
    rows = {line.split("  ")[0]: line.split() for line in printed.splitlines()}
    for name in names:
        assert f"{best[name]:g}" in rows[f"{name}, tuned"]
    times = {path: path.stat().st_mtime_ns for path in root.rglob("result.json")}
    assert score_scale.main(words) == 0
    assert times == {path: path.stat().st_mtime_ns for path in root.rglob("result.json")}
    assert (root / "score-scale.html").is_file()
