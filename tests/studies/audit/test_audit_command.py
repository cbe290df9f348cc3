"""`recbole-margo audit` without a run: from a dataset on disk to the page."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from recbole_margo.cli import main
from recbole_margo.store.dataset_files import write_splits
from recbole_margo.store.feature_files import write_features
from recbole_margo.testing import NAME, random_world


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a small dataset, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    random_world().write(tmp_path / "data")
    return tmp_path / "data"


def audit(data: Path, *words: str) -> int:
    return main(["audit", f"--dataset={NAME}", f"--data_path={data}", *words])


def test_a_dataset_is_audited_before_any_training(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(data, "--min_pairs=1", "--items=3") == 0
    folder = Path("runs") / f"audit-{NAME}"
    assert {path.name for path in folder.iterdir()} == {
        *("audit.html", "audit.md", "audit.csv", "audit.json")
    }
    printed = capsys.readouterr().out
    questions = ("Which modality", "Which items", "What would repairing", "Report: runs")
    places = [printed.index(question) for question in questions]
    assert places == sorted(places)
    found = json.loads((folder / "audit.json").read_text())
    assert [part["modality"] for part in found["modalities"]] == ["image", "text"]
    assert all(len(part["listed"]) == 3 for part in found["modalities"])
    with (folder / "audit.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert "weight" not in rows[0]
    by_rank = {row["repair_rank"]: row["item"] for row in rows if row["modality"] == "text"}
    listed = [row["item"] for row in found["modalities"][1]["listed"]]
    assert [by_rank[str(rank)] for rank in (1, 2, 3)] == listed
    first = (folder / "audit.html").read_bytes()
    assert audit(data, "--min_pairs=1", "--items=3", "--modalities=[text, image]") == 0
    assert audit(data, "--min_pairs=1", "--items=3") == 0
    assert (folder / "audit.html").read_bytes() == first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--modalities=smell"], "'smell'"),
        (["--items=0"], "--items must be at least 1, found 0"),
        (["--label=MARGO"], "--label is of a --run"),
        (["--run=runs"], "leave out --dataset"),
        (["--images=nowhere"], "found no nowhere"),
        (["--config_files=nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_wrong_words_are_one_line_and_status_2(
    data: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(data, *words) == 2
    refused(message, capsys)
    assert not Path("runs").exists()


def refused(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = capsys.readouterr().err
    assert message in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert printed.rstrip().endswith(line)


def test_neither_dataset_nor_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit"]) == 2
    refused("expected --dataset=NAME or --run=DIR", capsys)


def write_dataset(data: Path, pairs: list[tuple[str, str]], features: bool = True) -> None:
    """Write a dataset of these training interactions of user and item."""
    import pandas as pd

    table = pd.DataFrame(pairs, columns=["user_id", "item_id"])
    folder = data / "shop"
    folder.mkdir(parents=True)
    parts = {"train": table, "valid": table.iloc[:1], "test": table.iloc[:1]}
    write_splits(folder, "shop", parts)
    yaml = "benchmark_filename: [train, valid, test]\nload_col: {inter: [user_id, item_id]}\n"
    (folder / "shop.yaml").write_text(yaml)
    if features:
        items = sorted({item for _, item in pairs})
        rows = np.random.default_rng(0).standard_normal((len(items), 4)).astype(np.float32)
        write_features(folder, "shop", "text", rows, items, "made up")


@pytest.mark.parametrize(
    ("pairs", "features", "message"),
    [
        ([(f"u{n % 9}", f"i{n % 7}") for n in range(40)], False, "features"),
        ([(f"u{n}", f"i{n}") for n in range(9)], True, "of 9 users and 9 items"),
        ([("u", f"i{n}") for n in range(8)], True, "of 1 users and 8 items"),
    ],
)
def test_too_little_to_say_anything(
    tmp_path: Path,
    pairs: list[tuple[str, str]],
    features: bool,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_dataset(tmp_path, pairs, features)
    words = [f"--data_path={tmp_path}", f"--output_dir={tmp_path / 'out'}"]
    assert main(["audit", "--dataset=shop", *words]) == 2
    refused(message, capsys)
    assert not (tmp_path / "out").exists()
