from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mmrec_source import write_source

from dataset_converters.__main__ import CONVERTERS, main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    source = write_source(tmp_path / "raw")
    return ["mmrec", "--source", str(source), "--name", "toy", "--output", str(tmp_path / "out")]


def test_the_command_converts_and_reports(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--feature", "words=text_feat.npy"]) == 0
    printed = capsys.readouterr().out
    assert "words         3 columns, 0 items miss it" in printed
    assert printed.endswith(f"written to {tmp_path / 'out' / 'toy'}\n")

    assert main([*arguments, "--feature", "words=text_feat.npy"]) == 0
    assert capsys.readouterr().out.endswith("toy holds this already\n")


def test_a_mistake_in_the_data_is_one_line_and_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(arguments[2]) / "toy.inter").write_text("")
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert not captured.out


@pytest.mark.parametrize("given", ["text", "=x.npy", "text=", "text=a.npy"])
def test_a_feature_is_given_as_name_and_file_once(
    arguments: list[str], given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = ["--feature", "text=text_feat.npy", "--feature", given]
    assert main([*arguments, *twice]) == 2
    assert "--feature: expected MODALITY=FILE, each modality once" in capsys.readouterr().err


def test_help_lists_the_converters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for converter in CONVERTERS:
        assert converter.command in printed


def test_the_command_needs_neither_recbole_nor_torch(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from dataset_converters.__main__ import main\n"
        "status = main(sys.argv[1:])\n"
        "heavy = {'recbole', 'torch', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "toy" / "toy.features.json").is_file()


def test_python_m_runs_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dataset_converters"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "CONVERTER" in done.stderr


@pytest.mark.parametrize("new", ["--output_dir", "--min_rating", "--k_core", "--dry_run"])
def test_spellings_of_earlier_versions_are_known_and_not_shown(
    new: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text(
        "user,item,rating\n"
        + "".join(f"u{u},i{i},{1 + i % 5}\n" for u in range(9) for i in range(9))
    )
    values = {"--output_dir": tmp_path / "out", "--min_rating": 2, "--k_core": 3}
    old = "--output" if new == "--output_dir" else new.replace("_", "-")
    reports = []
    for word in (new, old):
        words = {**values, new: None}
        given = [f"{key}={value}" for key, value in words.items() if value is not None]
        chosen = [f"{word}={values[new]}"] if new in values else [word]
        source = ["tabular", f"--source={tmp_path / 'rows.csv'}", "--name=rows", "--overwrite"]
        assert main([*source, *given, *chosen]) == 0
        reports.append(capsys.readouterr().out.split("\nwritten")[0].split("\nrows holds")[0])
    assert reports[0].splitlines()[:5] == reports[1].splitlines()[:5]
    assert "dropped" in reports[0]
    with pytest.raises(SystemExit):
        main(["tabular", "--help"])
    shown = capsys.readouterr().out
    assert new in shown
    assert f"{old} " not in shown
