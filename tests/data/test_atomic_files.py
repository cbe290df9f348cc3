"""Rows that have not the fields of their first line would be read as something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_margo.cli import main
from recbole_margo.config import Config
from recbole_margo.data.protocol import check_dataset
from recbole_margo.errors import DatasetError

HEADER = "user_id:token\titem_id:token\n"


def write(root: Path, rows: str, header: str = HEADER) -> Config:
    folder = root / "rows"
    folder.mkdir()
    (folder / "rows.inter").write_text(header + rows)
    return Config("BPR", "rows", config_dict={"data_path": str(root)})


@pytest.mark.parametrize(
    ("rows", "line", "found"),
    [
        ("u1\ti1\tmore\nu2\ti2\tmore\n", 2, 3),  # pandas would take u1 for the name of the row
        ("u1\ti1\nu2\ti2\tmore\n", 3, 3),
        ("u1\ti1\n\nu2\n", 4, 1),
        ("u1 i1\n", 2, 1),
    ],
)
def test_ragged_rows_are_named(tmp_path, rows, line, found):
    with pytest.raises(DatasetError, match=f"line {line}: expected 2 fields.*found {found}"):
        check_dataset(write(tmp_path, rows))


def test_a_file_without_rows_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"rows.inter: expected rows of interactions"):
        check_dataset(write(tmp_path, "\n"))


def test_what_pandas_reads_right_passes(tmp_path):
    check_dataset(write(tmp_path, 'u1\ti1\r\n\n"u\t2"\ti2\n'))


@pytest.mark.parametrize("header", [HEADER, "user_id:token\n", "user_id:token\trating:float\n"])
def test_inspect_ends_with_status_2_and_one_line(tmp_path, capsys, header):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "rows.inter").write_text(f"{header}u1\ti1\t3\nu2\n")
    words = ["--dataset=rows", f"--data_path={tmp_path}", f"--output={tmp_path / 'out'}"]
    assert main(["inspect", *words]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and shown.count("\n") == 1 and "rows.inter" in shown
