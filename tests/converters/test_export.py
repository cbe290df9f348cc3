from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mmrec_source import ITEM_COUNT, text_features, write_inter, write_source

from dataset_converters.export import MMRecExport, main
from dataset_converters.mmrec import MMRecConverter
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import write_splits
from recbole_margo.store.feature_files import write_features

TOKENS = {"b": [1.0, 2.0], "a": [3.0, 6.0], "x": [9.0, 9.0]}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a dataset with tokens that are no numbers; item c has no text, x no interaction."""
    folder = tmp_path / "dataset" / "shop"
    folder.mkdir(parents=True)
    rows = {
        "train": [("u2", "b", "1.50", "7"), ("u1", "a", "2", "8"), ("u2", "c", "3", "9")],
        "valid": [("u1", "b", "4", "10")],
        "test": [("u2", "a", "5", "11")],
    }
    columns = ["user_id", "item_id", "rating", "timestamp"]
    write_splits(folder, "shop", {s: pd.DataFrame(r, columns=columns) for s, r in rows.items()})
    matrix = np.array(list(TOKENS.values()), "float32")
    write_features(folder, "shop", "text", matrix, list(TOKENS), "a test")
    return folder


def export(folder: Path, missing: str = "zero") -> Path:
    output = folder.parents[1] / "mmrec"
    MMRecExport(folder, folder.name, missing).run(output)
    return output / folder.name


def test_tokens_are_numbered_in_order_of_appearance(shop: Path) -> None:
    folder = export(shop)
    assert (folder / "shop.inter").read_text().splitlines() == [
        "userID\titemID\trating\ttimestamp\tx_label",
        "0\t0\t1.50\t7\t0",
        "1\t1\t2\t8\t0",
        "0\t2\t3\t9\t0",
        "1\t0\t4\t10\t1",
        "0\t1\t5\t11\t2",
    ]
    assert (folder / "u_id_mapping.csv").read_text() == "user_id\tuserID\nu2\t0\nu1\t1\n"
    assert (folder / "i_id_mapping.csv").read_text() == "asin\titemID\nb\t0\na\t1\nc\t2\n"


@pytest.mark.parametrize(("missing", "row"), [("zero", [0.0, 0.0]), ("mean", [2.0, 4.0])])
def test_row_r_is_that_of_item_r_and_a_missing_one_is_filled(
    shop: Path, missing: str, row: list[float]
) -> None:
    matrix = np.load(export(shop, missing) / "text_feat.npy")
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, [TOKENS["b"], TOKENS["a"], row])


def test_a_missing_modality_is_refused_unless_one_says_how_to_fill_it(shop: Path) -> None:
    with pytest.raises(DataError, match=r"'text': .* of all 3 items.*found 1 .*first c\. .*mean"):
        export(shop, "refuse")
    assert not list((shop.parents[1] / "mmrec").iterdir())


def test_features_of_other_items_are_refused_however_missing_ones_are_filled(shop: Path) -> None:
    write_features(shop, "shop", "text", np.ones((2, 2)), ["x", "y"], "a test")
    with pytest.raises(DataError, match=r"such as b, a, c; found those of others, such as x, y\."):
        export(shop, "zero")


def test_the_report_says_what_became_of_ids_and_features(shop: Path) -> None:
    report = MMRecExport(shop, "shop", "zero").preview()
    assert (report.rows_read, report.users, report.items) == (5, 2, 3)
    assert report.rows == {"train": 3, "valid": 1, "test": 1}
    assert report.modalities == {"text": (2, 1)}
    assert report.notes == (
        "users are numbered anew, see u_id_mapping.csv",
        "items are numbered anew, see i_id_mapping.csv",
        "features of 1 items without interactions are left out",
    )


def test_numbers_without_gaps_are_kept_in_whatever_order_they_appear(tmp_path: Path) -> None:
    source = write_source(tmp_path / "raw")  # items 4, 1, 0, 2 have interactions, 3 features only
    np.save(source / "image_feat.npy", np.arange(1.0, 21.0).reshape(ITEM_COUNT, 4))
    MMRecConverter(source, "toy").run(tmp_path / "dataset")
    folder = export(tmp_path / "dataset" / "toy", "refuse")

    written = pd.read_csv(folder / "toy.inter", sep="\t")
    assert list(written["itemID"]) == [4, 1, 1, 4, 0, 2]
    assert list(written["userID"]) == [0, 1, 0, 1, 0, 1]  # the source has users 0 and 7
    np.testing.assert_array_equal(np.load(folder / "text_feat.npy"), text_features())


@pytest.mark.parametrize("item", ["007", "1.0", "-1", "²", "99999999999999999999", "1 "])
def test_what_only_looks_like_a_number_is_numbered_anew(shop: Path, item: str) -> None:
    for split in ("train", "valid", "test"):
        path = shop / f"shop.{split}.inter"
        replaced = path.read_text().replace("\tb\t", "\t0\t").replace("\ta\t", f"\t{item}\t")
        path.write_text(replaced.replace("\tc\t", "\t2\t"))
    write_features(shop, "shop", "text", np.ones((3, 2)), ["0", item, "2"], "a test")
    mapping = pd.read_csv(export(shop) / "i_id_mapping.csv", sep="\t", dtype=str)
    assert list(mapping["asin"]) == ["0", item, "2"]
    assert list(mapping["itemID"]) == ["0", "1", "2"]


@pytest.mark.parametrize("columns", [(), ("rating",), ("timestamp",)])
def test_rating_and_timestamp_are_written_where_they_are(
    tmp_path: Path, columns: tuple[str, ...]
) -> None:
    source = write_source(tmp_path / "raw")
    header = ("userID", "itemID", *columns, "x_label")
    write_inter(source, columns=header)
    MMRecConverter(source, "toy").run(tmp_path / "dataset")
    written = export(tmp_path / "dataset" / "toy") / "toy.inter"
    assert written.read_text().splitlines()[0].split("\t") == list(header)


@pytest.mark.parametrize(
    ("split", "content", "message"),
    [
        ("valid", None, r"fixed split, found no shop\.valid\.inter"),
        ("test", "user_id:token\titem_id:token\nu1\ta\n", r"in all splits or none; found"),
        ("train", "user\titem\nu1\ta\n", r"expected the columns user_id:token, item_id:token"),
        ("train", "", r"found an empty file"),
        (
            "train",
            "user_id:token\titem_id:token\nu1\t\n",
            r"item_id:token', line 2: expected an id, found ''",
        ),
        ("train", "user_id:token\titem_id:token\n", r"found a header only"),
        (
            "valid",
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\ta\n",
            r"whole rows, found: 1 rows of shop\.valid\.inter have fewer than 4 fields.*line 2",
        ),
    ],
)
def test_interactions_of_another_form_are_refused(
    shop: Path, split: str, content: str | None, message: str
) -> None:
    path = shop / f"shop.{split}.inter"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(DataError, match=rf"shop.*{message}"):
        export(shop)


def test_damaged_features_are_refused(shop: Path) -> None:
    np.save(shop / "shop.text.npy", np.ones((3, 2), "float32"))
    with pytest.raises(DataError, match=r"shop\.text\.npy: expected the SHA-256"):
        export(shop)


def test_the_command_exports_once_and_reports(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--dataset", "shop", "--data_path", str(shop.parent), "--output"]
    output = tmp_path / "data"
    assert main([*arguments, str(output)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert main([*arguments, str(output), "--missing", "mean", "--dry_run"]) == 0
    assert "nothing written" in capsys.readouterr().out
    assert not any(output.iterdir())
    for end in (f"written to {output / 'shop'}\n", f"{output / 'shop'} holds this already\n"):
        assert main([*arguments, str(output), "--missing", "mean"]) == 0
        assert capsys.readouterr().out.endswith(end)


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("lfm2k", {m: f"{m}_feat.npy" for m in ("text", "audio", "vggish")}),
        ("tiktok", {m: f"{m}_feat.npy" for m in ("image", "audio")}),
    ],
)
def test_public_data_comes_back_as_it_was(
    shared_data: Path, tmp_path: Path, name: str, features: dict[str, str]
) -> None:
    source = shared_data / name
    MMRecConverter(source, name, features).run(tmp_path / "dataset")
    folder = export(tmp_path / "dataset" / name, "refuse")

    original = (source / f"{name}.inter").read_bytes().replace(b"\r\n", b"\n")
    assert (folder / f"{name}.inter").read_bytes() == original
    for file_name in features.values():
        expected = np.load(source / file_name)
        if expected.dtype == np.float64:  # as the models read it
            expected = expected.astype(np.float32)
        written = np.load(folder / file_name)
        assert written.dtype == expected.dtype
        assert written.tobytes() == expected.tobytes()
