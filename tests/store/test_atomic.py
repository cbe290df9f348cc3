from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from recbole_margo.store import writing
from recbole_margo.store.writing import remove_abandoned, replacing, temporary_sibling

WRITER = """
import sys, time
from pathlib import Path
from recbole_margo.store.writing import replacing, temporary_sibling
folder = Path(sys.argv[1])
temporary_sibling(folder / "shop").mkdir()
with replacing(folder / "a.json") as temporary:
    temporary.write_text("half")
    print("begun", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path: Path):
    """A process that is writing a file and a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    yield process
    process.kill()
    process.wait()


def kill(process) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path: Path, writer) -> None:
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (folder / "shop.inter").write_text("half a dataset")
    assert len(list(tmp_path.glob(".*.tmp"))) == 2
    kill(writer)
    with replacing(tmp_path / "b.json") as temporary:
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]


def test_what_a_living_process_writes_stays(tmp_path: Path, writer) -> None:
    remove_abandoned(tmp_path)
    assert len(list(tmp_path.glob(".*.tmp"))) == 2


def test_other_files_stay(tmp_path: Path, writer) -> None:
    kill(writer)
    names = ["a.tmp", ".a.tmp", ".a.12-abcdef01.tmp", ".a.0011223344-12-abcdef01.tmp", "notes.txt"]
    for name in names:
        (tmp_path / name).write_text("mine")
    remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(names)


@pytest.mark.parametrize(("days", "stays"), [(6, True), (8, False)])
def test_what_another_machine_left_stays_for_a_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, stays: bool
) -> None:
    monkeypatch.setattr(writing, "_machine", lambda: "0" * 8)
    path = temporary_sibling(tmp_path / "a")
    monkeypatch.undo()
    path.write_text("of a process of another machine")
    then = time.time() - days * 24 * 3600
    os.utime(path, (then, then))
    remove_abandoned(tmp_path)
    assert path.exists() is stays


def test_a_link_is_removed_and_not_what_it_names(tmp_path: Path, writer) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "thesis.txt").write_text("years of work")
    machine = writing._machine()
    kill(writer)
    (tmp_path / f".x.{machine}-{writer.pid}-00000000.tmp").symlink_to(tmp_path / "kept")
    remove_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "thesis.txt").is_file()


def test_a_folder_is_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr(writing, "remove_abandoned", looked.append)
    for number in range(3):
        with replacing(tmp_path / f"{number}") as temporary:
            temporary.write_text("")
    assert looked == [tmp_path]


@pytest.mark.parametrize("psutil", [True, False])
def test_no_signal_is_sent_where_signals_end_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, psutil: bool
) -> None:
    def kill(*_: object) -> None:
        raise AssertionError("a process was sent a signal")

    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lives, dead = os.getpid(), gone.pid
    answers = ModuleType("psutil")
    answers.pid_exists = lambda process: process == lives  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "psutil", answers if psutil else None)
    monkeypatch.setattr(writing.os, "kill", kill)
    monkeypatch.setattr(writing.os, "name", "nt")
    assert writing._lives(lives)
    # Without a way to know, what it left stays.
    assert writing._lives(dead) is not psutil
