"""A stored run that RecBole's functions load has its own data, masks and numbers."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.utils.case_study import full_sort_scores, full_sort_topk

from recbole_margo import run_recbole_margo
from recbole_margo.data.protocol import split_fingerprint
from recbole_margo.errors import CheckpointError, ConfigError, DatasetNotFoundError
from recbole_margo.store.feature_files import write_features
from recbole_margo.testing import NAME, SETTINGS, random_world, small_settings
from recbole_margo.training.checkpoint import read_checkpoint, write_checkpoint
from recbole_margo.training.distributed import find_trainer

WORLD = random_world()
PAIRS = [pair for part in WORLD.splits.values() for pair in part]
LONELY = "lonely"  # one interaction: nothing to validate, nothing to test
MODELS = ["VBPR", "MARGO", "BPR", "NeuMF"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of datasets, beside which runs are made; its interactions are split by a seed."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / NAME
    folder.mkdir(parents=True)
    columns = ["user_id:token", "item_id:token", "timestamp:float"]
    rows = [(*pair, when) for when, pair in enumerate([*PAIRS, (LONELY, "i1")])]
    pd.DataFrame(rows, columns=columns).to_csv(folder / f"{NAME}.inter", sep="\t", index=False)
    for modality, vectors in WORLD.features.items():
        matrix = np.stack(list(vectors.values())).astype(np.float32)
        write_features(folder, NAME, modality, matrix, list(vectors), "a test")
    (folder / f"{NAME}.yaml").write_text(
        "load_col: {inter: [user_id, item_id, timestamp]}\nmodalities: [image, text]\n"
    )
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    yield
    root = logging.getLogger()
    for handler in root.handlers[:]:  # RecBole's own stay bound to a captured stream
        root.removeHandler(handler)
        handler.close()


def train(model: str, output: str = "out", **changes: Any) -> tuple[dict[str, Any], Path]:
    """Train in the working directory; returns the record and the checkpoint."""
    values = {**SETTINGS, **small_settings(model), "data_path": "data", "epochs": 1, "seed": 1}
    values["eval_args"] = {"split": {"RS": [0.6, 0.2, 0.2]}}
    record = run_recbole_margo(model, NAME, config_dict={**values, **changes}, output_dir=output)
    return record, Path(output, model, "checkpoint.pth").absolute()


def evaluated(config: Any, model: Any, train: Any, test: Any) -> dict[str, float]:
    config["checkpoint_dir"] = "elsewhere"
    trainer = find_trainer(type(model), config["model"])(config, model)
    trainer.eval_collector.data_collect(train)
    result: dict[str, float] = trainer.evaluate(test, load_best_model=False)
    return result


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"split_seed": 7},
        {"split_seed": 7, "eval_protocol": "mmrec"},
        {"split_seed": 7, "eval_protocol": "mmrec", "eval_args": {"mode": "uni4"}},
        {"eval_args": {"order": "TO", "split": {"LS": "valid_and_test"}}},
    ],
    ids=["seed", "split seed", "mmrec", "candidates", "leave one out"],
)
def test_a_loaded_run_is_measured_as_it_was(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, changes: dict[str, Any]
) -> None:
    record, stored = train(model, **changes)
    elsewhere = tmp_path / "another" / "folder"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    config, loaded, dataset, *loaders = load_data_and_model(str(stored))
    assert split_fingerprint(*loaders) == record["split"]
    assert dataset.user_num == len(loaders[0]._dataset.field2id_token["user_id"])
    assert (config["eval_protocol"] or "recbole") == record["eval_protocol"]
    found = evaluated(config, loaded, loaders[0], loaders[2])
    assert found == pytest.approx(record["test"], abs=1e-4)


@pytest.mark.parametrize("model", ["VBPR", "BPR", "NeuMF"])
@pytest.mark.parametrize("protocol", ["recbole", "mmrec"])
@pytest.mark.parametrize("mode", ["full", "uni3"])
def test_every_user_gets_an_answer_of_his_own(
    data: Path, model: str, protocol: str, mode: str
) -> None:
    _, stored = train(model, eval_protocol=protocol, eval_args={"mode": mode})
    _, loaded, dataset, train_data, valid, test = load_data_and_model(str(stored))
    parts = [train_data, valid] if protocol == "recbole" else [train_data]
    masked: dict[int, set[int]] = {user: set() for user in range(1, dataset.user_num)}
    for part in parts:
        feat = part._dataset.inter_feat
        for user, item in zip(feat["user_id"].tolist(), feat["item_id"].tolist(), strict=True):
            masked[user].add(item)
    tested = set(test._dataset.inter_feat["user_id"].tolist())
    [lonely] = dataset.token2id("user_id", [LONELY])
    assert lonely not in tested
    users = np.random.default_rng(0).permutation(np.arange(1, dataset.user_num))
    scores = full_sort_scores(users, loaded, test, device=torch.device("cpu"))
    assert scores.shape == (len(users), dataset.item_num)
    for row, user in enumerate(users.tolist()):
        left_out = set(torch.isinf(scores[row]).nonzero().flatten().tolist())
        assert left_out == masked[user] | {0}
        alone = full_sort_scores([user], loaded, test, device=torch.device("cpu"))
        torch.testing.assert_close(scores[row], alone[0])
    best, items = full_sort_topk(users, loaded, test, k=3, device=torch.device("cpu"))
    assert best.shape == items.shape == (len(users), 3)


def test_users_that_are_none_are_refused(data: Path) -> None:
    _, stored = train("BPR")
    _, loaded, dataset, _, _, test = load_data_and_model(str(stored))
    for user in (-1, 0, dataset.user_num):
        with pytest.raises(ConfigError, match="expected internal ids of users"):
            full_sort_topk([1, user], loaded, test, k=3)


def test_a_sequential_model_names_the_users_that_it_has_no_sequence_of(data: Path) -> None:
    """RecBole's function gives fewer rows than users, so that the last rows are other users'."""
    changes = {"eval_args": {"order": "TO", "split": {"LS": "valid_and_test"}}}
    columns = {"inter": ["user_id", "item_id", "timestamp"]}
    sequential = {**changes, "load_col": columns, "train_neg_sample_args": None}
    _, stored = train("GRU4Rec", **sequential)
    _, loaded, dataset, _, _, test = load_data_and_model(str(stored))
    [lonely] = dataset.token2id("user_id", [LONELY])
    with pytest.raises(ConfigError, match=rf"none or several for {LONELY}"):
        full_sort_topk([1, lonely, 2], loaded, test, k=3)
    assert full_sort_topk([2, 1], loaded, test, k=3)[1].shape == (2, 3)


def test_stock_recbole_runs_answer_for_every_user_too(data: Path) -> None:
    values = {"data_path": "data", "epochs": 1, "use_gpu": False, "seed": 4}
    values |= {"load_col": {"inter": ["user_id", "item_id"]}, "checkpoint_dir": "stock"}
    result = run_recbole(model="BPR", dataset=NAME, config_dict=values)
    [stored] = Path("stock").glob("BPR-*.pth")
    config, loaded, dataset, train_data, _, test = load_data_and_model(str(stored))
    assert evaluated(config, loaded, train_data, test) == pytest.approx(result["test_result"])
    assert full_sort_topk(np.arange(1, dataset.user_num), loaded, test, k=3)[0].isfinite().all()


@pytest.mark.parametrize("model", ["VBPR", "BPR"])
def test_data_that_changed_are_refused(data: Path, model: str) -> None:
    _, stored = train(model, split_seed=7)
    file = data / NAME / f"{NAME}.inter"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], *lines[2:], lines[1]]) + "\n")
    with pytest.raises(CheckpointError, match=r"expected the .* found .* put the files back"):
        load_data_and_model(str(stored))
    file.write_text("\n".join(lines) + "\n")
    load_data_and_model(str(stored))


def test_a_changed_test_part_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = WORLD.write(tmp_path / "data")
    stored = {model: train(model, model, eval_args={})[1] for model in ("VBPR", "BPR")}
    file = root / NAME / f"{NAME}.test.inter"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")
    for each in stored.values():
        with pytest.raises(CheckpointError, match="expected the interactions of the run"):
            load_data_and_model(str(each))


def test_features_that_changed_are_refused(data: Path) -> None:
    _, stored = train("VBPR")
    vectors = WORLD.features["text"]
    matrix = np.stack(list(vectors.values())).astype(np.float32) + 1
    write_features(data / NAME, NAME, "text", matrix, list(vectors), "a test")
    with pytest.raises(CheckpointError, match=r"features .* others of text"):
        load_data_and_model(str(stored))


def as_written_before(stored: Path) -> None:
    """Make a checkpoint what the first version wrote: a path as given, no fingerprint of all."""
    state = read_checkpoint(stored)
    state["config"]["data_path"] = "data"
    del state["config"]["split_fingerprint"]
    write_checkpoint(stored, state)


@pytest.mark.parametrize("model", ["VBPR", "BPR"])
def test_a_project_that_was_moved_is_loaded_from_anywhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    record, stored = train(model, "runs/one", split_seed=3)
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("data", "runs"):
        shutil.move(tmp_path / name, moved / name)
    monkeypatch.chdir(moved / "runs")
    *_, first, second, third = load_data_and_model(str(moved / stored.relative_to(tmp_path)))
    assert split_fingerprint(first, second, third) == record["split"]


def test_a_checkpoint_with_a_relative_path_is_loaded_from_anywhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, stored = train("VBPR", "runs/one", split_seed=3)
    as_written_before(stored)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    *_, first, second, third = load_data_and_model(str(stored))
    assert split_fingerprint(first, second, third) == record["split"]


@pytest.mark.parametrize("model", ["VBPR", "BPR"])
def test_data_that_are_gone_are_named(data: Path, model: str) -> None:
    _, stored = train(model)
    shutil.rmtree(data)
    with pytest.raises(DatasetNotFoundError, match=rf"{stored}.*{NAME}\.inter not found"):
        load_data_and_model(str(stored))


def test_the_record_names_where_the_data_are(data: Path, tmp_path: Path) -> None:
    record, _ = train("VBPR")
    assert record["config"]["data_path"] == str(tmp_path / "data")
    assert json.loads(Path("out/VBPR/result.json").read_text())["split"] == record["split"]
