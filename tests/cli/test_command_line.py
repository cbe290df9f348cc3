"""How the command line ends when something goes wrong that nobody foresaw."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_margo.command_line import DEBUG_VARIABLE, run_command
from recbole_margo.errors import ConfigError, TrainingError


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ConfigError("no\nsuch key"), 2, "error: no such key"),
        (TrainingError("the loss is nan"), 1, "error: the loss is nan"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), 2, "out: Permission denied"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out"),
            1,
            "out cannot be written: the disk is full",
        ),
        (MemoryError(), 1, "the memory is full"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_error_is_one_line(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise error

    assert run_command(fail) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def defect() -> int:
    raise KeyError("a key of ours")


def test_a_defect_is_one_line_and_its_traceback_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(DEBUG_VARIABLE, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run_command(defect) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: unexpected KeyError: 'a key of ours'")
    found = re.search(r"report it with (\S+)$", line)
    assert found
    assert "Traceback" in Path(found[1]).read_text()


def test_the_traceback_of_a_defect_is_shown_on_demand(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    assert run_command(defect) == 70
    assert "Traceback" in capsys.readouterr().err


def test_an_output_that_nobody_reads_ends_quietly() -> None:
    code = (
        "import sys\nfrom recbole_margo.command_line import run_command\n"
        "def much():\n    [sys.stdout.write('line\\n' * 1000) for _ in range(1000)]\n    return 0\n"
        "sys.exit(run_command(much))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()
