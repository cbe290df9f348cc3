from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from mmrec_source import ITEM_COUNT, ROWS, image_features, text_features, write_inter, write_source

from dataset_converters.base import ConversionReport
from dataset_converters.mmrec import MMRecConverter
from recbole_margo.errors import DataError
from recbole_margo.store.manifest import FeatureManifest

SPLIT_OF_LABEL = {0: "train", 1: "valid", 2: "test"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "raw")


def convert(
    source: Path, features: dict[str, str] | None = None, name: str = "toy"
) -> tuple[Path, ConversionReport]:
    output = source.parent / "dataset"
    report, _ = MMRecConverter(source, name, features).run(output)
    return output / name, report


def read_inter(folder: Path, name: str, split: str) -> list[str]:
    return (folder / f"{name}.{split}.inter").read_text().splitlines()


def test_the_split_and_all_values_are_kept(source: Path) -> None:
    folder, _ = convert(source)

    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    for label, split in SPLIT_OF_LABEL.items():
        lines = read_inter(folder, "toy", split)
        assert lines[0] == header
        assert [tuple(map(float, line.split("\t"))) for line in lines[1:]] == [
            row[:4] for row in ROWS if row[4] == label
        ]
    assert read_inter(folder, "toy", "train")[1] == "0\t4\t5.0\t1381017600"


def test_rating_and_timestamp_may_be_absent(source: Path) -> None:
    write_inter(source, columns=("userID", "itemID", "x_label"))
    folder, _ = convert(source)
    assert read_inter(folder, "toy", "valid") == ["user_id:token\titem_id:token", "0\t1", "7\t4"]


def test_columns_may_come_in_another_order_with_others_between(source: Path) -> None:
    rows = [(label, "x", item, user) for user, item, _, _, label in ROWS]
    lines = ["x_label\tnote\titemID\tuserID", *("\t".join(map(str, row)) for row in rows)]
    (source / "toy.inter").write_text("\n".join(lines))
    folder, _ = convert(source)
    assert read_inter(folder, "toy", "test")[1:] == ["0\t0", "7\t2"]


def test_row_r_becomes_the_features_of_item_r(source: Path) -> None:
    folder, _ = convert(source)

    image = np.load(folder / "toy.image.npy")
    assert image.dtype == np.float32
    tokens = (folder / "toy.image.tokens").read_text().split()
    assert tokens == ["0", "1", "3", "4"]  # item 2 is a row of zeros: it misses the modality
    np.testing.assert_array_equal(image, image_features()[[0, 1, 3, 4]].astype("float32"))

    text = np.load(folder / "toy.text.npy")
    assert text.dtype == np.float16
    np.testing.assert_array_equal(text, text_features())
    assert list(FeatureManifest.read(folder, "toy").modalities) == ["image", "text"]


def test_the_report_counts_what_was_written(source: Path) -> None:
    _, report = convert(source)

    assert (report.rows_read, report.users, report.items) == (6, 2, 4)
    assert report.rows == {"train": 2, "valid": 2, "test": 2}
    assert report.modalities == {"image": (4, 1), "text": (3, 0)}
    assert re.search(r"density +75\.0000%", str(report))
    assert re.search(r"image +4 columns, 1 items miss it", str(report))


def test_the_report_notes_what_one_should_know(source: Path) -> None:
    write_inter(source, [*ROWS, (0, 4, 5.0, 0, 2), (9, 1, 5.0, 0, 2)])
    np.save(source / "audio_feat.npy", text_features())

    _, report = convert(source)

    assert report.notes == (
        "audio_feat.npy is not among the features; name it with --feature",
        "1 of the itemIDs from 0 to 4 have no interaction",
        "1 interactions repeat a user and item that occurred before",
        "1 interactions of validation and test are in the training too; what a user has there is "
        "not recommended, so they count as misses",
        "1 users have no training interaction",
    )


def test_the_config_makes_the_name_enough(source: Path) -> None:
    folder, _ = convert(source, {"words": "text_feat.npy"})

    config = yaml.safe_load((folder / "toy.yaml").read_text())
    shipped = Path(__file__).parents[2] / "properties" / "dataset" / "baby.yaml"
    of_data = yaml.safe_load(shipped.read_text())
    # Values of single models come with the package alone.
    assert of_data.pop("models")
    assert config == {**of_data, "modalities": ["words"]}


def test_the_source_may_have_another_name(source: Path) -> None:
    folder, _ = convert(source, name="other")
    assert (folder / "other.train.inter").is_file()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"found an empty file"),
        ("userID\titemID\tx_label\n", r"found a header only"),
        ("userID\titemID\trating\n0\t1\t0\n", r"one column 'x_label', found no .* marks training"),
        ("userID,itemID,x_label\n0,1,0\n", r"first line: 'userID,itemID,x_label'\. .* by tab"),
        ("userID\titemID\tx_label\n0\t1\t0\nu5\t1\t0\n", r"userID', line 3: .*found 'u5'"),
        ("userID\titemID\tx_label\n0\t1.5\t0\n", r"itemID', line 2: .*whole number.*found '1\.5"),
        ("userID\titemID\tx_label\n0\t\t0\n", r"itemID', line 2: .*whole number.*, found ''"),
        ("userID\titemID\tx_label\n0\t1\t0\n0\t-1\t0\n", r"itemID', line 3: .*0, found '-1'"),
        ("userID\titemID\tx_label\n0\t1\t0\n0\t1\t3\n", r"x_label', line 3: .*found '3', and"),
        ("userID\titemID\tx_label\n0\t1\t0\t7\n", r"expected 3 fields in every line"),
        ("userID\titemID\tx_label\n0\t1\n1\t1\t0\n", r"x_label', line 2: .*found ''"),
        ("userID\titemID\trating\tx_label\n0\t1\tgood\t0\n", r"rating', line 2: .*found 'good'"),
        (
            "userID\titemID\tx_label\n0\t1\t0\n0\t4\t1\n1\t4\t0\n",
            r"in each of train, valid, test, found none in test",
        ),
        ("userID\titemID\trating\tx_label\n0\t1\t\t0\n", r"rating', line 2: .*found ''"),
        ("userID\titemID\trating\tx_label\n0\t1\t2\t0\n0\t1\tinf\t1\n", r"rating', line 3: .*'inf"),
        ("userID\titemID\trating\tx_label\n0\t1\tTrue\t0\n", r"rating', line 2: .*'True'"),
        ("userID\titemID\tx_label\n0\t1\t0\n0\t1\0\t0\n", r"line 3: .*character of value 0"),
        ("userID\titemID\titemID\tx_label\n0\t1\t2\t0\n", r"'itemID', found 2 columns"),
        ('userID\titemID\tx_label\n0\t"1"\t0\n', r"itemID', line 2: .*found '\"1\"'"),
        ("userID\titemID\tx_label\n0\t1.0\t0\n", r"itemID', line 2: .*whole number.*found '1\.0"),
        ("userID\titemID\tx_label\n0\t%s\t0\n" % ("9" * 20), r"itemID', line 2: .*'9999"),
    ],
)
def test_interactions_of_another_form_are_refused(source: Path, content: str, message: str) -> None:
    (source / "toy.inter").write_text(content)
    with pytest.raises(DataError, match=message):
        convert(source)
    assert not list((source.parent / "dataset").iterdir())


def test_interactions_may_come_from_windows(source: Path) -> None:
    expected, _ = convert(source)
    content = (source / "toy.inter").read_bytes().replace(b"\n", b"\r\n")
    (source / "toy.inter").write_bytes(b"\xef\xbb\xbf" + content)
    folder, _ = convert(source, name="windows")
    for split in SPLIT_OF_LABEL.values():
        assert read_inter(folder, "windows", split) == read_inter(expected, "toy", split)


def test_ratings_are_kept_to_the_last_digit(source: Path) -> None:
    write_inter(source, [(0, 4, 0.1 + 0.2, 3e-7, 0), (0, 1, 1e17, 2, 1), (0, 0, 0.1, 3, 2)])
    folder, _ = convert(source)
    assert read_inter(folder, "toy", "train")[1] == "0\t4\t0.30000000000000004\t3e-07"


def test_a_gigantic_item_id_is_refused_before_it_costs_memory(source: Path) -> None:
    write_inter(source, [*ROWS, (0, 10**17, 1.0, 0, 0)])
    with pytest.raises(DataError, match=r"expected 100000000000000001 rows, .*found 5\."):
        convert(source)


@pytest.mark.parametrize("rows", [ITEM_COUNT - 1, ITEM_COUNT + 1])
def test_there_is_one_row_of_features_for_each_item(source: Path, rows: int) -> None:
    np.save(source / "text_feat.npy", np.ones((rows, 3), "float32"))
    message = rf"text_feat\.npy: expected 5 rows, .*largest itemID 4\), found {rows}\."
    with pytest.raises(DataError, match=message):
        convert(source)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_features_are_numbers_that_float32_holds(source: Path, value: float) -> None:
    matrix = image_features()
    matrix[3, 1] = value
    np.save(source / "image_feat.npy", matrix)
    with pytest.raises(DataError, match=r"raw/image_feat\.npy.*for 1 items, first 3\."):
        convert(source)


def test_features_are_floats(source: Path) -> None:
    np.save(source / "text_feat.npy", np.ones((ITEM_COUNT, 3), "int64"))
    with pytest.raises(DataError, match=r"'text': .*found shape \(5, 3\) and type int64.*astype"):
        convert(source)


def test_pickled_features_are_refused(source: Path) -> None:
    np.save(source / "text_feat.npy", np.array([{"a": 1}] * ITEM_COUNT), allow_pickle=True)
    with pytest.raises(DataError, match=r"text_feat\.npy: .*without pickle"):
        convert(source)


def test_some_feature_file_is_needed(source: Path) -> None:
    (source / "image_feat.npy").unlink()
    (source / "text_feat.npy").rename(source / "audio_feat.npy")
    message = r"image_feat\.npy or text_feat\.npy, found these \.npy files: audio_feat\.npy\."
    with pytest.raises(DataError, match=message):
        convert(source)


def test_a_named_feature_file_must_exist(source: Path) -> None:
    with pytest.raises(DataError, match=r"file audio\.npy, found .*image_feat\.npy, text_feat"):
        convert(source, {"text": "text_feat.npy", "audio": "audio.npy"})


def test_one_interactions_file_is_needed(source: Path) -> None:
    (source / "toy.inter").rename(source / "a.inter")
    (source / "b.inter").touch()
    with pytest.raises(DataError, match=r"one named toy\.inter, found a\.inter, b\.inter"):
        convert(source)
    folder, _ = convert(source, name="a")
    assert (folder / "a.train.inter").is_file()


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("lfm2k", {m: f"{m}_feat.npy" for m in ("text", "audio", "vggish")}),
        ("tiktok", {m: f"{m}_feat.npy" for m in ("image", "audio")}),
    ],
)
def test_public_data_keeps_its_split_and_rows(
    shared_data: Path, tmp_path: Path, name: str, features: dict[str, str]
) -> None:
    MMRecConverter(shared_data / name, name, features).run(tmp_path)

    raw = pd.read_csv(shared_data / name / f"{name}.inter", sep="\t")
    for label, split in SPLIT_OF_LABEL.items():
        written = pd.read_csv(tmp_path / name / f"{name}.{split}.inter", sep="\t")
        expected = raw.loc[raw["x_label"] == label, ["userID", "itemID"]]
        assert np.array_equal(written.iloc[:, :2], expected)
    for modality, file_name in features.items():
        expected = np.load(shared_data / name / file_name)
        tokens = (tmp_path / name / f"{name}.{modality}.tokens").read_text().split()
        written = np.load(tmp_path / name / f"{name}.{modality}.npy")
        assert written.dtype == (np.float16 if expected.dtype == np.float16 else np.float32)
        np.testing.assert_array_equal(
            written, expected[np.array(tokens, int)].astype(written.dtype)
        )


def test_times_in_nanoseconds_are_kept_to_the_last_digit(source: Path) -> None:
    rows = [(*row[:3], 1_700_000_000_123_456_789 + row[3], row[4]) for row in ROWS]
    write_inter(source, rows)
    folder, _ = convert(source)
    written = [line.split("\t")[3] for line in read_inter(folder, "toy", "train")[1:]]
    assert written == [str(row[3]) for row in rows if row[4] == 0]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"0\t1\t5\t7\t0\n" * 2 + b"0\t1\t5\t7\t0\t9\n", "in line 4, saw 6. Repair the line"),
        (b"\xff\t1\t5\t7\t0\n", "iconv -f LATIN1 -t UTF-8 toy.inter"),
        (b"0\t\x001\t5\t7\t0\n", "iconv -f UTF-16LE -t UTF-8 toy.inter"),
    ],
)
def test_a_damaged_line_is_answered_with_what_the_converter_has(
    source: Path, line: bytes, found: str
) -> None:
    (source / "toy.inter").write_bytes(b"userID\titemID\trating\ttimestamp\tx_label\n" + line)
    with pytest.raises(DataError) as refused:
        convert(source)
    assert found in str(refused.value)
    assert "--" not in str(refused.value)
