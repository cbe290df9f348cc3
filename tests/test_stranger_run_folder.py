"""A run's folder that comes from a stranger: nothing outside of it is written, nobody is met."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_margo import resume_run
from recbole_margo.cli import main
from recbole_margo.errors import ConfigError
from recbole_margo.store.plain import as_plain
from recbole_margo.store.writing import write_json
from recbole_margo.studies.tuning.command import TUNING
from recbole_margo.studies.tuning.plan import TuningPlan
from recbole_margo.testing import NAME, SETTINGS, random_world, small_settings


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def words() -> list[str]:
    random_world().write(Path("data"))
    values = {**SETTINGS, **small_settings("MARGO"), "data_path": "data", "epochs": 1}
    return [f"--dataset={NAME}", *(f"--{key}={value}" for key, value in values.items())]


@pytest.fixture
def theirs() -> Iterator[int]:
    """The port of a machine that waits for others, and that nobody may meet."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server.getsockname()[1]
        with pytest.raises(BlockingIOError):
            server.accept()


def change(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text())
    content["settings"].update(values)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("verb", "models", "file"),
    [
        ("train", "BPR,MARGO", "MARGO/train.log"),
        ("train", "BPR,MARGO", "BPR/checkpoint.pth"),
        ("train", "BPR,MARGO", "BPR"),
        ("compare", "BPR,MARGO", "seed-1/BPR/train.log"),
    ],
)
def test_no_link_in_a_folder_is_followed(
    words: list[str], capsys: pytest.CaptureFixture[str], verb: str, models: str, file: str
) -> None:
    option, seeds = ("models", ["--seeds=[1,2]"]) if verb == "compare" else ("model", [])
    assert main([verb, f"--{option}={models}", *words, *seeds, "--output_dir=r"]) == 0
    for record in Path("r").rglob("result.json"):
        record.unlink()
    link = Path("r") / file
    victim = Path("victim").absolute()
    if link.is_dir():
        link.rename("moved")
        victim.mkdir()
    else:
        link.unlink()
        victim.write_text("precious")
    link.symlink_to(victim)
    capsys.readouterr()
    assert main([verb, "--resume=r"]) == 2
    said = capsys.readouterr().err
    assert file in said and "found a link to" in said and said.count("\n") == 1
    assert not list(victim.iterdir()) if victim.is_dir() else victim.read_text() == "precious"


@pytest.mark.parametrize("offset", [0, 1])
def test_a_checkpoint_does_not_say_whom_to_meet(words: list[str], theirs: int, offset: int) -> None:
    assert main(["train", "--model=MARGO", *words, "--output_dir=r"]) == 0
    Path("r/MARGO/result.json").unlink()
    last = next(Path("r/MARGO").glob("checkpoint*.pth"))
    state = torch.load(last, weights_only=True)
    others = {"nproc": 1, "world_size": 2, "group_offset": offset}
    state["config"].update(others, ip="127.0.0.1", port=theirs)
    torch.save(state, "r/MARGO/checkpoint-last.pth")
    with pytest.raises(ConfigError, match=rf"--world_size=2 --ip=127\.0\.0\.1 --port={theirs}"):
        resume_run("r/MARGO/checkpoint-last.pth")
    assert main(["train", "--resume=r/MARGO/checkpoint-last.pth"]) == 2


@pytest.mark.parametrize("verb", ["train", "compare"])
def test_a_plan_does_not_say_whom_to_meet(
    words: list[str], theirs: int, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    option, seeds = ("models", ["--seeds=[1,2]"]) if verb == "compare" else ("model", [])
    assert main([verb, f"--{option}=MARGO,BPR", *words, *seeds, "--output_dir=r"]) == 0
    for path in Path("r").rglob("*.*"):
        if path.name == "result.json" or path.suffix == ".pth":
            path.unlink()
    plan = Path("r") / ("comparison-plan.json" if verb == "compare" else "run.json")
    for offset in (0, 1):
        change(plan, nproc=1, world_size=2, group_offset=offset, ip="127.0.0.1", port=theirs)
        capsys.readouterr()
        assert main([verb, "--resume=r"]) == 2
        assert "could run any program here" in capsys.readouterr().err


def test_the_plan_of_a_search_does_not_say_whom_to_meet(words: list[str], theirs: int) -> None:
    settings = {**SETTINGS, **small_settings("MARGO"), "data_path": "data"}
    plan = TuningPlan.make("MARGO", NAME, settings, trials=1)
    write_json(Path(TUNING.file), as_plain(plan))
    change(Path("tuning-plan.json"), world_size=2, group_offset=1, ip="127.0.0.1", port=theirs)
    with pytest.raises(ConfigError, match="could run any program here"):
        TUNING.read(Path())
