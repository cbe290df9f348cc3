from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dataset_converters.__main__ import main
from dataset_converters.interactions import Columns
from dataset_converters.item_inputs import ItemInputs
from dataset_converters.preparation import Preparation
from dataset_converters.tabular import TabularConverter
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import read_item_lines
from recbole_margo.store.feature_files import open_matrix
from recbole_margo.store.tables import json_lines
from recbole_margo.store.tables.table_file import MISSING
from recbole_margo.studies.audit.item_contents import ItemContents

ITEMS = [f"P-{number:02d} ü" for number in range(12)]
TOPICS = ("red wool scarf", "steel kitchen knife", "garden rose")


def clicks() -> pd.DataFrame:
    """Every one of 30 customers has bought the items of one topic."""
    rows = [
        (f"c{customer}", ITEMS[item], 1 + (customer + item) % 5, 1_700_000_000 + 60 * row)
        for row, (customer, item) in enumerate(
            (customer, item) for customer in range(30) for item in range(customer % 3, 12, 3)
        )
    ]
    return pd.DataFrame(rows, columns=["customer_id", "sku", "stars", "created_at"])


def products() -> pd.DataFrame:
    titles = [f"{TOPICS[number % 3]} {number}" for number in range(12)]
    details = ['5" "wide"\tand\nlong\\', *["plain"] * 10, None]
    return pd.DataFrame({"sku": ITEMS, "title": titles, "description": details, "price": 1.5})


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    clicks().to_csv(tmp_path / "clicks.csv", index=False)
    products().to_csv(tmp_path / "products.csv", index=False)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    for item in ITEMS[:5]:
        (tmp_path / "photos" / f"{item}.jpg").write_bytes(b"image")
    (tmp_path / "photos" / "more" / f"{ITEMS[5]}.PNG").write_bytes(b"image")
    (tmp_path / "photos" / "stranger.png").write_bytes(b"image")
    return tmp_path


def written(folder: Path, name: str = "shop") -> pd.DataFrame:
    parts = [
        pd.read_csv(folder / f"{name}.{split}.inter", sep="\t").assign(split=split)
        for split in ("train", "valid", "test")
    ]
    return pd.concat(parts, ignore_index=True)


def test_one_command_makes_a_dataset_of_tables_and_images(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    command = "tabular --source clicks.csv --items products.csv --images photos --name shop"
    assert main(command.split()) == 0
    report = capsys.readouterr().out
    for line in (
        "clicks.csv: separator comma, UTF-8, first line names the columns",
        "guessed --user customer_id --item sku --rating stars --timestamp created_at",
        "guessed --item_id sku --text_columns title,description",
        "6 of 12 items have an image",
        "1 images belong to no item",
        "12 of 12 items have a text",
        "0 items miss it",
    ):
        assert line in report

    folder = shop / "dataset" / "shop"
    table = written(folder)
    original = clicks().set_axis(
        ["user_id:token", "item_id:token", "rating:float", "timestamp:float"], axis=1
    )
    columns = list(original.columns)
    both = (frame.sort_values(columns).reset_index(drop=True) for frame in (table, original))
    pd.testing.assert_frame_equal(*(frame[columns] for frame in both), check_dtype=False)

    texts = read_item_lines(folder, "shop", "texts")
    assert texts[ITEMS[0]] == 'red wool scarf 0 5" "wide"\tand\nlong\\'
    assert texts[ITEMS[11]] == "garden rose 11"
    images = read_item_lines(folder, "shop", "images")
    assert images[ITEMS[5]] == str(shop / "photos" / "more" / f"{ITEMS[5]}.PNG")
    assert main(command.split()) == 0
    assert "holds this already" in capsys.readouterr().out


def test_text_features_place_items_of_one_topic_together(shop: Path) -> None:
    converter = TabularConverter(shop / "clicks.csv", "shop", items=shop / "products.csv")
    converter.run(shop / "out")
    folder = shop / "out" / "shop"
    matrix = np.array(open_matrix(folder / "shop.text.npy"))
    tokens = (folder / "shop.text.tokens").read_text(encoding="utf-8").splitlines()
    topic = np.array([ITEMS.index(token) % 3 for token in tokens])
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    similarity = unit @ unit.T
    same = topic[:, None] == topic[None, :]
    assert similarity[same].min() > similarity[~same].max()


def test_a_dry_run_reports_and_writes_nothing(
    shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    before = sorted(shop.rglob("*"))
    assert main(["tabular", "--source", "clicks.csv", "--name", "shop", "--dry_run"]) == 0
    output = capsys.readouterr().out
    assert "rows read     120" in output
    assert "nothing written" in output
    assert "no features yet" in output
    assert sorted(shop.rglob("*")) == before


def as_csv_of_excel(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, sep=";", index=False, encoding="utf-8-sig", lineterminator="\r\n")


def as_headerless_gzip(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, sep="\t", index=False, header=False, compression="gzip")


def as_json_lines(table: pd.DataFrame, path: Path) -> None:
    table.to_json(path, orient="records", lines=True)


def as_json_array(table: pd.DataFrame, path: Path) -> None:
    table.to_json(path, orient="records")


def as_double_colons(table: pd.DataFrame, path: Path) -> None:
    lines = [list(table.columns), *table.astype(str).to_numpy().tolist()]
    path.write_text("\n".join("::".join(line) for line in lines), encoding="utf-8")


def as_utf16(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, sep="\t", encoding="utf-16")


def as_dates(table: pd.DataFrame, path: Path) -> None:
    dates = pd.to_datetime(table["created_at"], unit="s").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    table.assign(created_at=dates).to_csv(path, index=False)


def as_parquet(table: pd.DataFrame, path: Path) -> None:
    pytest.importorskip("pyarrow")
    table.assign(created_at=pd.to_datetime(table["created_at"], unit="s")).to_parquet(path)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (as_csv_of_excel, "clicks.csv"),
        (as_headerless_gzip, "clicks.tsv"),
        (as_json_lines, "clicks.jsonl"),
        (as_json_array, "clicks.json"),
        (as_double_colons, "clicks.dat"),
        (as_utf16, "clicks.txt"),
        (as_dates, "clicks.csv"),
        (as_parquet, "clicks.parquet"),
    ],
)
def test_every_format_gives_the_same_dataset(tmp_path: Path, write, name: str) -> None:
    (tmp_path / "plain").mkdir()
    clicks().to_csv(tmp_path / "plain" / "clicks.csv", index=False)
    TabularConverter(tmp_path / "plain" / "clicks.csv", "shop").run(tmp_path / "expected")
    write(clicks(), tmp_path / name)
    TabularConverter(tmp_path / name, "shop").run(tmp_path / "found")
    pd.testing.assert_frame_equal(
        written(tmp_path / "found" / "shop"), written(tmp_path / "expected" / "shop")
    )


def test_matrices_of_every_form_are_matched_by_item(tmp_path: Path) -> None:
    clicks().to_csv(tmp_path / "clicks.csv", index=False)
    ids = [*reversed(ITEMS[:10]), "stranger"]
    matrix = np.random.default_rng(0).normal(size=(11, 4)).astype(np.float32)
    np.save(tmp_path / "a.npy", matrix.astype(float))
    (tmp_path / "a.ids").write_text("\r\n".join(ids) + "\r\n", encoding="utf-8-sig")
    np.savez(tmp_path / "b.npz", item_ids=np.array(ids), vectors=matrix)
    np.save(tmp_path / "c.npy", matrix)
    np.save(tmp_path / "names.npy", np.array(ids))
    features = {"a": tmp_path / "a.npy", "b": tmp_path / "b.npz", "c": tmp_path / "c.npy"}
    safetensors = pytest.importorskip("safetensors.numpy")
    safetensors.save_file(dict(zip(ids, matrix, strict=True)), tmp_path / "d.safetensors")
    features["d"] = tmp_path / "d.safetensors"
    inputs = ItemInputs(features=features, feature_ids={"c": tmp_path / "names.npy"})
    report, _ = TabularConverter(tmp_path / "clicks.csv", "shop", inputs=inputs).run(tmp_path)
    assert report.modalities == dict.fromkeys("abcd", (4, 2))
    assert "1 rows of a.npy belong to other items" in report.notes
    for modality in "abcd":
        folder = tmp_path / "shop"
        tokens = (folder / f"shop.{modality}.tokens").read_text(encoding="utf-8").splitlines()
        found = open_matrix(folder / f"shop.{modality}.npy")
        expected = matrix[[ids.index(token) for token in tokens]]
        np.testing.assert_array_equal(found, expected)


def test_a_parquet_column_of_vectors_is_a_matrix(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    clicks().to_csv(tmp_path / "clicks.csv", index=False)
    matrix = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    table = pd.DataFrame({"sku": ITEMS, "vector": list(matrix)})
    table.to_parquet(tmp_path / "text.parquet")
    inputs = ItemInputs(features={"text": tmp_path / "text.parquet"})
    TabularConverter(tmp_path / "clicks.csv", "shop", inputs=inputs).run(tmp_path)
    np.testing.assert_array_equal(open_matrix(tmp_path / "shop" / "shop.text.npy"), matrix)


@pytest.mark.parametrize("nested", [[1], {"a": 1}])
def test_nested_item_ids_are_refused(tmp_path: Path, nested: object) -> None:
    clicks().to_csv(tmp_path / "clicks.csv", index=False)
    row = json.dumps({"sku": nested, "title": "a title"})
    (tmp_path / "items.jsonl").write_text(row, encoding="utf-8")
    with pytest.raises(DataError, match="line 1: expected a single value"):
        TabularConverter(tmp_path / "clicks.csv", "s", items=tmp_path / "items.jsonl").preview()


def test_what_is_dropped_is_counted_by_reason(tmp_path: Path) -> None:
    table = clicks()
    extra = pd.DataFrame(
        {
            "customer_id": ["c0", None, "c1", "loner"],
            "sku": [ITEMS[0], ITEMS[1], ITEMS[1], ITEMS[0]],
            "stars": [5, 5, 0, 5],
            "created_at": 1_700_009_999,
        }
    )
    pd.concat([table, extra]).to_csv(tmp_path / "clicks.csv", index=False)
    preparation = Preparation(min_rating=1, k_core=2, repeats="last", split="time")
    converter = TabularConverter(tmp_path / "clicks.csv", "shop", preparation)
    report, _ = converter.run(tmp_path)
    assert report.rows_read == 124
    assert report.dropped == {
        "no user or no item": 1,
        "rating below 1, or none": 1,
        "repeats a user and item": 1,
        "user or item with fewer than 2 interactions": 1,
    }
    table = written(tmp_path / "shop")
    assert len(table) == 120
    # The last of the two rows of c0 and the first item is the one that was kept.
    latest = table[table["timestamp:float"] == 1_700_009_999]
    assert latest[["user_id:token", "split"]].to_numpy().tolist() == [["c0", "test"]]


def test_ids_that_a_spreadsheet_turned_into_floats_meet_whole_ones(tmp_path: Path) -> None:
    table = clicks()
    table["sku"] = table["sku"].map(ITEMS.index).astype(float)
    table["customer_id"] = " " + table["customer_id"] + " "
    table.to_csv(tmp_path / "clicks.csv", index=False)
    items = products().assign(sku=range(12))
    items.to_csv(tmp_path / "products.csv", index=False)
    TabularConverter(tmp_path / "clicks.csv", "shop", items=tmp_path / "products.csv").run(tmp_path)
    folder = tmp_path / "shop"
    assert set(written(folder)["item_id:token"]) == set(range(12))
    assert (folder / "shop.text.tokens").read_text(encoding="utf-8").split()[0] == "0"
    assert set(written(folder)["user_id:token"]) == {f"c{customer}" for customer in range(30)}


def test_recbole_reads_the_item_table(shop: Path) -> None:
    TabularConverter(shop / "clicks.csv", "shop", items=shop / "products.csv").run(shop)
    item_table = pd.read_csv(shop / "shop" / "shop.item", sep="\t", engine="python", index_col=0)
    assert list(item_table.columns) == ["title:token_seq", "description:token_seq"]
    assert item_table.loc[ITEMS[0], "description:token_seq"] == '5" "wide" and long\\'


LINES = clicks().to_csv(index=False).encode().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty file"),
        (b"\n\n", "without text"),
        (gzip.compress(b""), "without text"),
        (gzip.compress(b"".join(LINES))[:-20], "gzip file, found one that is cut short"),
        (LINES[0], "found a header only"),
        (b"just one column\n1\n", "--separator"),
        (b"customer_id,sku,sku\nc1,a,b\n", "2 columns of this name"),
        (b"customer_id,sku\nc1,a\nc2,b,c\n", "line 3"),
        (b"customer_id,sku\nc1,a,b\n", "2 fields in every line"),
        (b"customer_id,sku\nc1,a\nc2,caf\xe9\n", "line 3: expected UTF-8, found the byte 0xe9"),
        (b"customer_id,sku,stars\nc1,a,4\nc2,b,good\n", "'stars', line 3: expected a number"),
        (b"customer_id,sku,created_at\nc1,a,4\nc2,b,5\nc3,b,soon\n", "line 4: expected a number"),
        (
            b"customer_id,sku,time\nc1,a,soon\nc2,b,2024-05-31\n",
            "line 2: expected a number or a date",
        ),
        (b"customer_id,sku\n1.5,a\n2,b\n", "'customer_id': expected ids, found numbers such"),
        (b'customer_id,sku\nc1,"a\nc2,b"\n', "a quote is opened and not closed"),
        (b'customer_id,sku\nc1,"a\nc2,b\n', "2 fields in every line"),
        (b"alpha,beta\nc1,a\n", "found none for --user, --item"),
        (b"customer_id,sku\n,a\nnull,b\n", "2 rows without a user"),
        (b'{"customer_id": "c1", "sku": "a"}\n{"customer_id": "c2"\n', "line 2: expected JSON"),
        (b'{"customer_id": "c1", "sku": ["a"]}\n', "line 1: expected a single value, found ['a']"),
        (b'{"customer_id": "c1", "sku": "a", "stars": {}}\n', "'stars', line 1: expected a single"),
        (b'{"customer_id": "c1", "sku": "a", "time": [1]}\n', "'time', line 1: expected a single"),
        (b'{"customer_id": "c1", "sku": "a"}\n[1]\n', "line 2: expected a JSON object"),
        (b"customer_id,sku\nc1,a\nc1,b\n", "none in valid"),
        (b"PAR1 but no more", "parquet"),
    ],
)
def test_wrong_tables_are_refused_with_file_place_and_remedy(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    path = tmp_path / "clicks.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        TabularConverter(path, "shop").run(tmp_path / "out")
    assert expected in str(caught.value)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--user nobody", "expected one column 'nobody'"),
        ("--user sku --item sku", "for both"),
        ("--item sku --rating sku", "expected a number, found"),
        ("--timestamp created_at --encoding klingon", "--encoding"),
        ("--min_rating 9", "Choose a milder filter"),
        ("--k_core 99", "Choose a milder filter"),
        ("--items missing.csv", "does not exist"),
        ("--items products.csv --item_id title", "none in common"),
        ("--items products.csv --text_columns price,colour", "'colour'"),
        ("--items products.csv --text_dimension 0", "at least 1"),
        ("--images nowhere", "expected a folder"),
        ("--images empty", "expected files named by item"),
        ("--features text", "MODALITY=FILE"),
        ("--feature_ids text=a.ids", "--features text=FILE"),
        ("--features text=lonely.npy", "--feature_ids"),
        ("--features text=pickled.npz", "without pickled objects"),
        ("--features text=clicks.csv", "expected a feature matrix in one of"),
        ("--features text=others.npz", "none in common"),
        ("--features text=short.npz", "12 ids"),
    ],
)
def test_wrong_options_end_in_a_message(
    shop: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: str,
    expected: str,
) -> None:
    monkeypatch.chdir(shop)
    (shop / "empty").mkdir()
    ids, matrix = np.array(ITEMS), np.ones((12, 2), dtype=np.float32)
    np.save(shop / "lonely.npy", matrix)
    np.savez(shop / "pickled.npz", ids=ids.astype(object), vectors=matrix)
    np.savez(shop / "others.npz", ids=np.arange(12), vectors=matrix)
    np.savez(shop / "short.npz", ids=ids, vectors=matrix[:5])
    assert main(["tabular", "--source", "clicks.csv", "--name", "shop", *options.split()]) == 2
    assert expected in capsys.readouterr().err
    assert not list((shop / "dataset").iterdir()) if (shop / "dataset").exists() else True


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "clicks.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="pip install pyarrow"):
        TabularConverter(tmp_path / "clicks.parquet", "shop").preview()


def test_no_token_is_one_that_pandas_reads_as_missing() -> None:
    # RecBole reads the files with pandas' defaults, which have no other public name.
    from pandas._libs.parsers import STR_NA_VALUES

    assert MISSING == STR_NA_VALUES


def test_json_arrays_are_checked_object_by_object_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clicks.json"
    path.write_bytes(b'[{"customer_id": "c1", "sku": "a"}, 7]')
    with pytest.raises(DataError, match="object 2: expected a JSON object"):
        TabularConverter(path, "shop").preview()
    monkeypatch.setattr(json_lines, "BUFFER_BYTES", 4)
    with pytest.raises(DataError, match="object 2: expected a JSON object"):
        TabularConverter(path, "shop").preview()
    monkeypatch.setattr(json_lines, "LINE_BYTES", 20)
    with pytest.raises(DataError, match="write an object a line"):
        TabularConverter(path, "shop").preview()


def test_json_null_and_numbers_are_ids_like_text(tmp_path: Path) -> None:
    rows = [{"user": user, "item": item} for user in range(4) for item in (1, 2.0, "3", None)]
    text = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "clicks.jsonl").write_text(text, encoding="utf-8")
    report, _ = TabularConverter(tmp_path / "clicks.jsonl", "shop").run(tmp_path)
    assert report.dropped == {"no user or no item": 4}
    assert set(written(tmp_path / "shop")["item_id:token"]) == {1, 2, 3}


SPLIT_WORDS = ("Train", "val", "TEST ")


def with_split(table: pd.DataFrame, words: tuple[object, ...] = SPLIT_WORDS) -> pd.DataFrame:
    """The last of every customer's four is the test, the one before the validation."""
    places = table.groupby("customer_id").cumcount().to_numpy()
    return table.assign(part=[words[max(0, place - 1)] for place in places])


@pytest.mark.parametrize("words", [SPLIT_WORDS, (0, 1, 2), (0.0, 1.0, 2.0)])
def test_a_split_column_is_kept(shop: Path, words: tuple[object, ...]) -> None:
    table = with_split(clicks(), words)
    table.to_csv(shop / "clicks.csv", index=False)
    converter = TabularConverter(shop / "clicks.csv", "shop", columns=Columns(split="part"))
    report, _ = converter.run(shop / "out")
    assert report.rows == {"train": 60, "valid": 30, "test": 30}
    kept = written(shop / "out" / "shop")
    labels = dict(zip(map(str, words), ("train", "valid", "test"), strict=True))
    original = table.set_index(["customer_id", "sku"])["part"].astype(str).map(labels)
    result = kept.set_index(["user_id:token", "item_id:token"])["split"]
    assert result.to_dict() == original.to_dict()
    said = ", ".join(f"{str(word)!r} is {split}" for word, split in labels.items())
    assert f"--split_column part: {said}" in report.notes


def test_a_split_column_without_a_header_is_no_rating(shop: Path) -> None:
    table = with_split(clicks(), (0, 1, 2))[["customer_id", "sku", "part"]]
    table.to_csv(shop / "clicks.csv", index=False, header=False)
    converter = TabularConverter(shop / "clicks.csv", "shop", columns=Columns(split="3"))
    report, _ = converter.run(shop / "out")
    assert report.rows == {"train": 60, "valid": 30, "test": 30}
    assert "guessed --user 1 --item 2" in report.notes
    assert list(written(shop / "out" / "shop")) == ["user_id:token", "item_id:token", "split"]


def test_one_file_a_split_is_kept(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = with_split(clicks())
    for word, rows in table.groupby("part"):
        rows.drop(columns="part").to_csv(shop / f"{word.strip().lower()}.csv", index=False)
    command = ["tabular", "--source", f"{shop}/train.csv", "--test", f"{shop}/test.csv"]
    out = ["--name", "shop", "--output_dir", f"{shop}/out"]
    assert main([*command, "--valid", f"{shop}/val.csv", *out]) == 0
    kept = written(shop / "out" / "shop").set_index(["user_id:token", "item_id:token"])["split"]
    names = dict(zip(SPLIT_WORDS, ("train", "valid", "test"), strict=True))
    original = table.set_index(["customer_id", "sku"])["part"].map(names)
    assert kept.to_dict() == original.to_dict()
    assert "val.csv: separator comma" in capsys.readouterr().out

    # Two training interactions of each user are too few to draw a validation from.
    assert main([*command, *out, "--dry_run"]) == 2
    assert "users with 3 or more training interactions" in capsys.readouterr().err


def test_filters_work_on_a_kept_split_and_repeats_across_it_stay(shop: Path) -> None:
    table = with_split(clicks())
    again = table[table["part"] == "Train"].head(2).assign(part="TEST ")
    bad = table.head(1).assign(customer_id="c99", part="Train", stars=1)
    pd.concat([again, table, table.tail(1), bad]).to_csv(shop / "clicks.csv", index=False)
    kept = Preparation(k_core=2)
    converter = TabularConverter(shop / "clicks.csv", "shop", kept, columns=Columns(split="part"))
    report = converter.preview()
    assert report.rows == {"train": 60, "valid": 30, "test": 32}
    assert report.dropped == {
        "repeats a user and item": 1,
        "user or item with fewer than 2 interactions": 1,
    }
    assert report.notes[-1].startswith("2 interactions of validation and test are in the training")


def test_a_split_that_is_not_kept_is_mentioned(shop: Path) -> None:
    with_split(clicks()).rename(columns={"part": "x_label"}).to_csv(shop / "c.csv", index=False)
    notes = TabularConverter(shop / "c.csv", "shop").preview().notes
    assert "the column 'x_label' is left out; --split_column x_label keeps its split" in notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--split_column stars", r"column 'stars', line 3: expected train, .*found '4'"),
        ("--split_column place", r"expected one column 'place'.*Name another with --split_column"),
        ("--split_column part --split time", r"--split time: expected none"),
        ("--split_column part --test other.csv", r"and no --split_column with them"),
        ("--valid other.csv", r"--test, --valid: expected a table of the test"),
        ("--test other.csv", r"other\.csv: expected one column 'customer_id', .*of clicks\.csv"),
        ("--test empty.csv", r"empty\.csv: expected interactions, found a header only"),
        ("--split_column some", r"column 'some', line 2: expected train, .*found ''"),
        ("--split_column all", r"and for the test .*found 120 train, 0 valid, 0 test\."),
    ],
)
def test_splits_of_another_form_are_refused(
    shop: Path,
    options: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(shop)
    table = with_split(clicks()).assign(some=["", *["train"] * 119], all="train")
    table.to_csv("clicks.csv", index=False)
    table.head(0).to_csv("empty.csv", index=False)
    clicks().set_axis(["who", "what", "stars", "when"], axis=1).to_csv("other.csv", index=False)
    command = ["tabular", "--source", "clicks.csv", "--name", "shop", *options.split()]
    assert main(command) == 2
    assert re.search(message, capsys.readouterr().err)


GERMAN = {"customer_id": "Kundennummer", "sku": "Artikelnummer", "created_at": "Bestelldatum"}
GERMAN |= {
    "stars": "Menge",
    "title": "Bezeichnung",
    "description": "Beschreibung",
    "price": "Preis",
}


def titles_of(folder: Path, name: str = "shop") -> dict[str, str]:
    """The titles that pages and lists show."""
    config = {"dataset": name, "data_path": folder, "feature_path": None}
    return ItemContents.find(config, ITEMS).titles


@pytest.mark.parametrize(
    ("column", "options", "note"),
    [
        ("Bezeichnung", [], "title: Bezeichnung (guessed; --title_column names another)"),
        ("Libellé", [], "title: Libellé (guessed; --title_column names another)"),
        (
            "Was es ist",
            ["--text_columns", "Was es ist,Beschreibung"],
            "title: Was es ist (the first of --text_columns; --title_column names another)",
        ),
        (
            "Was es ist",
            ["--text_columns=Beschreibung", "--title_column=Was es ist", "--no_text_features"],
            "title: Was es ist",
        ),
    ],
)
def test_a_shop_finds_its_titles_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], column: str, options: list[str], note: str
) -> None:
    clicks().rename(columns=GERMAN).to_csv(tmp_path / "o.csv", index=False)
    goods = products().rename(columns=GERMAN | {"title": column})
    goods.to_csv(tmp_path / "p.csv", index=False)
    command = f"tabular --source {tmp_path}/o.csv --items {tmp_path}/p.csv --name shop --output_dir"
    assert main([*command.split(), str(tmp_path / "d"), *options]) == 0
    assert f"note          {note}\n" in capsys.readouterr().out
    expected = dict(zip(ITEMS, products()["title"], strict=True))
    assert titles_of(tmp_path / "d" / "shop") == expected


def test_a_named_title_goes_before_a_column_called_title(tmp_path: Path) -> None:
    clicks().to_csv(tmp_path / "o.csv", index=False)
    products().assign(Ware=[f"W {item}" for item in ITEMS]).to_csv(tmp_path / "p.csv", index=False)
    TabularConverter(
        source=tmp_path / "o.csv",
        name="shop",
        items=tmp_path / "p.csv",
        text_columns=["title"],
        title_column="Ware",
    ).run(tmp_path)
    assert titles_of(tmp_path / "shop") == {item: f"W {item}" for item in ITEMS}
    texts = dict(read_item_lines(tmp_path / "shop", "shop", "texts"))
    assert not any("W " in text for text in texts.values())


def test_a_shop_without_titles_says_so(tmp_path: Path) -> None:
    clicks().to_csv(tmp_path / "o.csv", index=False)
    goods = products().drop(columns=["title", "description"]).assign(kategorie="one of them")
    goods.to_csv(tmp_path / "p.csv", index=False)
    converter = TabularConverter(source=tmp_path / "o.csv", name="shop", items=tmp_path / "p.csv")
    assert "no column is taken as title; --title_column names one" in converter.preview().notes


@pytest.mark.parametrize(
    ("of_items", "options", "is_misread"),
    [
        ("utf-8-sig", [], False),
        ("utf-8", ["--items_encoding", "utf-8"], False),
        ("latin-1", [], False),
        ("utf-8", [], True),
    ],
)
def test_two_files_may_have_two_encodings(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    of_items: str,
    options: list[str],
    is_misread: bool,
) -> None:
    tokens = [item.removesuffix(" ü") for item in ITEMS]
    titles = [f"Müller's {TOPICS[number % 3]} größer" for number in range(12)]
    orders = clicks().assign(sku=lambda table: table["sku"].str.removesuffix(" ü"))
    orders["customer_id"] = "Bär " + orders["customer_id"]
    orders.to_csv(tmp_path / "o.csv", index=False, encoding="latin-1")
    goods = pd.DataFrame({"sku": tokens, "title": titles})
    goods.to_csv(tmp_path / "p.csv", index=False, encoding=of_items)
    command = f"tabular --source {tmp_path}/o.csv --items {tmp_path}/p.csv --name shop"
    command += f" --encoding latin-1 --output_dir {tmp_path}"
    assert main([*command.split(), *options]) == 0
    warning = (
        "warning: 12 lines of p.csv are UTF-8 but were read as latin-1, such as \"P-00,Müller's"
    )
    assert (warning in capsys.readouterr().out) == is_misread
    read = read_item_lines(tmp_path / "shop", "shop", "texts")[tokens[0]]
    assert (read == titles[0]) != is_misread
    assert set(written(tmp_path / "shop")["user_id:token"]) == set(orders["customer_id"])


@pytest.mark.parametrize(
    ("form", "days", "advice"),
    [
        ("%d.%m.%Y %H:%M", 30, "--date_format '%d.%m.%Y %H:%M' reads all rows."),
        ("%m/%d/%Y", 30, "--date_format '%m/%d/%Y' reads all rows."),
        (
            "%d/%m/%y",
            10,
            "Both --date_format '%d/%m/%y' and --date_format '%m/%d/%y' read all rows: give",
        ),
        ("%A", 30, "Give a format with --date_format, such as '%d.%m.%Y %H:%M'."),
    ],
)
def test_dates_of_other_forms_are_read_as_the_refusal_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, days: int, advice: str
) -> None:
    times = pd.Timestamp("2026-05-01 11:05") + pd.to_timedelta(np.arange(120) % days, unit="D")
    table = clicks().assign(created_at=times.strftime(form))
    table.to_csv(tmp_path / "o.csv", index=False)
    words = ["tabular", "--source", str(tmp_path / "o.csv"), "--name", "shop"]
    words += ["--output_dir", str(tmp_path)]
    assert main(words) == 2
    assert advice in capsys.readouterr().err
    if form == "%A":
        return
    assert main([*words, "--date_format", form]) == 0
    config = TabularConverter(source=tmp_path / "o.csv", name="shop", date_format=form)
    read = config.read_interactions().table["timestamp"]
    expected = times if "%H" in form else times.normalize()
    assert read.tolist() == [int(time.timestamp()) for time in expected]
    assert main([*words, "--date_format", "%Y|%m"]) == 2
    assert "expected a date in the form '%Y|%m'" in capsys.readouterr().err


def test_columns_that_cannot_be_guessed_are_named_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orders, goods = tmp_path / "o.csv", tmp_path / "p.csv"
    clicks().set_axis(["wer", "was", "stars", "wann"], axis=1).to_csv(orders, index=False)
    products().set_axis(["was", "wort", "satz", "euro"], axis=1).to_csv(goods, index=False)
    words = ["tabular", "--source", str(orders), "--name", "shop", "--items", str(goods)]
    words += ["--min_rating", "2"]
    assert main([*words, "--output_dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "found none for --user, --item, --item_id, --text_columns" in error
    assert "o.csv has 'wer', 'was', 'stars', 'wann'" in error
    assert "p.csv has 'was', 'wort', 'satz', 'euro'" in error
    command = error.partition("recbole-margo convert ")[2].strip()
    assert command.endswith("--user COLUMN --item COLUMN --item_id COLUMN --text_columns COLUMN")
    for column in ("wer", "was", "was", "wort"):
        command = command.replace("COLUMN", column, 1)
    assert main([*command.split(), "--output_dir", str(tmp_path)]) == 0
    report = capsys.readouterr().out
    assert "note          o.csv: columns not used: wann\n" in report
    assert "note          p.csv: columns not used: satz, euro\n" in report


def test_a_german_shop_needs_no_column_named(tmp_path: Path) -> None:
    clicks().rename(columns=GERMAN | {"stars": "Bewertung"}).to_csv(tmp_path / "o.csv", index=False)
    raw = TabularConverter(source=tmp_path / "o.csv", name="shop").read_interactions()
    guessed = "--user Kundennummer --item Artikelnummer --rating Bewertung --timestamp Bestelldatum"
    assert f"guessed {guessed}" in raw.notes


def test_a_column_of_texts_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    clicks().to_csv(tmp_path / "o.csv", index=False)
    products().to_csv(tmp_path / "p.csv", index=False)
    command = f"tabular --source {tmp_path}/o.csv --items {tmp_path}/p.csv --output_dir {tmp_path}"
    for name, columns in (("once", "title"), ("twice", "title,title")):
        assert main([*command.split(), "--name", name, "--text_columns", columns]) == 0
    once, twice = (read_item_lines(tmp_path / name, name, "texts") for name in ("once", "twice"))
    assert once == twice
