"""What cells may hold: read as it is meant, said in the report, or refused."""

from __future__ import annotations

import decimal
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dataset_converters.amazon import AmazonConverter
from dataset_converters.item_inputs import ItemInputs
from dataset_converters.preparation import Preparation
from dataset_converters.tabular import TabularConverter
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import read_item_lines
from recbole_margo.store.tables import json_lines
from recbole_margo.store.tables.json_lines import array_records
from recbole_margo.store.tables.table_file import whole_characters

SECOND = 1_700_000_000


def rows(**columns: object) -> pd.DataFrame:
    table = pd.DataFrame(
        [(f"u{user}", f"i{item}", 3.0, SECOND + item) for user in range(8) for item in range(6)],
        columns=["user", "item", "rating", "timestamp"],
    )
    return table.assign(**columns)


def notes_of(path: Path, **options: object) -> str:
    return "\n".join(TabularConverter(path, "values", **options).preview().notes)  # type: ignore


def ids_in(folder: Path, column: str) -> set[str]:
    parts = [
        pd.read_csv(folder / f"values.{part}.inter", sep="\t", dtype=str)
        for part in ("train", "valid", "test")
    ]
    return set(pd.concat(parts)[column])


def test_times_of_several_units_are_said_with_their_counts(tmp_path: Path) -> None:
    table = rows()
    table.loc[:4, "timestamp"] *= 1000
    table.to_csv(tmp_path / "rows.csv", index=False)
    assert "43 like seconds, 5 like milliseconds" in notes_of(tmp_path / "rows.csv")
    rows().to_csv(tmp_path / "rows.csv", index=False)
    assert "units" not in notes_of(tmp_path / "rows.csv")


def test_missing_ratings_are_said(tmp_path: Path) -> None:
    table = rows()
    table.loc[:2, "rating"] = np.nan
    table.to_csv(tmp_path / "rows.csv", index=False, na_rep="NaN")
    assert "3 interactions have no rating" in notes_of(tmp_path / "rows.csv")


@pytest.mark.parametrize("column", ["rating", "timestamp"])
@pytest.mark.parametrize("value", ["inf", "-Infinity", "1e400", "1e39"])
@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_infinity_is_refused(tmp_path: Path, column: str, value: str, kind: str) -> None:
    if (column, value) == ("timestamp", "1e39"):
        return
    path = tmp_path / f"rows.{kind}"
    table = rows().astype({column: object})
    table.loc[7, column] = value if kind == "csv" else float(value)
    if kind == "csv":
        table.to_csv(path, index=False)
    elif kind == "json":
        lines = [json.dumps(row) for row in table.to_dict("records")]
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        pytest.importorskip("pyarrow")
        table.astype({column: float}).to_parquet(path)
    with pytest.raises(DataError, match=f"column '{column}', (line|row) [789]: expected a number"):
        notes_of(path)


def test_ids_that_a_fraction_tells_apart_are_said_to_be_one(tmp_path: Path) -> None:
    items = [str(item) if user else f"{item}.0" for user in range(8) for item in range(6)]
    rows(item=items).to_csv(tmp_path / "rows.csv", index=False)
    said = notes_of(tmp_path / "rows.csv")
    assert "6 ids of item_id are written with a fraction of zero, such as 0.0" in said
    assert "6 of them are the same as another id" in said


def parquet(folder: Path, table: pd.DataFrame, **types: object) -> Path:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as files

    made = arrow.Table.from_pandas(table, preserve_index=False)
    for column, kind in types.items():
        place = made.column_names.index(column)
        made = made.set_column(place, column, made[column].cast(kind))
    files.write_table(made, folder / "rows.parquet")
    return folder / "rows.parquet"


@pytest.mark.parametrize("kind", ["binary", "large_binary", "dictionary", "fixed", "large_string"])
def test_bytes_and_dictionaries_of_parquet_are_text(tmp_path: Path, kind: str) -> None:
    arrow = pytest.importorskip("pyarrow")
    types = {
        "binary": arrow.binary(),
        "large_binary": arrow.large_binary(),
        "dictionary": arrow.dictionary(arrow.int8(), arrow.string()),
        "fixed": arrow.binary(2),
        "large_string": arrow.large_string(),
    }
    table = rows()
    if kind == "fixed":
        table = table.assign(user=[user.encode() for user in table["user"]])
    path = parquet(tmp_path, table[["rating", "item", "user", "timestamp"]], user=types[kind])
    TabularConverter(path, "values").run(tmp_path / "out")
    assert ids_in(tmp_path / "out" / "values", "user_id:token") == {f"u{n}" for n in range(8)}


@pytest.mark.parametrize("column", ["user", "item"])
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, column: str) -> None:
    table = rows(**{column: [b"\xff\xfe%d" % (row % 6) for row in range(48)]})
    with pytest.raises(DataError, match=f"column '{column}': expected text, found bytes"):
        notes_of(parquet(tmp_path, table))


def test_numbers_of_parquet_are_numbers(tmp_path: Path) -> None:
    table = rows(
        user=[float(row // 6) for row in range(48)],
        item=[decimal.Decimal(row % 6) for row in range(48)],
        rating=[decimal.Decimal("3.5")] * 48,
        timestamp=pd.to_datetime(SECOND, unit="s").date(),
    )
    TabularConverter(parquet(tmp_path, table), "values").run(tmp_path / "out")
    folder = tmp_path / "out" / "values"
    assert ids_in(folder, "user_id:token") == {str(n) for n in range(8)}
    assert ids_in(folder, "item_id:token") == {str(n) for n in range(6)}
    assert ids_in(folder, "rating:float") == {"3.5"}
    assert ids_in(folder, "timestamp:float") == {str(SECOND // 86400 * 86400)}


@pytest.mark.parametrize(
    "wrong", [[True] * 24 + [False] * 24, [2.0**60 + row for row in range(48)], [[1]] * 48]
)
def test_what_cannot_be_an_id_is_refused(tmp_path: Path, wrong: list[object]) -> None:
    with pytest.raises(DataError, match="column 'user', row 0: expected"):
        notes_of(parquet(tmp_path, rows(user=wrong)))


def reviews() -> list[dict[str, object]]:
    return [
        {"user_id": f"A{user}", "parent_asin": f"B{item:09d}", "rating": 5.0,
         "timestamp": 1000 * SECOND + item, "verified": True}
        for user in range(8) for item in range(6)
    ]  # fmt: skip


def metadata() -> list[dict[str, object]]:
    return [
        {"parent_asin": f"B{item:09d}", "title": f"wool toy {item}", "store": None}
        for item in range(6)
    ]


def convert_amazon(folder: Path, of_reviews: str, of_items: str) -> dict[str, str]:
    (folder / "raw").mkdir(exist_ok=True)
    (folder / "raw" / "reviews.jsonl").write_text(of_reviews, encoding="utf-8")
    (folder / "raw" / "meta_x.jsonl").write_text(of_items, encoding="utf-8")
    kept = Preparation(repeats="all", k_core=2)
    inputs = ItemInputs(text_features=False)
    AmazonConverter(folder / "raw", "values", kept, inputs).run(folder / "out", overwrite=True)
    return read_item_lines(folder / "out" / "values", "values", "texts")


def as_lines(records: list[dict[str, object]]) -> str:
    return "\n".join(json.dumps(record) for record in records)


FORMS = {
    "lines": as_lines,
    "array": json.dumps,
    "printed array": lambda records: json.dumps(records, indent=2),
    "literals": lambda records: "\n".join(map(repr, records)),
    "literals with a space": lambda records: "\n".join("{ " + repr(r)[1:] for r in records),
    "literals with null": lambda records: "\n".join(
        repr(record).replace("None", "null").replace("True", "true") for record in records
    ),
    "early name of the time": lambda records: as_lines(records).replace("timest", "sort_timest"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_amazon_records_is_read(tmp_path: Path, form: str) -> None:
    texts = convert_amazon(tmp_path, FORMS[form](reviews()), FORMS[form](metadata()))
    assert texts == {f"B{item:09d}": f"wool toy {item}" for item in range(6)}


@pytest.mark.parametrize("form", ["literals", "literals with a space", "printed array"])
def test_every_form_of_records_is_a_table(tmp_path: Path, form: str) -> None:
    (tmp_path / "rows.json").write_text(FORMS[form](reviews()), encoding="utf-8")
    report = TabularConverter(tmp_path / "rows.json", "values").preview()
    assert (report.rows_read, report.users, report.items) == (48, 8, 6)


def test_half_an_emoji_in_a_text_is_replaced(tmp_path: Path) -> None:
    broken = as_lines(metadata()).replace("wool", "wool \\ud83d").replace("toy 1", "\\ud83d\\ude00")
    texts = convert_amazon(tmp_path, as_lines(reviews()), broken)
    assert texts["B000000000"] == "wool \ufffd toy 0"
    assert texts["B000000001"] == "wool \ufffd \U0001f600"
    assert whole_characters("\ud83d\ude00 \ude00") == "\U0001f600 \ufffd"


def test_half_an_emoji_in_an_id_is_refused(tmp_path: Path) -> None:
    lines = as_lines(reviews()).replace('"A3"', '"A3\\ud83d"')
    (tmp_path / "rows.jsonl").write_text(lines, encoding="utf-8")
    with pytest.raises(DataError, match="column 'user_id', line 19: expected an id of whole"):
        notes_of(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="line 19: expected a user"):
        convert_amazon(tmp_path, lines, as_lines(metadata()))
    lines = as_lines(reviews()).replace("B000000003", "B00000003\\ud83d")
    with pytest.raises(DataError, match="line 4: expected an item"):
        convert_amazon(tmp_path, lines, as_lines(metadata()))


@pytest.mark.parametrize(("rating", "kept"), [("NaN", True), ("Infinity", False), ("1e39", False)])
def test_ratings_of_reviews_are_finite(tmp_path: Path, rating: str, kept: bool) -> None:
    (tmp_path / "reviews.jsonl").write_text(
        as_lines(reviews()).replace("5.0", rating, 1), encoding="utf-8"
    )
    converter = AmazonConverter(tmp_path, "values", Preparation(repeats="all", k_core=2))
    if not kept:
        with pytest.raises(DataError, match="'rating', line 1: expected a number"):
            converter.preview()
    else:
        assert converter.preview().dropped == {"no user, item, rating or time": 1}


def test_an_array_is_read_an_element_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "array.json"
    content = b' [ {"a": "[1, ]"}, [2], 345,\n"\\u00e9", {}, null ] '
    for size in (1, 2, 5, 1000):
        monkeypatch.setattr(json_lines, "BUFFER_BYTES", size)
        path.write_bytes(content)
        with path.open("rb") as stream:
            found = [value for _, value in array_records(stream, path)]
        assert found == json.loads(content)
        path.write_bytes(content[:-9])
        with path.open("rb") as stream, pytest.raises(DataError, match="an array that ends with"):
            list(array_records(stream, path))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"seed": -1}, "--seed"),
        ({"k_core": 0}, "--k_core"),
        ({"min_rating": float("nan")}, "--min_rating"),
        ({"min_rating": float("inf")}, "--min_rating"),
    ],
)
def test_what_no_data_could_satisfy_is_refused_at_once(
    options: dict[str, float], named: str
) -> None:
    with pytest.raises(DataError, match=f"{named}: expected"):
        Preparation(**options)  # type: ignore[arg-type]
