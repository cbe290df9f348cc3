from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recbole_margo.errors import DataError
from recbole_margo.store.feature_files import file_sha256, open_matrix, row_blocks, write_features
from recbole_margo.store.manifest import FeatureManifest

ROOT = Path(__file__).parents[2]


def test_what_is_written_is_what_the_manifest_says(tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).normal(size=(3, 2))
    entry = write_features(tmp_path / "new", "toy", "text", matrix, ["x", "ü y", "z"], "a test")

    assert FeatureManifest.read(tmp_path / "new", "toy").modalities == {"text": entry}
    assert (entry.rows, entry.dim, entry.dtype, entry.source) == (3, 2, "float32", "a test")
    stored = (tmp_path / "new" / entry.file).read_bytes()
    assert entry.sha256 == hashlib.sha256(stored).hexdigest()
    np.testing.assert_array_equal(np.load(tmp_path / "new" / entry.file), matrix.astype("float32"))
    assert (tmp_path / "new" / entry.tokens).read_text("utf-8") == "x\nü y\nz\n"


def test_a_modality_is_added_or_replaced_and_the_others_stay(tmp_path: Path) -> None:
    first = write_features(tmp_path, "toy", "text", np.ones((2, 2)), ["x", "y"], "first")
    write_features(tmp_path, "toy", "image", np.ones((2, 2)), ["x", "y"], "old")
    image = write_features(tmp_path, "toy", "image", np.ones((1, 4)), ["x"], "new")

    manifest = FeatureManifest.read(tmp_path, "toy")
    assert list(manifest.modalities.items()) == [("text", first), ("image", image)]


def test_the_order_in_memory_does_not_matter(tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    one = write_features(tmp_path, "toy", "one", matrix, list("abcd"), "a test")
    two = write_features(tmp_path, "toy", "two", np.asfortranarray(matrix), list("abcd"), "a test")
    assert one.sha256 == two.sha256


def test_large_matrices_go_through_in_blocks(tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).normal(size=(2500, 2000)).astype("float32")
    matrix[[3, 2400]] = 0.0
    assert len(list(row_blocks(*matrix.shape))) > 2

    entry = write_features(tmp_path, "toy", "text", matrix, [str(i) for i in range(2500)], "a test")

    np.testing.assert_array_equal(
        np.load(tmp_path / entry.file), np.delete(matrix, [3, 2400], axis=0)
    )


def test_blocks_cover_every_row_once() -> None:
    covered = [row for block in row_blocks(10_001, 3_000) for row in range(block.start, block.stop)]
    assert covered == list(range(10_001))


@pytest.mark.parametrize(
    ("modality", "matrix", "tokens", "message"),
    [
        ("a b", np.ones((1, 2)), ["x"], r"'a b': expected a name of letters"),
        ("../a", np.ones((1, 2)), ["x"], r"expected a name of letters"),
        ("text", np.ones(2), ["x", "y"], r"expected a matrix \[rows, D\].*shape \(2,\)"),
        ("text", np.array([["a"]]), ["x"], r"matrix \[rows, D\] of floats.*type <U1"),
        ("text", np.ones((2, 2)), ["x"], r"found 2 rows and 1 tokens"),
        ("text", np.ones((2, 2)), ["x", "x"], r"found 'x' twice"),
        ("text", np.ones((2, 2)), ["x", "y\nz"], r"found 'y\\nz'"),
        ("text", np.ones((2, 2)), ["x", ""], r"found ''"),
        ("text", np.zeros((2, 2)), ["x", "y"], r"expected features, found 2 rows of zeros"),
        ("text", np.array([[1.0], [np.nan]]), ["x", "y"], r"for 1 items, first y\."),
    ],
)
def test_what_cannot_be_features_is_refused(
    tmp_path: Path, modality: str, matrix: np.ndarray, tokens: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        write_features(tmp_path, "toy", modality, matrix, tokens, "a test")
    assert not list(tmp_path.iterdir())


def test_the_checksum_is_that_of_the_whole_file(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(20_000_000)
    (tmp_path / "file").write_bytes(content)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    example = page.split("```python\n")[1].split("```")[0]

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", example], cwd=tmp_path, env=environment, check=True)

    entry = FeatureManifest.read(tmp_path / "dataset" / "shop", "shop").modalities["audio"]
    assert (entry.rows, entry.dim) == (3, 512)


def test_a_header_of_python_2_is_read_without_a_word(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((5, 3), dtype=np.float32))
    content = (tmp_path / "a.npy").read_bytes()
    end = content.index(b" \n")
    (tmp_path / "a.npy").write_bytes(content[:end] + b"\n" + content[end + 1 :])
    assert open_matrix(tmp_path / "a.npy").shape == (5, 3)  # pytest makes warnings errors
