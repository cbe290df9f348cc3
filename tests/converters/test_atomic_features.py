"""RecBole's own ways to bring vectors of items, read into features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recbole.config
from recbole.data import create_dataset

from dataset_converters.atomic_features import main
from recbole_margo.data.features import load_item_features
from recbole_margo.testing import NAME, World, prepare, random_world


def write_vectors(world: World, folder: Path, modality: str, header: str, suffix: str) -> None:
    """Write an atomic file of one modality's vectors, the items in another order."""
    rows = world.features[modality]
    text = [header]
    for item in sorted(rows, reverse=True):
        # repr of a float32's float holds it exactly.
        numbers = " ".join(repr(float(np.float32(value))) for value in rows[item])
        text.append(f"{item}\t{numbers}")
    (folder / f"{NAME}.{suffix}").write_text("\n".join(text) + "\n", encoding="utf-8")


def features_of(root: Path, *modalities: str) -> Any:
    experiment = prepare(root, "VBPR", modalities=list(modalities))
    return load_item_features(experiment.config, experiment.dataset), experiment.dataset


def convert(root: Path, *words: str) -> int:
    return main(["--dataset", NAME, "--data_path", str(root), *words])


@pytest.mark.parametrize(
    ("suffix", "header", "words"),
    [
        ("item", "item_id:token\tvector:float_seq", []),
        ("itememb", "iid:token\tvector:float_seq", ["--suffix=itememb"]),
    ],
)
def test_vectors_in_recboles_files_are_the_features_that_feature_files_give(
    tmp_path: Path, suffix: str, header: str, words: list[str]
) -> None:
    world = random_world(2).without({"image": ["i3", "i7"]})
    root = world.write(tmp_path)
    write_vectors(world, root / NAME, "image", header, suffix)
    assert convert(root, "--modality=again", "--field=vector", *words) == 0
    features, dataset = features_of(root, "image", "again")
    assert np.array_equal(features.matrices[0], features.matrices[1])
    assert np.array_equal(features.mask[:, 0], features.mask[:, 1])
    missing = dataset.token2id(dataset.iid_field, ["i3", "i7"])
    assert not features.mask[missing].any()
    assert int(features.mask[:, 1].sum()) == len(world.features["image"])


def test_they_are_what_recbole_preloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pytest"])
    monkeypatch.chdir(tmp_path)
    world = random_world(1)
    root = world.write(tmp_path)
    write_vectors(world, root / NAME, "image", "iid:token\tvector:float_seq", "itememb")
    assert convert(root, "--modality=again", "--field=vector", "--suffix=itememb") == 0
    settings = {
        "data_path": str(root),
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id"], "itememb": ["iid", "vector"]},
        "additional_feat_suffix": ["itememb"],
        "alias_of_item_id": ["iid"],
        "preload_weight": {"iid": "vector"},
        "modalities": ["again"],
    }
    config = recbole.config.Config(model="BPR", dataset=NAME, config_dict=settings)
    dataset = create_dataset(config)
    preloaded = dataset.get_preload_weight("iid")
    features = load_item_features(config, dataset)
    assert preloaded.shape == tuple(features.matrices[0].shape)
    assert np.array_equal(preloaded.astype(np.float32), features.matrices[0])


def test_an_empty_field_is_a_missing_item(tmp_path: Path) -> None:
    root = random_world(1).write(tmp_path)
    rows = [f"i{item}\tfilm {item}\t{item + 1},2.5,-1e-3" for item in range(15)]
    rows[4] = "i4\tfilm 4\t"
    header = "item_id:token\ttitle:token_seq\tvector:float_seq"
    (root / NAME / f"{NAME}.item").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    assert convert(root, "--modality=poster", "--field=vector", "--seq_separator=,") == 0
    features, dataset = features_of(root, "poster")
    for item in range(15):
        row = dataset.token2id(dataset.iid_field, f"i{item}")
        assert bool(features.mask[row, 0]) == (item != 4)
        expected = [0.0, 0.0, 0.0] if item == 4 else [item + 1, 2.5, -1e-3]
        assert features.matrices[0][row].tolist() == pytest.approx(expected)


GOOD = "item_id:token\tother:token\tvector:float_seq\ni0\ta\t1 2\n"


@pytest.mark.parametrize(
    ("content", "words", "said"),
    [
        (GOOD + "i1\ta\t1 2 3\n", {}, ("line 3", "expected 2 numbers", "found 3")),
        (GOOD + "i1\ta\t1 x\n", {}, ("line 3", "'vector'", "'1 x'", "--seq_separator")),
        (GOOD + "i1\ta\t1 nan\n", {}, ("line 3", "finite", "'1 nan'")),
        (GOOD + "i1\ta\t1 1e39\n", {}, ("line 3", "finite")),
        (GOOD + "i0\ta\t3 4\n", {}, ("each item token once", "'i0'")),
        (GOOD + "i1\t1 2\n", {}, ("line 3", "fewer than 3 fields")),
        (GOOD, {"field": "vektor"}, ("line 1", "vektor", "Name one of vector", "--field")),
        (GOOD, {"item_field": "vector"}, ("line 1", "vector:token", "item_id, other")),
        (GOOD.replace("item_id", "iid"), {}, ("line 1", "of items", "iid, other", "--item_field")),
        (GOOD.split("\n")[0] + "\ni0\ta\t\n", {}, ("expected vectors in 'vector'", "none")),
        (None, {}, (f"{NAME}.item", "expected")),
        (GOOD, {"modality": "1/2"}, ("modality",)),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    words: dict[str, str],
    said: tuple[str, ...],
) -> None:
    root = random_world(1).write(tmp_path)
    before = (root / NAME / f"{NAME}.features.json").read_bytes()
    if content is not None:
        (root / NAME / f"{NAME}.item").write_text(content, encoding="utf-8")
    options = {"modality": "poster", "field": "vector", **words}
    assert convert(root, *(f"--{key}={value}" for key, value in options.items())) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for part in said:
        assert part in error
    assert (root / NAME / f"{NAME}.features.json").read_bytes() == before
    assert not list((root / NAME).glob("*poster*"))
