"""`recbole-margo reliability`: from finished runs to the files and the terminal."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from recbole_margo.cli import main
from recbole_margo.run import run_recbole_margo
from recbole_margo.testing import MISSING, NAME, SETTINGS, random_world, small_settings

FILES = {"audit.html", "audit.md", "audit.csv", "audit.json", "reliability.json"}
FIGURES = {
    f"{name}.{end}" for name in ("weights", "relations", "evidence") for end in ("png", "svg")
}
FAST = ["--min_pairs=1", "--items=4", "--negatives=5", "--resamples=100"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data, and with runs of MARGO of two seeds, DRAGON and one modality."""
    root = tmp_path_factory.mktemp("runs")
    world = random_world().without(MISSING["some items miss one"])
    world.write(root / "data")
    titles = "".join(f"i{n}\t<b>Film {n}</b>\n" for n in range(15))
    path = root / "data" / NAME / f"{NAME}.item"
    path.write_text(f"item_id:token\ttitle:token_seq\n{titles}", encoding="utf-8")
    shared: dict[str, Any] = {"data_path": str(root / "data"), "epochs": 2, "split_seed": 5}
    for seed, model in ((1, "MARGO"), (2, "MARGO"), (1, "DRAGON")):
        settings = {**SETTINGS, **small_settings(model), **shared, "seed": seed}
        run_recbole_margo(model, NAME, None, settings, root / "both" / f"seed-{seed}")
    alone = {**SETTINGS, **small_settings("MARGO"), **shared, "modalities": ["text"]}
    run_recbole_margo("MARGO", NAME, None, alone, root / "alone")
    return root


def test_several_seeds_and_models_are_one_report(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(15):
        Image.new("RGB", (30, 30), "red").save(pictures / f"i{number}.png")
    words = ["--run", str(root / "both"), "--output_dir", str(tmp_path / "out"), *FAST]
    assert main(["reliability", *words, "--images", str(pictures)]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | FIGURES
    printed = capsys.readouterr().out
    assert "Least reliable image" in printed
    assert f"Report: {tmp_path / 'out' / 'audit.html'}" in printed
    found = json.loads((tmp_path / "out/reliability.json").read_text())
    assert (found["label"], found["seeds"]) == ("MARGO", [1, 2])
    assert {(one["label"], one["seed"]) for one in found["models"]} == {
        ("MARGO", 1),
        ("MARGO", 2),
        ("DRAGON", 1),
    }
    assert [one["seeds"] for one in found["stability"]] == [2, 2]
    assert len(found["relations"]) == 8
    with (tmp_path / "out/audit.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 15
    assert {row["item"] for row in rows} == {f"i{n}" for n in range(15)}
    missing = [row for row in rows if row["present"] == "0"]
    assert len(missing) == 5
    assert {row["evidence"] + row["contradicted"] + row["feature_norm"] for row in missing} == {""}
    page = (tmp_path / "out/audit.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;Film" in page
    assert "<b>Film" not in page
    first = json.loads((tmp_path / "out/audit.json").read_text())["modalities"]
    assert page.count("data:image/jpeg;base64,") == sum(
        len(part["least"]) + len(part["most"]) for part in found["audit"]["modalities"]
    ) + sum(len(part["listed"]) for part in first)
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)


def test_one_run_writes_beside_itself_and_the_same_again(root: Path) -> None:
    run = root / "both" / "seed-2" / "MARGO"
    assert main(["reliability", "--run", str(run), *FAST]) == 0
    first = {path.name: path.read_bytes() for path in (run / "reliability").iterdir()}
    assert set(first) == FILES | FIGURES
    assert json.loads(first["reliability.json"])["stability"] == []
    assert main(["reliability", "--run", str(run), *FAST]) == 0
    assert first == {path.name: path.read_bytes() for path in (run / "reliability").iterdir()}


def test_one_modality_is_ranked_by_its_contradictions(root: Path, tmp_path: Path) -> None:
    words = ["--run", str(root / "alone"), "--output_dir", str(tmp_path / "out"), *FAST]
    assert main(["reliability", *words]) == 0
    found = json.loads((tmp_path / "out/reliability.json").read_text())
    assert found["audit"]["ranked_by"] == "contradicted"
    assert found["audit"]["modalities"][0]["least"]
    # Weights that are 1 by definition are no figure.
    assert not (tmp_path / "out/weights.png").exists()
    assert "nothing to weigh it against" in (tmp_path / "out/audit.html").read_text()


def test_a_catalogue_without_enough_pairs_ranks_nothing(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = root / "both" / "seed-1" / "MARGO"
    words = ["--run", str(run), "--output_dir", str(tmp_path), *FAST, "--min_pairs=1000"]
    assert main(["reliability", *words]) == 0
    assert "no item can be ranked" in capsys.readouterr().out
    assert "No items to list" in (tmp_path / "audit.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run", "nowhere"], "nowhere holds no finished run"),
        (["--run", "both/seed-1/DRAGON"], "expected a run of MARGO with item weights, found DRAG"),
        (["--run", "both", "--label", "margo"], "--label must be one of ['MARGO'], found 'margo'"),
        (["--run", "both", "--items", "0"], "--items must be at least 1, found 0"),
        (["--run", "both", "--resamples", "9"], "--resamples must be at least 100, found 9"),
        (["--run", "both", "--images", "absent"], "expected a folder or a table, found no absent"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    words: list[str],
    message: str,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(root)
    assert main(["reliability", *words]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.startswith("error: ")
    assert len(printed.strip().splitlines()) == 1
    assert not (root / "both" / "reliability").exists()


def test_changed_data_are_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = root / "data" / NAME / f"{NAME}.train.inter"
    before = path.read_text()
    try:
        path.write_text(before.rsplit("\n", 2)[0] + "\n")
        run = root / "both" / "seed-1" / "MARGO"
        assert main(["reliability", "--run", str(run), *FAST]) == 2
    finally:
        path.write_text(before)
    assert "expected the interactions that the model was trained" in capsys.readouterr().err
