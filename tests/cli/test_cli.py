"""The command line, from the outside."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recbole_margo.cli import main
from recbole_margo.defaults import parse_settings
from recbole_margo.errors import ConfigError
from recbole_margo.testing import NAME, SETTINGS, random_world, small_settings

SCRIPT = Path(__file__).resolve().parents[2] / "run_recbole_margo.py"


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], cwd=folder, capture_output=True, text=True
    )


def options(root: Path, **changes: object) -> list[str]:
    values = {**SETTINGS, **small_settings("MARGO"), "data_path": str(root), **changes}
    return [f"--{key}={json.dumps(value)}" for key, value in values.items()]


def test_settings_are_yaml_in_both_spellings() -> None:
    words = ["--alpha=0.5", "--topk", "[5, 10]", "--learning_rate=1e-4", "--two_stage=false"]
    assert parse_settings(words) == {
        "alpha": 0.5,
        "topk": [5, 10],
        "learning_rate": 1e-4,
        "two_stage": False,
    }
    assert parse_settings(["--x=a=b"]) == {"x": "a=b"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["alpha=1"], "expected --key=value, found 'alpha=1'"),
        (["--alpha"], "--alpha has no value"),
        (["--alpha", "--tau=1"], "--alpha has no value"),
        (["--alpha=1", "--alpha=2"], "--alpha is given twice"),
        (["--topk=[1"], "the value of --topk is not valid YAML"),
    ],
)
def test_malformed_settings_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        parse_settings(words)


def test_the_command_trains_and_prints_one_table(tmp_path: Path) -> None:
    random_world().write(tmp_path / "data")
    words = ["--model=MARGO,BPR", f"--dataset={NAME}", "--output_dir=out"]
    result = run(tmp_path, *words, *options(tmp_path / "data"))
    assert result.returncode == 0, result.stderr
    assert "recall@5" in result.stdout
    assert "evaluation protocol recbole" in result.stdout
    assert "\033[" not in result.stdout + result.stderr, "colours in a pipe"
    assert {
        record["model"] for record in json.loads((tmp_path / "out/comparison.json").read_text())
    }
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--learing_rate=0.1"], "unknown key `learing_rate`"),
        (["--model=MARG0"], "did you mean MARGO"),
        (["--dataset=baby"], "recbole-margo convert tabular"),
        (["--config_files=absent.yaml"], "cannot read the config file absent.yaml"),
        (["--resume=nothing"], "there is no checkpoint nothing"),
        (["--resume=nothing", "--alpha=1"], "a resumed run keeps its settings"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert message in printed
    assert len(printed.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_models_are_listed_with_their_papers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert "https://arxiv.org/abs/2504.16524" in printed
    assert "SASRec" not in printed
    assert main(["models", "--all"]) == 0
    assert "SASRec" in capsys.readouterr().out


def test_models_are_listed_with_what_they_learn_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    first = {row[0]: row[2:7] for row in rows if len(row) > 6}
    assert first["BM3"] == ["WWW", "2023", "none", "yes", "trained"]
    assert first["DRAGON"] == ["ECAI", "2023", "sampled", "no", "frozen"]
    assert first["VBPR"] == ["AAAI", "2016", "sampled", "yes", "frozen"]


def test_all_about_one_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "FREEDOM"]) == 0
    printed = capsys.readouterr().out
    assert "Departures from the paper" in printed
    (row,) = [line for line in printed.splitlines() if line.startswith("dropped_interactions")]
    assert row.split()[1:4] == ["0.8", "0.8,", "0.9"]
    assert main(["models", "BPR"]) == 2
    assert "RecBole's own" in capsys.readouterr().err


def test_help_of_the_program_does_not_wait_for_torch() -> None:
    code = "import sys; from recbole_margo.cli import main\ntry: main(['--help'])\n"
    code += "except SystemExit: print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=SCRIPT.parent, capture_output=True, text=True, check=True
    )
    assert "train one or more models" in result.stdout
    assert result.stdout.strip().endswith("False")


def test_help_of_training_lists_models_with_papers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "--resume" in printed
    assert "Xue Dong" in printed
    assert "https://arxiv.org/abs/2301.12097" in printed


def test_an_interrupt_leaves_a_run_that_can_be_resumed(tmp_path: Path) -> None:
    random_world().write(tmp_path / "data")
    words = [f"--dataset={NAME}", "--output_dir=out"]
    long_run = options(tmp_path / "data", epochs=100_000, stopping_step=100_000)
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *words, *long_run],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with this signal ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    last = tmp_path / "out/MARGO/checkpoint-last.pth"
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    try:
        _, printed = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, printed
    assert "--resume=out/MARGO/checkpoint-last.pth" in printed
    assert not (tmp_path / "out/MARGO/result.json").exists()
    assert not list((tmp_path / "out/MARGO").glob(".checkpoint*")), "half a checkpoint was left"
