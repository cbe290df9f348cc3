"""What lies beside MMRec's files: original ids, texts, addresses; and rows without content."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mmrec_source import ITEM_COUNT, write_source

from dataset_converters.base import ConversionReport
from dataset_converters.mmrec import MMRecConverter
from dataset_converters.numbered_items import ItemTables, repeated_rows
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import read_item_lines

ASINS = {"0": "B0A", "1": "B0B", "2": "B0C", "4": "0004"}
MAPPING = "asin\titemID\n0004\t4\nB0C\t2\nB0A\t0\nB0B\t1\nB0D\t3\n"
# Item 2 has neither title nor description, and item 3 no interaction.
META = (
    "asin,title,price,description\n"
    'B0A,Baby&#39;s bib,3,"Soft, ""washable""\nand\tblue"\n'
    "B0D,Nobody's cup,1,never\n"
    "B0C,,2,\n"
    "0004,Car seat,99,\n"
)
URLS = (
    "asin,imUrl\nB0A,http://img.example/a.jpg\nB0B,\"['https://img.example/b,1.jpg', 'http://x/y']\""
    "\n0004,none\n"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "raw")


def convert(source: Path, **options: object) -> tuple[Path, ConversionReport]:
    output = source.parent / "dataset"
    converter = MMRecConverter(source, "toy", **options)  # type: ignore[arg-type]
    return output / "toy", converter.run(output)[0]


def test_titles_and_addresses_reach_the_dataset(source: Path) -> None:
    (source / "i_id_mapping.csv").write_text(MAPPING)
    (source / "u_id_mapping.csv").write_text("user_id\tuserID\nA7X\t7\nA0X\t0\n")
    (source / "meta-toy.csv").write_text(META)
    (source / "toy_url.csv").write_text(URLS)
    folder, report = convert(source)

    assert read_item_lines(folder, "toy", "texts") == {
        "0": 'Baby\'s bib Soft, "washable"\nand\tblue',
        "4": "Car seat",
    }
    assert read_item_lines(folder, "toy", "images") == {
        "0": "http://img.example/a.jpg",
        "1": "https://img.example/b,1.jpg",
    }
    assert (folder / "toy.item").read_text().splitlines() == [
        "item_id:token\toriginal_id:token\ttitle:token_seq\tdescription:token_seq",
        '0\tB0A\tBaby\'s bib\t"Soft, ""washable"" and blue"',
        "1\tB0B\t\t",
        "2\tB0C\t\t",
        "4\t0004\tCar seat\t",
    ]
    assert (folder / "toy.user").read_text() == (
        "user_id:token\toriginal_id:token\n0\tA0X\n7\tA7X\n"
    )
    assert report.notes[:-1] == (
        "u_id_mapping.csv: column userID has the numbers, user_id the original ids",
        "i_id_mapping.csv: column itemID has the numbers, asin the original ids",
        "1 items of meta-toy.csv have no interaction; left out",
        "meta-toy.csv: guessed --item_id asin --text_columns title,description",
        "meta-toy.csv: 2 of 4 items have a text",
        "toy_url.csv: items asin, addresses imUrl; 2 of 4 items have an address of an image",
    )


def test_metadata_may_be_amazon_s_own_or_have_the_numbers(source: Path) -> None:
    (source / "meta_Toy.json").write_text(
        "{'asin': 'B0A', 'title': 'Bib', 'imUrl': 'http://i/a'}\n"
    )
    message = r"meta_Toy\.json, column 'asin': .*ids such as 'B0A', and no i_id_mapping\.csv"
    with pytest.raises(DataError, match=message):
        convert(source)
    (source / "i_id_mapping.csv").write_text(MAPPING)
    folder, _ = convert(source)
    assert read_item_lines(folder, "toy", "texts") == {"0": "Bib"}
    assert read_item_lines(folder, "toy", "images") == {"0": "http://i/a"}

    (source / "meta_Toy.json").unlink()
    (source / "i_id_mapping.csv").unlink()
    rows = [{"itemID": 1, "asin": "B0B", "title": "Cup"}, {"itemID": 9, "asin": "B0", "title": "x"}]
    (source / "texts.json").write_text("\n".join(map(json.dumps, rows)))
    converter = MMRecConverter(source, "named", tables=ItemTables(source / "texts.json"))
    converter.run(source.parent / "dataset")
    named = source.parent / "dataset" / "named"
    assert read_item_lines(named, "named", "texts") == {"1": "Cup"}
    assert (named / "named.item").read_text() == "item_id:token\ttitle:token_seq\n1\tCup\n"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("i_id_mapping.csv", "asin\titemID\nB0A\t0\nB0B\t1\n", r"each of the 4 .* found 2 missing"),
        (
            "i_id_mapping.csv",
            MAPPING + "B0X\t1\n",
            r"once; found 0 missing, .*and 1 repeated in 'itemID'",
        ),
        ("i_id_mapping.csv", "itemID\n0\n", r"at least two columns"),
        (
            "u_id_mapping.csv",
            "user_id\tuserID\nA\t0\n",
            r"u_id_mapping\.csv: .*such as 7, .*Take",
        ),
        ("meta-toy.csv", "x,y\n1,2\n", r"meta-toy\.csv: expected a column of item ids"),
        ("meta-toy.csv", "itemID,price\n1,2\n", r"expected columns of text.* --text_columns"),
        ("meta-toy.csv", "itemID,title\n70,Bib\n", r"meta-toy\.csv: expected ids of items .*'70'"),
        (
            "toy_url.csv",
            "itemID,place\n1,http://a/b\n",
            r"toy_url\.csv: expected a column url of addr",
        ),
    ],
)
def test_files_beside_of_another_form_are_refused(
    source: Path, file: str, content: str, message: str
) -> None:
    (source / file).write_text(content)
    with pytest.raises(DataError, match=message):
        convert(source)


def test_two_tables_of_metadata_ask_for_one(source: Path) -> None:
    (source / "meta-toy.csv").write_text("itemID,title\n1,Bib\n")
    (source / "toy_meta.csv").write_text("itemID,title\n1,Cup\n")
    with pytest.raises(DataError, match=r"meta-toy\.csv, toy_meta\.csv\. Name one with --metadata"):
        convert(source)
    folder, _ = convert(source, tables=ItemTables(source / "toy_meta.csv"))
    assert read_item_lines(folder, "toy", "texts") == {"1": "Cup"}


def with_mean_rows(count: int, columns: int = 6, scaled: bool = False) -> np.ndarray:
    """Return [40, 6]; the first `count` rows are the mean of the others, the next two are equal."""
    matrix = np.random.default_rng(5).normal(1, 1, size=(40, columns)).astype("float32")
    matrix[count + 1] = matrix[count]
    matrix[:count] = matrix[count:].mean(axis=0)
    if scaled:
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
        others = matrix[count:].mean(axis=0)
        matrix[:count] = others / np.linalg.norm(others)
    return matrix


@pytest.mark.parametrize("scaled", [False, True])
def test_rows_of_the_mean_are_found(scaled: bool) -> None:
    groups, fillers = repeated_rows(with_mean_rows(3, scaled=scaled))
    assert [group.tolist() for group in groups] == [[0, 1, 2], [3, 4]]
    assert [group.tolist() for group in fillers] == [[0, 1, 2]]


def test_rows_that_many_share_are_found_and_zeros_are_not() -> None:
    matrix = np.random.default_rng(6).normal(size=(40, 6)).astype("float16")
    matrix[5:14] = matrix[20]  # ten with it
    matrix[30:] = 0
    groups, fillers = repeated_rows(matrix)
    assert [group.tolist() for group in groups] == [[*range(5, 14), 20]]
    assert [group.tolist() for group in fillers] == [[*range(5, 14), 20]]
    matrix[20, 0] += 1  # nine of forty are no filler
    groups, fillers = repeated_rows(matrix)
    assert [group.tolist() for group in groups] == [list(range(5, 14))]
    assert fillers == []


def test_repeated_rows_are_content_or_missing_as_one_says(source: Path) -> None:
    matrix = np.random.default_rng(8).normal(size=(ITEM_COUNT, 6))
    matrix[[1, 3]] = matrix[[0, 2, 4]].mean(axis=0)
    np.save(source / "image_feat.npy", matrix)

    folder, report = convert(source)
    assert report.modalities["image"] == (6, 0)
    assert report.notes[0] == (
        "image_feat.npy: 2 rows equal others; 2 stand for no content (the mean of the other rows, "
        "or one row of 10 items or more), kept, --repeated_rows=missing leaves them out"
    )
    assert len(np.load(folder / "toy.image.npy")) == ITEM_COUNT

    output = source.parent / "missing"
    report, _ = MMRecConverter(source, "toy", repeated_rows="missing").run(output)
    assert report.modalities["image"] == (6, 1)  # item 3 has no interaction
    assert "10 items or more), left out" in report.notes[0]
    assert report.notes[1] == "text_feat.npy: no row equals another"
    assert (output / "toy" / "toy.image.tokens").read_text().split() == ["0", "2", "4"]
    np.testing.assert_array_equal(
        np.load(output / "toy" / "toy.image.npy"), matrix[[0, 2, 4]].astype("float32")
    )


def test_the_mean_rows_of_the_fitted_files_are_found(shared_data: Path) -> None:
    for modality, count in (("image", 63), ("text", 13)):
        groups, fillers = repeated_rows(
            np.load(shared_data / "baby_fitted" / f"{modality}_feat.npy")
        )
        assert [len(group) for group in groups] == [len(group) for group in fillers] == [count]
    groups, fillers = repeated_rows(np.load(shared_data / "baby_fitted" / "minilm_feat.npy"))
    assert ([len(group) for group in groups], fillers) == ([2, 2], [])
