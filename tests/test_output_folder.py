"""Who may write into the folder of a run, and what is said of a folder that nobody can write."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_margo import compare, resume_run
from recbole_margo.cli import main
from recbole_margo.errors import ConfigError
from recbole_margo.output_folder import (
    is_unused,
    locked_folder,
    make_output_folder,
    new_run_folder,
    output_folder,
)
from recbole_margo.studies.comparison.compare import resume_comparison
from recbole_margo.testing import NAME, SETTINGS, random_world, small_settings

HOLDER = """
import sys, time
from pathlib import Path
from recbole_margo.output_folder import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def words() -> list[str]:
    random_world().write(Path("data"))
    values = {**SETTINGS, **small_settings("MARGO"), "data_path": "data", "epochs": 1}
    return [f"--dataset={NAME}", *(f"--{key}={value}" for key, value in values.items())]


def hold(folder: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("verb", ["train", "compare", "tune", "sweep"])
def test_a_second_run_in_a_folder_is_refused_until_the_first_is_killed(
    verb: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"compare": ["--seeds=1"], "sweep": ["--over", "alpha=2", "--seeds=1"]}.get(verb, [])
    model = "--models=MARGO" if verb == "compare" else "--model=MARGO"
    command = [verb, model, *words, *more, "--output_dir=out"]
    holder = hold("out")
    try:
        assert main(command) == 2
        assert capsys.readouterr().err == (
            "error: out: another process is writing its run into this folder: wait until it has "
            "finished, or name another folder with --output_dir\n"
        )
        assert [path.name for path in Path("out").iterdir()] == [".lock"]
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    if verb == "train":
        assert main(command) == 0
        assert Path("out/MARGO/result.json").is_file()


def test_a_run_that_goes_on_is_not_resumed_beside_it(words: list[str]) -> None:
    values = {**SETTINGS, **small_settings("MARGO"), "data_path": "data", "epochs": 1}
    compare(["MARGO"], NAME, config_dict=values, output_dir="out")
    holder = hold("out")
    of_model = hold("out/MARGO")
    try:
        with pytest.raises(ConfigError, match=r"^out: another process"):
            resume_comparison("out")
        with pytest.raises(ConfigError, match=r"^out/MARGO: another process"):
            resume_run("out/MARGO/checkpoint-last.pth")
    finally:
        for process in (holder, of_model):
            process.kill()
            process.wait()
    assert resume_comparison("out")[0].status == "finished"


def name_folders(number: int) -> list[str]:
    return [str(new_run_folder("toy")) for _ in range(20)]


def test_new_folders_are_nobody_elses() -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        named = [name for names in pool.map(name_folders, range(3)) for name in names]
    assert len(set(named)) == 60
    assert all(Path(name).is_dir() for name in named)


def test_a_new_folder_in_which_nothing_was_written_is_removed() -> None:
    with pytest.raises(ConfigError, match="refused"), output_folder(None, "toy") as folder:
        with locked_folder(folder):
            assert folder.is_dir()
        raise ConfigError("refused")
    assert not folder.exists()
    with pytest.raises(ConfigError), output_folder(None, "toy") as folder:
        (folder / "plan.json").write_text("{}")
        raise ConfigError("refused")
    assert (folder / "plan.json").is_file()
    with pytest.raises(ConfigError), output_folder("mine", "toy") as folder, locked_folder(folder):
        raise ConfigError("refused")
    assert Path("mine").is_dir() and is_unused(Path("mine"))


@pytest.mark.parametrize(
    "command",
    [
        ["train"],
        ["compare", "--models=MARGO", "--seeds=1"],
        ["ablate", "--seeds=1"],
        ["sweep", "--over", "alpha=2", "--seeds=1"],
        ["tune", "--over=alpha", "--trials=1"],
        ["robustness", "--corrupt", "text=0.5", "--seeds=1", "--models=MARGO"],
    ],
)
def test_a_file_in_place_of_the_folder_is_one_line(
    command: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").write_text("a file")
    for given in ("out", "out/below"):
        assert main([*command, *words, f"--output_dir={given}"]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith(f"error: {given}: expected a folder that can be written, found a f")
    assert Path("out").read_text() == "a file"


def test_inspect_and_encode_say_what_cannot_be_written(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").write_text("a file")
    about = [f"--dataset={NAME}", "--data_path=data"]
    assert main(["inspect", *about, "--output=out"]) == 2
    assert capsys.readouterr().err == (
        "error: out: expected a folder that can be written, found a file in its place; name "
        "another with --output_dir\n"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(ConfigError, match="found permission denied"):
        make_output_folder(tmp_path / "out")
    with pytest.raises(ConfigError, match="found permission denied"):
        new_run_folder("toy")


def test_errors_of_the_system_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*words: object, **more: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    for make in (lambda: make_output_folder(Path("out")), lambda: new_run_folder("toy")):
        with pytest.raises(ConfigError, match=r"found read-only file system; name another with"):
            make()
