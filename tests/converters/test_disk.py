"""A disk that is full, or that cannot be written, ends every converter in words."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from mmrec_source import write_source

from dataset_converters import export as export_command
from dataset_converters.__main__ import main
from dataset_converters.mmrec import MMRecConverter
from recbole_margo.errors import DataError
from recbole_margo.store import writing
from recbole_margo.store.feature_files import open_matrix, write_features
from recbole_margo.store.writing import write_npy

ROOT = Path(__file__).parents[2]
COLUMNS = 50_000  # 1 MB for the five items


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = write_source(tmp_path / "raw")
    np.save(folder / "image_feat.npy", np.ones((5, COLUMNS), dtype=np.float32))
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a quarter of a megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if mounted.returncode:
        pytest.skip(f"only an administrator may mount a disk: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def no_large_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def run(
    module: str, *words: object, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, preexec_fn=before)


def assert_said(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr


def test_a_full_disk_ends_a_conversion_in_words(source: Path, small_disk: Path) -> None:
    output = small_disk / "dataset"
    where = ["--source", source, "--name", "toy", "--output", output]
    done = run("dataset_converters", "mmrec", *where)
    assert_said(
        done, "toy.image.npy", "expected 1,000,000 bytes of space", "bytes free", "--output"
    )
    assert list(output.iterdir()) == []


def test_a_full_disk_ends_an_export_in_words(
    source: Path, tmp_path: Path, small_disk: Path
) -> None:
    MMRecConverter(source, "toy").run(tmp_path / "dataset")
    where = ["--dataset", "toy", "--data_path", tmp_path / "dataset", "--output", small_disk]
    done = run("dataset_converters.export", *where)
    assert_said(done, "image_feat.npy", "expected 1,000,000 bytes of space", "bytes free")
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("dry", [[], ["--dry_run"]])
def test_a_limit_on_files_ends_a_conversion_in_words(
    source: Path, tmp_path: Path, dry: list[str]
) -> None:
    output = tmp_path / "out"
    where = ["--source", source, "--name", "toy", "--output", output, *dry]
    done = run("dataset_converters", "mmrec", *where, before=no_large_files)
    assert_said(done, "toy.image.npy", "limit on this user or process", "File too large")
    assert not output.exists() or list(output.iterdir()) == []


def test_features_that_do_not_fit_leave_the_old_ones(tmp_path: Path, monkeypatch) -> None:
    tokens, matrix = ["a", "b"], np.ones((2, 3), dtype=np.float32)
    write_features(tmp_path, "toy", "image", matrix, tokens, "test")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing.np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(DataError, match="24 bytes of space"):
        write_features(tmp_path, "toy", "image", 2 * matrix, tokens, "test")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("target", "attribute"),
    [
        ("pandas.DataFrame", "to_csv"),
        ("pathlib.Path", "write_text"),
        ("recbole_margo.store.writing.os", "replace"),
    ],
)
def test_every_writer_that_meets_a_full_disk_says_so(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    target: str,
    attribute: str,
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"{target}.{attribute}", full)
    where = ["--source", str(source), "--name", "toy", "--output", str(tmp_path / "out")]
    assert main(["mmrec", *where]) == 2
    assert "expected enough space on its disk" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("verb", ["convert", "export"])
def test_an_output_that_is_no_folder_is_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    MMRecConverter(source, "toy").run(tmp_path / "dataset")
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        if verb == "convert":
            words = ["mmrec", "--source", str(source), "--name", "toy", "--output", str(place)]
            assert main(words) == 2
        else:
            words = ["--dataset", "toy", "--data_path", str(tmp_path / "dataset")]
            assert export_command.main([*words, "--output", str(place)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {place}")
        assert "choose another one" in said
        assert said.count("\n") == 1


def test_a_dataset_that_cannot_be_replaced_stays(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MMRecConverter(source, "toy").run(tmp_path / "out")
    np.save(source / "image_feat.npy", np.full((5, 2), 2, dtype=np.float32))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out" / "toy").iterdir()}
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if target.name == "toy" and not any("image" in path.name for path in tmp_path.iterdir()):
            (tmp_path / "image.was.tried").touch()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(DataError, match="Input/output error"):
        MMRecConverter(source, "toy").run(tmp_path / "out", overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / "toy").iterdir()} == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["toy"]


def test_blocks_make_the_file_that_numpy_would_write(tmp_path: Path) -> None:
    matrix = np.arange(12, dtype=np.float64).reshape(6, 2)
    for kind in (np.float16, np.float32):
        write_npy(tmp_path / "blocks.npy", kind, (6, 2), (matrix[:4], matrix[4:]))
        np.save(tmp_path / "whole.npy", matrix.astype(kind))
        content = (tmp_path / "blocks.npy").read_bytes()
        assert content == (tmp_path / "whole.npy").read_bytes()
        assert open_matrix(tmp_path / "blocks.npy").dtype == kind


def test_no_matrix_is_written_through_a_memory_map() -> None:
    folders = [Path(module.__file__).parent for module in (export_command, writing)]
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    assert len(sources) > 20
    assert [path.name for path in sources if "open_memmap" in path.read_text("utf-8")] == []
