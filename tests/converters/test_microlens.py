from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dataset_converters.__main__ import main
from dataset_converters.item_inputs import ItemInputs
from dataset_converters.microlens import MicroLensConverter
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import read_item_lines
from recbole_margo.store.feature_files import open_matrix

ITEMS = 12
TITLES = [f"{('cat', 'dog', 'cook')[item % 3]} video, no. {item}" for item in range(1, ITEMS + 1)]
PAIRS = [
    (user, item, 1_583_378_629_552 + 1000 * ((7 * item + user) % ITEMS))
    for user in range(1, 7)
    for item in range(1, ITEMS + 1)
    if item % 6 != user % 6
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "MicroLens-50k"
    (folder / "MicroLens-50k_covers").mkdir(parents=True)
    pairs = pd.DataFrame(PAIRS, columns=["user", "item", "timestamp"])
    pairs.to_csv(folder / "MicroLens-50k_pairs.csv", index=False)
    titles = pd.DataFrame({"item": range(1, ITEMS + 1), "title": TITLES})
    titles.to_csv(folder / "MicroLens-50k_titles.csv", index=False)
    for item in (1, 2, 5):
        (folder / "MicroLens-50k_covers" / f"{item}.jpg").write_bytes(b"image")
    (folder / "MicroLens-50k_pairs.tsv").write_text("1\t1 2 3\n", encoding="utf-8")
    return folder


def test_the_last_two_videos_of_every_user_are_held_out(source: Path, tmp_path: Path) -> None:
    report, _ = MicroLensConverter(source, "videos").run(tmp_path)
    assert report.rows == {"train": len(PAIRS) - 12, "valid": 6, "test": 6}
    for position, split in ((-2, "valid"), (-1, "test")):
        table = pd.read_csv(tmp_path / "videos" / f"videos.{split}.inter", sep="\t")
        for user, item in table[["user_id:token", "item_id:token"]].to_numpy().tolist():
            history = sorted((time, item) for who, item, time in PAIRS if who == user)
            assert history[position][1] == item


@pytest.mark.parametrize("header", [True, False])
def test_titles_with_and_without_a_header_and_covers_are_found(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], header: bool
) -> None:
    if not header:
        (source / "MicroLens-50k_titles.csv").unlink()
        titles = pd.DataFrame({"item": range(1, ITEMS + 1), "title": TITLES})
        titles.to_csv(source / "MicroLens-100k_title_en.csv", index=False, header=False)
    covers = ["--covers", str(source / "MicroLens-50k_covers")]
    where = ["--source", str(source), "--name", "videos", "--output", str(tmp_path)]
    assert main(["microlens", *where, *covers]) == 0
    assert "3 of 12 items have an image" in capsys.readouterr().out
    folder = tmp_path / "videos"
    texts = read_item_lines(folder, "videos", "texts")
    assert {int(item): text for item, text in texts.items()} == dict(enumerate(TITLES, start=1))
    assert set(read_item_lines(folder, "videos", "images")) == {"1", "2", "5"}


def test_rows_of_a_matrix_are_the_numbers_of_the_items(source: Path, tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).normal(size=(ITEMS, 3)).astype(np.float32)
    np.save(tmp_path / "video.npy", matrix)
    inputs = ItemInputs(features={"video": tmp_path / "video.npy"})
    MicroLensConverter(source, "videos", inputs=inputs).run(tmp_path)
    tokens = (tmp_path / "videos" / "videos.video.tokens").read_text(encoding="utf-8").split()
    found = open_matrix(tmp_path / "videos" / "videos.video.npy")
    np.testing.assert_array_equal(found, matrix[[int(token) - 1 for token in tokens]])


def test_a_matrix_of_another_height_needs_ids(source: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "video.npy", np.ones((ITEMS + 1, 3), dtype=np.float32))
    inputs = ItemInputs(features={"video": tmp_path / "video.npy"})
    with pytest.raises(DataError, match="--feature_ids"):
        MicroLensConverter(source, "videos", inputs=inputs).run(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("MicroLens-50k_pairs.csv", None, "--pairs"),
        ("MicroLens-100k_pairs.csv", b"user,item,timestamp\n1,2,3\n", "--pairs"),
        ("MicroLens-100k_title_en.csv", b"1,a\n", "--titles"),
        ("MicroLens-50k_pairs.csv", b"user,item\n1,2\n", "needs a column of times"),
        ("MicroLens-50k_pairs.csv", b"user,item,timestamp\n1,2,x\n", "line 2: expected a number"),
        ("MicroLens-50k_titles.csv", b"item,title\n99,a\n", "none in common"),
        ("MicroLens-50k_titles.csv", b"item\n1\n", "expected at least two columns"),
    ],
)
def test_damaged_files_are_named(
    source: Path, tmp_path: Path, file: str, content: bytes | None, expected: str
) -> None:
    if content is None:
        (source / file).unlink()
    else:
        (source / file).write_bytes(content)
    with pytest.raises(DataError) as caught:
        MicroLensConverter(source, "videos").run(tmp_path / "out")
    assert expected in str(caught.value)
