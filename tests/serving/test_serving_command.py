"""`recbole-margo bundle`, `recommend` and `explain`, from a finished run to files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from recbole_margo import Recommender
from recbole_margo.cli import main
from recbole_margo.run import run_recbole_margo
from recbole_margo.serving import output as user_blocks
from recbole_margo.serving.command import nearest_ids
from recbole_margo.store.feature_files import write_features
from recbole_margo.testing import NAME, SETTINGS, random_world, small_settings


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("serving")
    random_world().write(root / "data")
    settings = {**SETTINGS, **small_settings("MARGO"), "data_path": str(root / "data")}
    run_recbole_margo("MARGO", NAME, None, {**settings, "epochs": 1}, root / "run")
    assert main(["bundle", "--run", str(root / "run"), "--output_dir", str(root / "bundle")]) == 0
    return root


def test_all_users_go_to_a_file_block_by_block(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_blocks, "USERS_AT_ONCE", 3)
    words = ["recommend", "--bundle", str(root / "bundle"), "--all", "--top", "4", "--output"]
    for end in ("csv", "jsonl", "parquet"):
        if end == "parquet":
            pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        assert main([*words, str(tmp_path / f"lists.{end}")]) == 0
    recommender = Recommender.load(root / "bundle")
    lists = recommender.recommend(recommender.bundle.user_ids, 4)
    expected = [
        (one.user, str(rank), ranked.item)
        for one in lists
        for rank, ranked in enumerate(one.items, 1)
    ]
    with (tmp_path / "lists.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["user"], row["rank"], row["item"]) for row in found] == expected
    by_line = [json.loads(line) for line in (tmp_path / "lists.jsonl").read_text().splitlines()]
    assert [
        (one["user"], str(rank), each["item"])
        for one in by_line
        for rank, each in enumerate(one["items"], 1)
    ] == expected
    table = pd.read_parquet(tmp_path / "lists.parquet")
    assert list(zip(table.user, table["rank"].astype(str), table.item, strict=True)) == expected
    assert table.score.tolist() == pytest.approx([float(row["score"]) for row in found])


def test_a_run_serves_without_a_bundle_and_a_file_names_users(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "users").write_text("u3\nu5\n")
    words = ["--users_file", str(tmp_path / "users"), "--top=2"]
    assert main(["recommend", "--run", str(root / "run"), *words]) == 0
    of_run = capsys.readouterr().out
    assert main(["recommend", "--bundle", str(root / "bundle"), *words]) == 0
    assert capsys.readouterr().out == of_run
    assert [line.split()[:2] for line in of_run.splitlines()[2:]] == [
        ["u3", "1"],
        ["u3", "2"],
        ["u5", "1"],
        ["u5", "2"],
    ]


def test_new_users_and_explanations_are_printed(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["--bundle", str(root / "bundle")]
    assert main(["recommend", *source, "--history", "i1,i2", "--top", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert main(["explain", *source, "--user", "u1", "--item", "i3"]) == 0
    assert capsys.readouterr().out.startswith("i3 has the score ")
    assert main(["explain", *source, "--user", "u1"]) == 0
    assert capsys.readouterr().out.count(" has the score ") == 5
    assert main(["explain", *source, "--user", "u1", "--item", "i3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["score"] == pytest.approx(sum(part["value"] for part in found["contributions"]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--users", "nobody"], "'nobody'"),
        (["--users", "u1", "--all"], "expected one of --users"),
        ([], "expected one of --users"),
        (["--all", "--top", "0"], "from 1 to 15, found 0"),
        (["--all", "--top", "99"], "from 1 to 15, found 99"),
        (["--all", "--output", "lists.txt"], ".csv, .jsonl, .parquet"),
        (["--users", "u1", "--allow", "x"], "'x'"),
        (["--users_file", "nowhere"], "nowhere"),
        (["--all", "--output", "lists.csv", "--workers", "0"], "`workers`"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    root: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["recommend", "--bundle", str(root / "bundle"), *words]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_a_file_stays_as_it_was_when_a_user_is_unknown(root: Path, tmp_path: Path) -> None:
    users, output = tmp_path / "users", tmp_path / "lists.csv"
    users.write_text("u1\nnobody\n")
    output.write_text("old")
    words = ["--users_file", str(users), "--output", str(output)]
    assert main(["recommend", "--bundle", str(root / "bundle"), *words]) == 2
    assert output.read_text() == "old" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("pool", [["--workers", "2"], ["--cluster", "local"]], ids=" ".join)
def test_a_pool_writes_the_lists_in_the_order_of_the_users(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: list[str]
) -> None:
    if "--cluster" in pool:
        pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")
    monkeypatch.setattr(user_blocks, "USERS_AT_ONCE", 3)
    words = ["recommend", "--bundle", str(root / "bundle"), "--all", "--top", "4", "--output"]
    assert main([*words, str(tmp_path / "one.csv")]) == 0
    assert main([*words, str(tmp_path / "two.csv"), *pool]) == 0
    assert (tmp_path / "two.csv").read_text() == (tmp_path / "one.csv").read_text()


def test_a_chart_is_drawn(root: Path, tmp_path: Path) -> None:
    words = ["explain", "--bundle", str(root / "bundle"), "--user", "u1", "--output"]
    assert main([*words, str(tmp_path / "chart.png")]) == 0
    with Image.open(tmp_path / "chart.png") as image:
        assert image.width > 800
    assert main([*words, str(tmp_path / "chart.txt")]) == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_new_items_are_added_to_a_copy(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for modality, width in (("image", 4), ("text", 5)):
        rows = np.ones((1, width), np.float32)
        write_features(tmp_path / "new", "arrivals", modality, rows, ["fresh"], "a test")
    words = ["add_items", "--bundle", str(root / "bundle"), "--features", str(tmp_path / "new")]
    titles = tmp_path / "neu.csv"
    titles.write_text("Artikelnummer;Bezeichnung\nfresh;Käse,  jung\nother;x\n", encoding="utf-8")
    named = ["--titles", str(titles), "--output_dir", str(tmp_path / "more")]
    assert main([*words, *named]) == 0
    assert "1 new items beside 15 trained ones" in capsys.readouterr().out
    titles.write_bytes(titles.read_bytes().decode("utf-8").encode("latin-1"))
    assert main([*words, *named[:3], str(tmp_path / "third")]) == 2
    assert "--encoding latin-1" in capsys.readouterr().err
    assert main([*words, "--encoding", "latin-1", "--output_dir", str(tmp_path / "third")]) == 2
    assert "--encoding: expected --titles" in capsys.readouterr().err
    named = ["--encoding", "latin-1", *named[:3], str(tmp_path / "second")]
    assert main([*words, *named]) == 0
    assert Recommender.load(tmp_path / "second").bundle.titles[-1] == "Käse, jung"
    capsys.readouterr()
    source = ["--bundle", str(tmp_path / "more")]
    assert main(["recommend", *source, "--users", "u1", "--allow", "fresh"]) == 0
    assert "Käse, jung" in capsys.readouterr().out
    again = [*words[:2], str(tmp_path / "more"), *words[3:]]
    assert main([*again, "--output_dir", str(tmp_path / "third")]) == 2
    assert "found 'fresh'" in capsys.readouterr().err
    assert main([*words, "--output_dir", str(tmp_path / "more")]) == 2
    assert not (tmp_path / "third").exists()


def test_unknown_ids_are_answered_with_the_nearest(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["--bundle", str(root / "bundle")]
    assert main(["recommend", *source, "--users", "U1"]) == 2
    assert "found 'U1': did you mean 'u1'?" in capsys.readouterr().err
    assert main(["explain", *source, "--user", "u1", "--item", "i5x"]) == 2
    assert "found 'i5x': did you mean 'i5'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wanted", "near"), [("225", ["00225"]), ("00000", ["0"]), ("Mueller-1", ["Müller-1"])]
)
def test_the_nearest_ids_have_other_zeros_or_one_slip(wanted: str, near: list[str]) -> None:
    assert nearest_ids(wanted, ["00225", "x", "0", "Müller-1", "12250"]) == near


def test_a_bundle_looks_at_its_paths_first(
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr("recbole_margo.serving.bundling.bundle_of_run", refused)
    (tmp_path / "runs" / "MARGO").mkdir(parents=True)
    words = ["bundle", "--run", str(tmp_path / "runs" / "MARGO"), "--output_dir"]
    assert main([*words, str(root / "bundle")]) == 2
    assert "nothing yet" in capsys.readouterr().err
    for verb, more in (
        ("bundle", ["--output_dir", str(tmp_path / "b")]),
        ("explain", ["--user", "u"]),
    ):
        assert main([verb, "--run", str(tmp_path / "runs" / "Margo"), *more]) == 2
        assert f"did you mean {tmp_path / 'runs' / 'MARGO'}?" in capsys.readouterr().err
