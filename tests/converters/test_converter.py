"""What every converter does around its own reading, seen through MMRec's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmrec_source import ROWS, write_inter, write_source

from dataset_converters.mmrec import MMRecConverter
from recbole_margo.errors import DataError
from recbole_margo.store import feature_files


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "raw")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "dataset"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_converting_twice_changes_nothing(source: Path, output: Path) -> None:
    _, changed = MMRecConverter(source, "toy").run(output)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    _, changed_again = MMRecConverter(source, "toy").run(output)

    assert (changed, changed_again) == (True, False)
    assert before == {path: path.stat().st_mtime_ns for path in output.rglob("*")}


def test_files_of_others_in_the_folder_do_not_make_it_different(source: Path, output: Path) -> None:
    MMRecConverter(source, "toy").run(output)
    (output / "toy" / "notes.txt").write_text("mine")
    assert MMRecConverter(source, "toy").run(output)[1] is False
    assert (output / "toy" / "notes.txt").is_file()


def test_another_content_needs_overwrite(source: Path, output: Path) -> None:
    MMRecConverter(source, "toy").run(output)
    before = contents(output)
    write_inter(source, [*ROWS, (8, 1, 1.0, 0, 0)])

    with pytest.raises(DataError, match=r"one with other content\. .*--overwrite"):
        MMRecConverter(source, "toy").run(output)
    assert contents(output) == before

    report, changed = MMRecConverter(source, "toy").run(output, overwrite=True)
    assert changed
    assert report.rows["train"] == 3
    assert (output / "toy" / "toy.train.inter").read_text().endswith("8\t1\t1.0\t0\n")
    assert [path.name for path in output.iterdir()] == ["toy"]


def test_a_folder_that_is_no_dataset_is_never_overwritten(source: Path, output: Path) -> None:
    (output / "toy").mkdir(parents=True)
    (output / "toy" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"expected a dataset to overwrite"):
        MMRecConverter(source, "toy").run(output, overwrite=True)
    assert contents(output) == {"toy/thesis.txt": b"years of work"}


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_midway_leaves_what_was_there(
    source: Path,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    existing: bool,
) -> None:
    if existing:
        MMRecConverter(source, "toy").run(output)
        np.save(source / "text_feat.npy", np.ones((5, 2), "float32"))
    before = contents(output)

    def fail(path: Path) -> str:
        raise error

    monkeypatch.setattr(feature_files, "file_sha256", fail)
    with pytest.raises(DataError if isinstance(error, OSError) else type(error)):
        MMRecConverter(source, "toy").run(output, overwrite=True)
    assert contents(output) == before
    assert [path.name for path in output.iterdir()] == (["toy"] if existing else [])


@pytest.mark.parametrize("name", ["", "..", "a/b", "ml-100k", ".hidden", "a b"])
def test_the_name_must_name_a_folder_that_recbole_reads(source: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"--name: expected letters"):
        MMRecConverter(source, name)


def test_the_source_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--source: expected a folder, found that .*nowhere is"):
        MMRecConverter(tmp_path / "nowhere", "toy")
