from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from feature_world import NAME, accept_files, edit_manifest, toy_config, toy_dataset, write_toy

from recbole_margo.data.features import load_item_features
from recbole_margo.errors import FeatureError

MATRIX = f"{NAME}.text.npy"
TOKENS = f"{NAME}.text.tokens"
MANIFEST = f"{NAME}.features.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_toy(tmp_path)


def assert_refused(folder: Path, message: str) -> None:
    with pytest.raises(FeatureError, match=message) as error:
        load_item_features(toy_config(folder), toy_dataset())
    assert str(folder) in str(error.value)
    assert "again" in str(error.value) or "docs/data.md" in str(error.value)


@pytest.mark.parametrize("name", [MATRIX, TOKENS])
def test_a_file_that_the_manifest_names_must_exist(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert_refused(folder, rf"{name}: expected the file that the manifest names")


def test_as_many_rows_as_tokens(folder: Path) -> None:
    np.save(folder / MATRIX, np.ones((3, 3), "float32"))
    accept_files(folder, "text")
    assert_refused(folder, rf"{MATRIX}: .*each of the 4 tokens of {TOKENS}, found 3 rows")


def test_a_token_stands_once(folder: Path) -> None:
    (folder / TOKENS).write_text("a\nb\nb\na\n")
    accept_files(folder, "text")
    assert_refused(folder, rf"{TOKENS}: .*found 'b' twice")


def test_tokens_are_utf_8(folder: Path) -> None:
    (folder / TOKENS).write_bytes(b"a\n\xff\nc\nd\n")
    assert_refused(folder, rf"{TOKENS}: expected UTF-8")


@pytest.mark.parametrize("name", [MATRIX, TOKENS])
def test_a_file_that_changed_is_noticed(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    assert_refused(folder, rf"{name}: expected the SHA-256 [0-9a-f]{{64}} of the manifest, found")


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones((4, 3)), r"expected float16 or float32, found float64\. .*write_features"),
        (np.ones((4, 3), "int64"), r"expected float16 or float32, found int64"),
        (np.ones(4, "float32"), r"expected a matrix \[rows, D\], found shape \(4,\)"),
        (np.ones((4, 3, 2), "float32"), r"expected a matrix \[rows, D\], found shape \(4, 3, 2\)"),
    ],
)
def test_only_float_matrices_are_read(folder: Path, matrix: np.ndarray, message: str) -> None:
    np.save(folder / MATRIX, matrix)
    accept_files(folder, "text")
    assert_refused(folder, rf"{MATRIX}: {message}")


class _Bomb:
    """Unpickling it creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("kind", ["object array", "bare pickle"])
def test_a_pickle_is_refused_and_never_executed(folder: Path, kind: str) -> None:
    target = folder / "executed"
    if kind == "object array":
        np.save(folder / MATRIX, np.array([[_Bomb(target)]] * 4, dtype=object), allow_pickle=True)
    else:
        (folder / MATRIX).write_bytes(pickle.dumps(_Bomb(target)))
    accept_files(folder, "text")

    assert_refused(folder, rf"{MATRIX}: expected a plain \.npy matrix .*without pickle")
    assert not target.exists()


def test_an_archive_is_no_matrix(folder: Path) -> None:
    with (folder / MATRIX).open("wb") as file:
        np.savez(file, matrix=np.ones((4, 3), "float32"))
    accept_files(folder, "text")
    assert_refused(folder, rf"{MATRIX}: expected one \.npy matrix, found an \.npz archive")


@pytest.mark.parametrize("length", [0, 40, 135])
def test_a_file_that_was_cut_off_is_refused(folder: Path, length: int) -> None:
    (folder / MATRIX).write_bytes((folder / MATRIX).read_bytes()[:length])
    assert_refused(folder, rf"{MATRIX}: expected a plain \.npy matrix")


@pytest.mark.parametrize("content", ["{", "", "\x00"])
def test_a_manifest_that_is_not_json_is_refused(folder: Path, content: str) -> None:
    (folder / MANIFEST).write_text(content)
    assert_refused(folder, rf"{MANIFEST}: expected JSON, found a file that does not parse")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"expected \"format\": 1, found None"),
        ('{"format": 2}', r"expected \"format\": 1, found 2"),
        ('{"format": 1, "dataset": "tax"}', r"expected \"dataset\": 'toy', found 'tax'"),
        ('{"format": 1, "dataset": "toy"}', r"at least one modality, found None"),
        ('{"format": 1, "dataset": "toy", "modalities": {"text": 3}}', r"'text': .*found 3"),
        (
            '{"format": 1, "dataset": "toy", "modalities": {"text": {"file": 3}}}',
            r"'text': expected the field 'file' to be of type str, found 3",
        ),
    ],
)
def test_a_manifest_of_another_form_is_refused(folder: Path, content: str, message: str) -> None:
    (folder / MANIFEST).write_text(content)
    assert_refused(folder, rf"{MANIFEST}.*{message}")


def test_a_manifest_does_not_lead_out_of_its_folder(folder: Path) -> None:
    edit_manifest(folder, "text", file="../secret.npy")
    assert_refused(folder, r"name of a file beside the manifest, found '\.\./secret\.npy'")
