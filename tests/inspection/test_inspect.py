from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import ITEMS, NAME, USERS, add_modality, planted_features, write_planted
from recbole.utils import init_seed

from recbole_margo.cli import main
from recbole_margo.config import Config
from recbole_margo.data.protocol import load_dataset, prepare_loaders
from recbole_margo.inspection.dataset_inspection import DatasetInspection


def inspect(folder: Path, *options: str) -> tuple[int, dict]:
    output = folder.parent / "result"
    arguments = ["--dataset", NAME, "--data_path", str(folder.parent), "--output", str(output)]
    status = main(["inspect", *arguments, *options])
    path = output / "inspection.json"
    return status, json.loads(path.read_text()) if path.exists() else {}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_planted(tmp_path / "data")


def test_rows_that_belong_to_the_items_pass(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_modality(folder, "image", planted_features())
    status, found = inspect(folder, "--strict")
    assert status == 0
    assert found["interactions"]["interactions"] == {"train": 720, "valid": 120, "test": 120}
    assert found["interactions"]["users"] == USERS
    assert found["modalities"]["image"]["alignment"]["recall"] > 0.8
    assert found["modalities"]["image"]["alignment"]["shuffled_mean"] < 0.3
    assert found["warnings"] == []
    assert (folder.parent / "result" / "inspection.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr()
    assert re.search(r"image +fits", said.out)
    assert "recbole-margo audit --dataset=planted" in said.out
    assert said.err == ""
    assert {path.suffix for path in (folder.parent / "result").iterdir()} == {
        *(".json", ".md", ".html", ".png", ".svg")
    }


def test_rows_of_other_items_are_called_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_modality(folder, "image", planted_features())
    other = np.random.default_rng(0).permutation(ITEMS)
    add_modality(folder, "text", planted_features()[other])
    status, found = inspect(folder)
    assert status == 0
    assert found["modalities"]["image"]["alignment"]["is_aligned"]
    assert not found["modalities"]["text"]["alignment"]["is_aligned"]
    said = capsys.readouterr()
    assert "ALIGNMENT: no sign that the rows of 'text'" in said.out
    assert "!! no sign that they belong: text !!" in said.err
    assert found["modalities"]["text"]["alignment"]["verdict"] == "no sign that they belong"
    assert found["modalities"]["text"]["alignment"]["p_value"] > 0.01
    assert inspect(folder, "--strict")[0] == 1
    assert inspect(folder, "--strict", "--modalities", "image")[0] == 0


def test_rows_off_by_one_are_recognised(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_modality(folder, "image", planted_features(), shift=1)
    status, found = inspect(folder, "--strict")
    assert status == 1
    assert found["modalities"]["image"]["alignment"]["better_shift"] == -1
    assert "off by one" in capsys.readouterr().out


def test_a_dataset_without_features_is_inspected_all_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = inspect(folder)
    assert status == 0
    assert found["modalities"] == {}
    assert "there are no features" in capsys.readouterr().out


def test_damaged_features_are_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_modality(folder, "image", planted_features())
    path = folder / f"{NAME}.image.npy"
    path.write_bytes(path.read_bytes()[:-4])
    assert inspect(folder)[0] == 2
    assert str(path) in capsys.readouterr().err


def test_a_missing_dataset_is_an_error_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "--dataset", "nowhere", "--data_path", str(tmp_path)]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_placeholders_gaps_and_cold_items_are_reported(folder: Path) -> None:
    features = planted_features()
    features[:20] = features[0]
    features[60:] = 0.0
    features[:, 3] = 1.0
    features[60:, 3] = 0.0
    add_modality(folder, "image", features)
    _, found = inspect(folder)
    image = found["modalities"]["image"]
    assert image["items"] <= 60
    assert image["coverage"] == image["items"] / found["interactions"]["items"]
    assert image["constant_columns"] == 1
    assert image["duplicates"]["exact_groups"] == 1
    assert image["duplicates"]["exact_items"] == image["duplicates"]["largest_group"]
    assert 15 <= image["duplicates"]["near_items"] <= 20
    text = " ".join(found["warnings"])
    assert "placeholder" in text
    assert "of the items have 'image'" in text


def test_the_split_is_that_of_training_whatever_was_drawn_before(folder: Path) -> None:
    rows = [
        line
        for split in ("train", "valid", "test")
        for line in (folder / f"{NAME}.{split}.inter").read_text().splitlines()[1:]
    ]
    (folder / f"{NAME}.inter").write_text("\n".join(["user_id:token\titem_id:token", *rows]))
    (folder / f"{NAME}.yaml").write_text("load_col: {inter: [user_id, item_id]}\n")
    add_modality(folder, "image", planted_features())
    settings = {"data_path": str(folder.parent), "use_gpu": False, "modalities": None}
    config = Config("BPR", NAME, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    trained_on = prepare_loaders(config, load_dataset(config), config.model_class)
    torch.manual_seed(1)
    np.random.seed(1)
    found = DatasetInspection.of(Config("BPR", NAME, config_dict=settings))
    part = trained_on[0]._dataset
    expected = np.bincount(part.inter_feat["item_id"].numpy(), minlength=part.item_num)[1:]
    np.testing.assert_array_equal(found.degrees[1], expected)
