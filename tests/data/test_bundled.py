from __future__ import annotations

import logging
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from feature_world import toy_config, toy_dataset

from recbole_margo.data.bundled import (
    BUNDLED_DATASET,
    credit_documents,
    embed,
    ensure_bundled_features,
    text_documents,
)
from recbole_margo.data.features import load_item_features
from recbole_margo.errors import FeatureError
from recbole_margo.store.manifest import FeatureManifest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / BUNDLED_DATASET
    ensure_bundled_features(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob(f"{BUNDLED_DATASET}.*")}


def write_source(folder: Path) -> Path:
    (folder / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story, The\t1995\tAnimation Children's\n"
        "2\tUnknown\tunkonwn\tunknown\n"
    )
    (folder / "ml-100k.link").write_text("item_id:token\tentity_id:token\n1\tm.1\n2\tm.2\n")
    (folder / "ml-100k.kg").write_text(
        "head_id:token\trelation_id:token\ttail_id:token\n"
        "m.1\tfilm.film.actor\tm.a\n"
        "m.a\tfilm.actor.film\tm.1\n"
        "m.w\tfilm.writer.film\tm.1\n"
        "m.1\tfilm.film.award_won\tm.x\n"
        "m.2\tfilm.film.genre\tm.g\n"
    )
    return folder


def test_text_documents(tmp_path: Path) -> None:
    documents = text_documents(write_source(tmp_path))
    assert documents == {
        "1": ["toy", "story", "the", "genre:Animation", "genre:Children's", "year:1995",
              "decade:1990"],
        "2": ["unknown", "genre:unknown"],
    }  # fmt: skip


def test_credit_documents_join_both_directions_and_leave_out_what_is_no_credit(
    tmp_path: Path,
) -> None:
    documents = credit_documents(write_source(tmp_path))
    assert documents == {"1": ["film.film.actor:m.a", "film.film.written_by:m.w"]}


def test_embed_is_the_svd_of_tf_idf() -> None:
    documents = [["a", "b"], ["a", "b"], ["b", "c"], ["c", "d"], ["d", "e"], ["alone"]]
    counts = np.array([[token in words for token in "abcd"] for words in documents], dtype=float)
    weights = counts * (np.log((1 + len(documents)) / (1 + counts.sum(axis=0))) + 1)
    weights[:5] /= np.linalg.norm(weights[:5], axis=1, keepdims=True)
    left, values, right = np.linalg.svd(weights, full_matrices=False)
    signs = [np.sign(row[np.abs(row).argmax()]) for row in right]

    matrix = embed(documents, 3)

    np.testing.assert_allclose(matrix, (left * values * signs)[:, :3], atol=1e-6)
    assert not matrix[5].any()  # it shares no token with the others


def test_features_are_the_same_every_time(made: Path, tmp_path: Path) -> None:
    ensure_bundled_features(tmp_path)
    assert contents(tmp_path) == contents(made)


def test_items_without_a_usable_link_miss_credits(made: Path) -> None:
    entries = FeatureManifest.read(made, BUNDLED_DATASET).modalities
    assert {name: (entry.rows, entry.dim) for name, entry in entries.items()} == {
        "text": (1682, 64),
        "credits": (1534, 64),
    }


def test_what_is_there_is_not_made_again(made: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    with caplog.at_level(logging.INFO):
        ensure_bundled_features(made)
    assert before == {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    assert not caplog.messages


def test_two_processes_at_once_make_one_result(made: Path, tmp_path: Path) -> None:
    # Not "fork": the parent has threads by now.
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(ensure_bundled_features, [tmp_path] * 2)
    assert contents(tmp_path) == contents(made)
    assert not list(tmp_path.glob("*.tmp"))


def test_loading_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = toy_config(Path("wheel"), dataset=BUNDLED_DATASET)

    loaded = load_item_features(config, toy_dataset(["[PAD]", "1", "50", "1000"]))

    assert loaded.modalities == ("text", "credits")
    assert loaded.mask[:, 0].tolist() == [False, True, True, True]
    assert (tmp_path / "dataset" / BUNDLED_DATASET / "ml-100k.features.json").is_file()


def test_a_feature_path_without_features_is_an_error_and_stays_empty(tmp_path: Path) -> None:
    config = toy_config(Path("wheel"), dataset=BUNDLED_DATASET, feature_path=str(tmp_path))
    with pytest.raises(FeatureError, match="does not exist"):
        load_item_features(config, toy_dataset())
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FeatureError, match=r"file.*expected to write .* Set `data_path`"):
        ensure_bundled_features(tmp_path / "file" / BUNDLED_DATASET)
