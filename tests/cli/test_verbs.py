"""What all verbs have in common: their help names them, and wrong input is a line and status 2."""

from __future__ import annotations

import os
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from recbole_margo.cli import doctor, main
from recbole_margo.cli.verbs import VERBS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_names_it(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: recbole-margo {verb} ")


@pytest.mark.parametrize("verb", ["train", *VERBS])
def test_an_unknown_option_is_a_line_and_status_2(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([verb, "--no_such_option=1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_converter_names_itself_and_its_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "tabular", "--help"])
    assert capsys.readouterr().out.startswith("usage: recbole-margo convert tabular ")
    assert main(["convert", "tabular"]) == 2
    assert "`recbole-margo convert tabular --help`" in capsys.readouterr().err


def test_the_doctor_finds_all_well(tmp_path: Path) -> None:
    # In a process of its own: Ray, once imported, shows its own copies of packages.
    code = "import sys; from recbole_margo.cli import main; sys.exit(main(['doctor']))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    lines = ended.stdout.splitlines()
    about = [line[2:17].strip() for line in lines[:-2]]
    for name in ("Python", *doctor.SHOWN, "packages", "cores", "memory", "GPU"):
        assert name in about
    assert [line for line in lines if line.startswith("  trains BPR     yes, on the")]
    assert [line for line in lines if line.startswith("  trains MARGO   yes, on the")]
    assert lines[-1] == "all well"
    assert ended.stderr == ""
    assert not list(tmp_path.iterdir())


def test_the_doctor_says_what_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(model: str) -> str:
        raise RuntimeError(f"{model} is\nbroken")

    version = doctor._version
    changed = {"scipy": "0.1", "pandas": None}
    monkeypatch.setattr(doctor, "_train", train)
    monkeypatch.setattr(doctor, "_version", lambda name: changed.get(name, version(name)))
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "! pandas         not installed\n" in printed
    assert "pandas<3,>=2.0" in printed
    assert "scipy>=1.11 (found 0.1)" in printed
    assert "! trains BPR     no: RuntimeError: BPR is broken\n" in printed
    assert printed.endswith("not well: pandas, packages, trains BPR, trains MARGO\n")


def test_the_doctor_knows_every_extra() -> None:
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    extras = set(config["options.extras_require"])
    assert set(doctor.EXTRAS) == extras - doctor.FOR_DEVELOPERS


def test_the_doctor_names_every_gpu_and_a_torch_that_is_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = SimpleNamespace(name="Some Card", total_memory=80 << 30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: card)
    found = [one.text for one in doctor._machine() if one.about == "GPU"]
    assert [text.partition(";")[0] for text in found] == [
        "0: Some Card, 80 GiB",
        "1: Some Card, 80 GiB",
    ]
    monkeypatch.setitem(sys.modules, "torch", None)
    *_, last = doctor._machine()
    assert not last.well
    assert last.text.startswith("unknown: torch cannot be imported")
