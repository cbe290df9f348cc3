from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset_converters.__main__ import main
from dataset_converters.amazon import DIMENSION, AmazonConverter
from dataset_converters.preparation import Preparation
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import read_item_lines
from recbole_margo.store.feature_files import open_matrix

ASINS = [f"B{number:09d}" for number in range(8)]
ROWS = [
    (f"A{user:013d}", ASINS[item], float(1 + (user + item) % 5), 1_300_000_000 + 86_400 * user)
    for user in range(10)
    for item in range(8)
    if (user + item) % 4
]
# What the 5-core must remove: a user with one review, and with it a product.
ROWS.append(("A9999999999999", "B999999999", 5.0, 1_300_000_000))


def write_json_lines(path: Path, records: list[dict[str, object]]) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in records).encode()))


def write_2014(folder: Path) -> None:
    records = [
        {
            "reviewerID": user,
            "asin": item,
            "reviewerName": 'J. "Q"',
            "helpful": [0, 0],
            "reviewText": "fine\tand\ngood",
            "overall": rating,
            "unixReviewTime": time,
        }
        for user, item, rating, time in ROWS
    ]
    write_json_lines(folder / "reviews_Toys.json.gz", records)
    products = [
        {
            "asin": item,
            "title": f"Tom&#39;s &quot;toy&quot; {number}",
            "price": 1.5,
            "brand": "O'Neil &amp; Co",
            "categories": [["Toys", "Puzzles"], ["Games"]],
            "description": "a\n  soft toy",
            "related": {"also_bought": [ASINS[0]]},
        }
        for number, item in enumerate(ASINS[:7])
    ]
    text = "".join(f"{product!r}\n" for product in products)
    # Not wanted, so it is not even parsed: of a file of millions, few lines are.
    text += "{'asin': 'B888888888', 'title': __import__('os').abort()}\n"
    (folder / "meta_Toys.json.gz").write_bytes(gzip.compress(text.encode()))


def write_2018(folder: Path) -> None:
    records = [
        {"overall": rating, "reviewerID": user, "asin": item, "unixReviewTime": time, "style": {}}
        for user, item, rating, time in ROWS
    ]
    write_json_lines(folder / "Toys.json.gz", records)
    products: list[dict[str, object]] = [
        {
            "category": ["Toys", "Puzzles"],
            "description": ["a", "soft toy"],
            "title": f"Tom&#39;s &quot;toy&quot; {number}",
            "brand": "O'Neil &amp; Co",
            "asin": item,
        }
        for number, item in enumerate(ASINS[:7])
    ]
    again = {**products[0], "title": "a later line"}
    script = {"asin": ASINS[7], "title": "var aPageStart = (new Date()).getTime();"}
    write_json_lines(folder / "meta_Toys.json.gz", [*products, again, script])


def write_2023(folder: Path) -> None:
    records = [
        {"rating": rating, "user_id": user, "parent_asin": item, "asin": "X", "timestamp": time}
        for user, item, rating, time in ROWS
    ]
    write_json_lines(folder / "Toys.jsonl.gz", records)
    products = [
        {
            "main_category": "Toys",
            "title": f'Tom\'s "toy" {number}',
            "categories": ["Toys", "Puzzles"],
            "description": ["a", "soft toy"],
            "store": "O'Neil & Co",
            "parent_asin": item,
        }
        for number, item in enumerate(ASINS[:7])
    ]
    write_json_lines(folder / "meta_Toys.jsonl.gz", products)


def write_ratings_2014(folder: Path) -> None:
    lines = [f"{user},{item},{rating},{time}\n" for user, item, rating, time in ROWS]
    (folder / "ratings_Toys.csv").write_text("".join(lines), encoding="utf-8")


def write_ratings_2018(folder: Path) -> None:
    lines = [f"{item},{user},{rating},{time}\n" for user, item, rating, time in ROWS]
    (folder / "Toys.csv").write_text("".join(lines), encoding="utf-8")


def write_ratings_2023(folder: Path) -> None:
    columns = ["user_id", "parent_asin", "rating", "timestamp"]
    pd.DataFrame(ROWS, columns=columns).to_csv(folder / "Toys.csv.gz", index=False)


def write_images(path: Path, items: list[str]) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(len(items), DIMENSION)).astype("<f4")
    records = (item.encode() + row.tobytes() for item, row in zip(items, vectors, strict=True))
    path.write_bytes(b"".join(records))
    return vectors


def written(folder: Path) -> pd.DataFrame:
    parts = [pd.read_csv(folder / f"toys.{s}.inter", sep="\t") for s in ("train", "valid", "test")]
    return pd.concat(parts, keys=("train", "valid", "test"), names=["split"]).reset_index("split")


WITH_TEXTS = (write_2014, write_2018, write_2023)
RATINGS_ONLY = (write_ratings_2014, write_ratings_2018, write_ratings_2023)


@pytest.mark.parametrize("write", [*WITH_TEXTS, *RATINGS_ONLY])
def test_every_edition_gives_the_five_core_of_its_reviews(tmp_path: Path, write) -> None:
    write(tmp_path)
    report, _ = AmazonConverter(tmp_path, "toys").run(tmp_path / "out")
    assert report.rows_read == len(ROWS)
    assert report.dropped == {"user or item with fewer than 5 interactions": 1}
    columns = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    found = written(tmp_path / "out" / "toys")[columns]
    assert sorted(map(tuple, found.to_numpy().tolist())) == sorted(ROWS[:-1])
    assert report.rows == {"train": 40, "valid": 10, "test": 10}


@pytest.mark.parametrize("write", WITH_TEXTS)
def test_text_is_title_brand_first_category_and_description(tmp_path: Path, write) -> None:
    write(tmp_path)
    AmazonConverter(tmp_path, "toys").run(tmp_path / "out")
    texts = read_item_lines(tmp_path / "out" / "toys", "toys", "texts")
    assert texts == {
        item: f"Tom's \"toy\" {number} O'Neil & Co Toys Puzzles a soft toy"
        for number, item in enumerate(ASINS[:7])
    }
    assert list(texts) == [item for item in dict.fromkeys(row[1] for row in ROWS) if item in texts]


def test_items_without_an_image_miss_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_2014(tmp_path)
    items = [ASINS[3], "B777777777", ASINS[0], ASINS[6]]
    vectors = write_images(tmp_path / "image_features_Toys.b", items)
    options = ["--source", str(tmp_path), "--name", "toys", "--output", str(tmp_path / "out")]
    assert main(["amazon", *options]) == 0
    assert "image         4,096 columns, 5 items miss it" in capsys.readouterr().out
    folder = tmp_path / "out" / "toys"
    tokens = (folder / "toys.image.tokens").read_text(encoding="utf-8").split()
    assert tokens == [ASINS[3], ASINS[0], ASINS[6]]
    np.testing.assert_array_equal(open_matrix(folder / "toys.image.npy"), vectors[[0, 2, 3]])
    assert not list(folder.glob("*rows*"))


def test_exact_repeats_are_dropped_and_later_ratings_are_kept(tmp_path: Path) -> None:
    write_ratings_2014(tmp_path)
    user, item, rating, time = ROWS[0]
    with (tmp_path / "ratings_Toys.csv").open("a", encoding="utf-8") as file:
        file.write(f"{user},{item},1.0,{time}\n{user},{item},{rating},{time + 1}\n,{item},5.0,1\n")
    report, _ = AmazonConverter(tmp_path, "toys").run(tmp_path / "out")
    assert report.dropped["repeats a user and item and time"] == 1
    assert report.dropped["no user, item, rating or time"] == 1
    found = written(tmp_path / "out" / "toys")
    own = found[(found["user_id:token"] == user) & (found["item_id:token"] == item)]
    # The first of the exact repeats is the one that is kept.
    assert sorted(own["rating:float"]) == [rating, rating]
    assert sorted(own["timestamp:float"]) == [time, time + 1]


@pytest.mark.parametrize("line", ["'", "u1,i1,5", "u1\ti1\t5\t1"])
def test_lines_of_too_few_fields_are_no_ratings(tmp_path: Path, line: str) -> None:
    write_ratings_2014(tmp_path)
    (tmp_path / "ratings_Toys.csv").write_text(f"{line}\n" * 9, encoding="utf-8")
    with pytest.raises(DataError, match=r"at least two columns|or ratings as user, item"):
        AmazonConverter(tmp_path, "toys").preview()


def test_users_are_found_again_across_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ratings_2014(tmp_path)
    AmazonConverter(tmp_path, "toys").run(tmp_path / "whole")
    monkeypatch.setattr("recbole_margo.store.tables.delimited.BLOCK_BYTES", 200)
    AmazonConverter(tmp_path, "toys").run(tmp_path / "pieces")
    pd.testing.assert_frame_equal(
        written(tmp_path / "pieces" / "toys"), written(tmp_path / "whole" / "toys")
    )


def test_other_filters_and_splits_can_be_chosen(tmp_path: Path) -> None:
    write_2018(tmp_path)
    preparation = Preparation(min_rating=2, k_core=2, split="leave-one-out")
    report, _ = AmazonConverter(tmp_path, "toys", preparation).run(tmp_path / "out")
    assert report.dropped["rating below 2, or none"] == sum(row[2] < 2 for row in ROWS)
    assert report.rows["valid"] == report.rows["test"] == report.users == 10


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("reviews_Toys.json.gz", None, "--reviews"),
        ("more.json", b"{}", "expected one file of reviews"),
        ("meta_more.json", b"{}", "--metadata"),
        ("reviews_Toys.json.gz", b"", "empty file"),
        ("reviews_Toys.json.gz", b"\n", "a file without text"),
        ("reviews_Toys.json.gz", gzip.compress(b"{}" * 900)[:-9], "cut short"),
        ("reviews_Toys.json.gz", b'{"asin": "B"}\n{"asin"\n', "line 2: expected JSON"),
        ("reviews_Toys.json.gz", b'{"title": "B"}\n', "expected the fields of a review"),
        ("reviews_Toys.json.gz", b'{"asin": 7, "reviewerID": "A", "overall": 5, '
         b'"unixReviewTime": 1}\n', "line 1: expected an item, an id"),
        ("reviews_Toys.json.gz", b'{"asin": "B", "reviewerID": "A", "overall": "good", '
         b'"unixReviewTime": 1}\n', "'overall', line 1: expected a number, found 'good'"),
        ("reviews_Toys.json.gz", b'{"asin": "B", "reviewerID": "A", "overall": 5, '
         b'"unixReviewTime": 1.5}\n', "line 1: expected a time in whole seconds"),
        ("reviews_Toys.json.gz", b'{"asin": ["B"], "reviewerID": "A", "overall": 5, '
         b'"unixReviewTime": 1}\n', "line 1: expected a single value"),
        ("reviews_Toys.json.gz", b"A,B,5.0,1\nA,B,5.0\n", "fewer than 4 fields, first in line 2"),
        ("reviews_Toys.json.gz", b"A,B,5.0,1\nA,caf\xe9,5.0,1\n", "line 2: expected UTF-8"),
        ("meta_Toys.json.gz", b"{'asin': '" + ASINS[0].encode() + b"', 'title': open('x')}\n",
         "line 1: expected a Python dict of plain values"),
        ("meta_Toys.json.gz", b"{'asin': '" + ASINS[0].encode() + b"', " + b"[" * 5000 + b"\n",
         "line 1: expected a Python dict of plain values"),
        ("meta_Toys.json.gz", b'{"title": "no product"}\n', "expected the field asin"),
        ("meta_Toys.json.gz", b'{"asin": "B777777777"}\n', "none in common"),
        ("image_features_Toys.b", ASINS[0].encode() + b"\0" * 16_383, "record 1 (byte 0)"),
        ("image_features_Toys.b", b"\0" * 16_394, "record 1 (byte 0)"),
        ("image_features_Toys.b", b"B777777777" + b"\0" * 16_384, "none in common"),
    ],
)  # fmt: skip
def test_damaged_files_are_named(
    tmp_path: Path, file: str, content: bytes | None, expected: str
) -> None:
    write_2014(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError) as caught:
        AmazonConverter(tmp_path, "toys").run(tmp_path / "out")
    assert expected in str(caught.value)
    assert not (tmp_path / "out" / "toys").exists()


PIECES = st.sampled_from([b"{", b"'", b'"', b",", b"\n", b"\xff", b"null", b"[" * 99, b"\0", b" "])


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(["reviews_Toys.json.gz", "meta_Toys.json.gz"]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), PIECES), max_size=4),
    st.booleans(),
)
def test_damaged_lines_are_read_or_refused(tmp_path: Path, file: str, damage, compressed) -> None:
    write_2014(tmp_path)
    content = bytearray(gzip.decompress((tmp_path / file).read_bytes()))
    for place, length, piece in damage:
        start = int(place * len(content))
        content[start : start + length] = piece
    (tmp_path / file).write_bytes(gzip.compress(content) if compressed else content)
    try:
        AmazonConverter(tmp_path, "toys").preview()
    except DataError as error:
        assert str(tmp_path) in str(error)
