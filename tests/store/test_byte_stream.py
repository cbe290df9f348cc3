from __future__ import annotations

import os
from pathlib import Path

import pytest

from recbole_margo.errors import DataError
from recbole_margo.store.reading import reading, require_regular_file


def test_what_has_no_end_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name, found in (
        ("pipe", "a named pipe"),
        ("link", "a device"),
        ("", "a folder"),
        ("none", "that it does not exist"),
        ("x" * 300, "File name too long"),
        ("a\0b", "null"),
    ):
        with pytest.raises(DataError, match=f"expected a table, found .*{found}"):
            require_regular_file(tmp_path / name, "a table")
        with pytest.raises(DataError, match=found), reading(tmp_path / name):
            pass


def test_a_link_to_a_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with reading(tmp_path / "link") as stream:
        assert stream.read() == b"text"
