"""What a run says, and keeps, when there is no space for its files."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from recbole_margo import cli, compare
from recbole_margo.cli import train
from recbole_margo.errors import TrainingError
from recbole_margo.studies.comparison.compare import resume_comparison
from recbole_margo.testing import NAME, SETTINGS, random_world, small_settings
from recbole_margo.training import checkpoint
from recbole_margo.training.checkpoint import read_checkpoint, write_checkpoint
from recbole_margo.training.outputs import logging_to

LIMITED = """
import resource, sys
from pathlib import Path
import torch
from recbole_margo.errors import TrainingError
from recbole_margo.training.checkpoint import write_checkpoint
path = Path(sys.argv[1])
write_checkpoint(path, {"format": 1, "values": torch.ones(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_checkpoint(path, {"format": 1, "values": torch.zeros(100_000)})
except TrainingError as error:
    print(error)
"""


def test_an_earlier_checkpoint_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "run" / "MARGO" / "checkpoint-last.pth"
    shown = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert shown.startswith(f"{path} cannot be written: the disk is full")
    assert f"free some space, then continue with --resume={tmp_path / 'run'}\n" in shown
    assert torch.equal(read_checkpoint(path)["values"], torch.ones(10))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("file", ["checkpoint-last.pth", "result.json", "per_user.npz"])
def test_a_run_without_space_fails_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    random_world().write(tmp_path / "data")
    settings = {**SETTINGS, **small_settings("MARGO"), "data_path": str(tmp_path / "data")}
    replace = os.replace
    written = []

    def full(source: Path, target: Path) -> None:
        written.append(Path(target).name)
        if written.count(file) == (2 if file.endswith("pth") else 1) and written[-1] == file:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        replace(source, target)

    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        (record,) = compare(["MARGO"], NAME, config_dict=settings, output_dir=folder)
    assert record["status"] == "failed"
    assert f"{folder / 'MARGO' / file} cannot be written: the disk is full" in record["error"]
    assert f"--resume={folder}" in record["error"]
    assert not list(folder.rglob("*.tmp"))
    (resumed,) = [outcome.as_plain() for outcome in resume_comparison(folder)]
    (whole,) = compare(["MARGO"], NAME, config_dict=settings, output_dir=tmp_path / "whole")
    assert resumed["test"] == whole["test"]
    assert json.loads((folder / "MARGO" / "result.json").read_text()) == resumed


def test_other_errors_are_not_the_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*words: object) -> None:
        raise RuntimeError("a tensor")

    monkeypatch.setattr(checkpoint.torch, "save", fail)
    with pytest.raises(RuntimeError, match="a tensor") as raised:
        write_checkpoint(tmp_path / "a.pth", {})
    assert not isinstance(raised.value, TrainingError)


def test_a_log_that_cannot_be_written_ends_and_the_run_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with logging_to(Path("/dev/full")):
        for number in range(3):
            logging.getLogger().info("line %d", number)
    shown = capsys.readouterr().err
    assert [f"line {number}" in shown for number in range(3)] == [True] * 3
    assert shown.count("/dev/full ends here: it cannot be written") == 1
    assert "Traceback" not in shown


@pytest.mark.parametrize(("number", "shown"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_a_table_without_space_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    shown: bool,
) -> None:
    def full(*words: object) -> int:
        raise OSError(number, os.strerror(number), "out/comparison.json")

    monkeypatch.setattr(train, "train_models", full)
    assert cli.main(["train"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "out/comparison.json" in line
    assert ("the disk is full" in line) is shown
