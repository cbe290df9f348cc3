"""LightGCN's and LATTICE's layouts: a split of lists of items by user."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dataset_converters.__main__ import main
from dataset_converters.base import ConversionReport
from dataset_converters.item_lists import ItemListsConverter, LatticeConverter, LightGCNConverter
from dataset_converters.preparation import Preparation
from recbole_margo.errors import DataError
from recbole_margo.store.manifest import FeatureManifest

# Split -> user -> items; item 3 has no interaction.
LISTS: dict[str, dict[int, list[int]]] = {
    "train": {0: [0, 1, 2, 5], 1: [4, 2, 1], 2: [5]},
    "val": {0: [4], 1: [0]},
    "test": {1: [5], 0: [6], 2: [0, 1]},
}
ITEM_COUNT = 7
IMAGES = np.random.default_rng(3).normal(size=(ITEM_COUNT, 4)).astype("float32")


def write_lines(folder: Path, splits: dict[str, dict[int, list[int]]] = LISTS) -> Path:
    folder.mkdir(exist_ok=True)
    for split, lists in splits.items():
        lines = [" ".join(map(str, [user, *items])) for user, items in lists.items()]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_json(folder: Path, splits: dict[str, dict[int, list[int]]] = LISTS) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for split, lists in splits.items():
        (folder / f"{split}.json").write_text(json.dumps(lists))
    return folder


def convert(converter: ItemListsConverter) -> tuple[Path, ConversionReport]:
    output = converter.source.parent / "dataset"
    return output / converter.name, converter.run(output)[0]


def pairs(folder: Path, split: str) -> set[tuple[int, int]]:
    table = pd.read_csv(folder / f"toy.{split}.inter", sep="\t")
    assert list(table.columns) == ["user_id:token", "item_id:token"]
    return set(table.itertuples(index=False, name=None))


def expected(lists: dict[int, list[int]]) -> set[tuple[int, int]]:
    return {(user, item) for user, items in lists.items() for item in items}


@pytest.mark.parametrize(
    ("write", "converter"), [(write_lines, LightGCNConverter), (write_json, LatticeConverter)]
)
def test_split_and_features_are_kept(
    tmp_path: Path, write: object, converter: type[ItemListsConverter]
) -> None:
    source = write(tmp_path / "raw")  # type: ignore[operator]
    np.save(source / "image_feat.npy", IMAGES)
    folder, report = convert(converter(source, "toy"))

    for split, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        assert pairs(folder, name) == expected(LISTS[split])
    assert (report.rows_read, report.users, report.items) == (14, 3, 6)
    assert report.modalities == {"image": (4, 0)}
    assert report.notes == ()
    tokens = (folder / "toy.image.tokens").read_text().split()
    assert tokens == [str(item) for item in range(ITEM_COUNT)]
    np.testing.assert_array_equal(np.load(folder / "toy.image.npy"), IMAGES)
    assert FeatureManifest.read(folder, "toy").modalities["image"].source == "raw/image_feat.npy"


def test_features_may_lie_above_the_folder_of_the_core(tmp_path: Path) -> None:
    write_json(tmp_path / "baby" / "5-core")
    np.save(tmp_path / "baby" / "text_feat.npy", IMAGES)
    for source in (tmp_path / "baby", tmp_path / "baby" / "5-core"):
        assert LatticeConverter(source, "toy").preview().modalities == {"text": (4, 0)}
    write_json(tmp_path / "baby" / "0-core")
    with pytest.raises(DataError, match=r"found 0-core, 5-core\. Give one with --source"):
        LatticeConverter(tmp_path / "baby", "toy")


def test_without_a_validation_one_is_drawn_from_the_training(tmp_path: Path) -> None:
    lists = {
        "train": {
            0: list(range(20)),
            1: list(range(5, 15)),
            2: [1, 2, 3],
            3: [4, 9],
            4: list(range(11)),
        },
        "test": {0: [20], 1: [1], 2: [4], 3: [5], 4: [12]},
    }
    source = write_lines(tmp_path / "raw", lists)
    folder, report = convert(LightGCNConverter(source, "toy"))
    assert pairs(folder, "test") == expected(lists["test"])
    drawn = pairs(folder, "valid")
    assert pairs(folder, "train") | drawn == expected(lists["train"])
    assert not pairs(folder, "train") & drawn
    # max(1, floor(n / 10)) of 20, 10, 3 and 11 interactions, none of 2.
    counts = pd.Series([user for user, _ in drawn]).value_counts().to_dict()
    assert counts == {0: 2, 1: 1, 2: 1, 4: 1}
    assert report.notes[0] == (
        "the source has no validation: 5 of its 46 training interactions are drawn for it (0.1 of "
        "each user's, at least 1: --valid_ratio, --seed); the test is kept as it is"
    )
    half = Preparation(valid_ratio=0.5)
    assert LightGCNConverter(source, "toy", half).preview().rows["valid"] == 10 + 5 + 1 + 5
    again, other = (
        LightGCNConverter(source, "toy", Preparation(seed=seed)).run(tmp_path / str(seed))
        for seed in (999, 1)
    )
    assert pairs(tmp_path / "999" / "toy", "valid") == drawn
    assert pairs(tmp_path / "1" / "toy", "valid") != drawn
    assert again[0].rows == other[0].rows


def test_original_ids_are_kept(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "raw")
    ids = [f"B{item:03d} {item}" for item in range(ITEM_COUNT)]
    (source / "item_list.txt").write_text("\n".join(["org_id remap_id", *ids]) + "\n")
    (source / "user_list.txt").write_text("org_id remap_id\n812 0\n5 2\n77 1\n")
    folder, report = convert(LightGCNConverter(source, "toy"))
    assert (folder / "toy.item").read_text().splitlines()[:3] == [
        "item_id:token\toriginal_id:token",
        "0\tB000",
        "1\tB001",
    ]
    assert (folder / "toy.user").read_text().splitlines() == [
        "user_id:token\toriginal_id:token",
        "0\t812",
        "1\t77",
        "2\t5",
    ]
    assert report.notes[:2] == (
        "user_list.txt: column remap_id has the numbers, org_id the original ids",
        "item_list.txt: column remap_id has the numbers, org_id the original ids",
    )


def test_what_is_odd_is_counted_and_taken(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "raw")
    (source / "train.txt").write_text("\ufeff0 0 1\r\n\r\n  \n1 4 2 1\n0 2 5 5\n2\n3 6\n")
    (source / "test.txt").write_text("0 6 1\n1\n")
    folder, report = convert(LightGCNConverter(source, "toy"))
    assert pairs(folder, "train") == {
        (0, 0), (0, 1), (0, 2), (0, 5), (1, 4), (1, 2), (1, 1), (3, 6)
    }  # fmt: skip
    assert report.dropped == {"repeats a user and item": 1}
    assert report.notes == (
        "train.txt: 1 lists are of a user listed before; joined",
        "train.txt: 1 lists have no items",
        "test.txt: 1 lists have no items",
        "no features yet: give --features, or encode texts or images",
        "1 interactions repeat a user and item that occurred before",
        "1 interactions of validation and test are in the training too; what a user has there is "
        "not recommended, so they count as misses",
    )


def test_a_user_twice_in_json_loses_nothing(tmp_path: Path) -> None:
    source = write_json(tmp_path / "raw")
    (source / "test.json").write_text('{"0": [6], "1": [5], "0": [3]}')
    folder, report = convert(LatticeConverter(source, "toy"))
    assert pairs(folder, "test") == {(0, 6), (1, 5), (0, 3)}
    assert "test.json: 1 lists are of a user listed before; joined" in report.notes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0 1 2\n1 B00X 2\n", r"train\.txt, line 2: .*whole numbers from 0 .*found '1 B00X 2'"),
        ("0 1 -2\n", r"train\.txt, line 1: .*found '0 1 -2'"),
        ("0 1,2\n", r"line 1: .*found '0 1,2'"),
        ("\n0\n", r"train\.txt: expected users and their items, found no items"),
        ("", r"train\.txt: expected data, found an empty file"),
        (
            "0 1 99999999999999999999\n",
            r"train\.txt, line 1: .*found '0 1 999999999",
        ),
        ("0 1 \ud800".encode("utf-8", "surrogatepass"), r"line 1: .*whole numbers"),
        ("0 1 7\n", r"image_feat\.npy: expected 8 rows, .*largest itemID 7\), found 7"),
        ("0 1 2\n", r"image_feat\.npy: expected 6 rows, .*found 7"),
    ],
)
def test_lines_of_another_form_are_refused(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    lists = {"train": {0: [1]}, "val": {0: [4]}, "test": {0: [5]}}
    source = write_lines(tmp_path / "raw", lists)
    np.save(source / "image_feat.npy", IMAGES)
    (source / "train.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        convert(LightGCNConverter(source, "toy"))
    assert not list((tmp_path / "dataset").iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[0, 1], [2]]", r'train\.json: expected an object such as \{"0": \[5, 17\]\}'),
        ('{"0": 3}', r"train\.json: .*found '0': 3"),
        ('{"0": [1, 2.5]}', r"found '0': \[1, 2\.5\]"),
        ('{"0": [true]}', r"found '0': \[True\]"),
        ('{"0": [99999999999999999999]}', r"found '0': \[9999"),
        ('{"0": [1, -1]}', r"found '0': \[1, -1\]"),
        ('{"u1": [1]}', r"found 'u1': \[1\]"),
        ('{"0": {"1": 2}}', r"found '0': \[\('1', 2\)\]"),
        ('{"0": [1, 2', r"train\.json: expected JSON, found"),
        ("[" * 100_000, r"train\.json: expected JSON, found"),
    ],
)
def test_json_of_another_form_is_refused(tmp_path: Path, content: str, message: str) -> None:
    source = write_json(tmp_path / "raw")
    (source / "train.json").write_text(content)
    with pytest.raises(DataError, match=message):
        convert(LatticeConverter(source, "toy"))


def test_files_must_be_there_once(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "raw")
    (source / "valid.txt").write_text("0 1\n")
    with pytest.raises(DataError, match=r"found val\.txt and valid\.txt\. Keep one"):
        LightGCNConverter(source, "toy")
    (source / "valid.txt").unlink()
    (source / "test.txt").unlink()
    with pytest.raises(DataError, match=r"expected test\.txt, found no such file"):
        LightGCNConverter(source, "toy")
    with pytest.raises(DataError, match=r"expected train\.json, found no such file"):
        LatticeConverter(source, "toy")


def test_ids_that_no_file_knows_are_refused(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "raw")
    ids = [f"B{item:03d} {item}" for item in range(5)]
    (source / "item_list.txt").write_text("\n".join(["org_id remap_id", *ids]) + "\n")
    message = (
        r"item_list\.txt: expected .* each of the 6 numbers .*found 2 missing, such as 5, .*Take"
    )
    with pytest.raises(DataError, match=message):
        convert(LightGCNConverter(source, "toy"))


def test_the_commands_end_as_the_others_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_lines(tmp_path / "raw")
    command = ["lightgcn", "--source", str(source), "--name", "toy", "--dry_run"]
    assert main(command) == 0
    assert "test          4" in capsys.readouterr().out
    assert main([*command, "--split", "time"]) == 2
    assert "--split time: expected none" in capsys.readouterr().err
    assert main([*command, "--valid_ratio", "1"]) == 2
    assert "--valid_ratio: expected between 0 and 1, found 1.0" in capsys.readouterr().err
