from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from encode_world import ITEMS, NAME, png, text_of, write_dataset, write_images
from PIL import Image

from recbole_margo.cli import main
from recbole_margo.encode.images import ColorTextureEncoder
from recbole_margo.serving.new_items import read_new_features
from recbole_margo.store.dataset_files import write_images as write_images_table
from recbole_margo.store.dataset_files import write_texts
from recbole_margo.store.feature_files import write_features
from recbole_margo.store.manifest import FeatureManifest
from recbole_margo.store.text_space import TextSpace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data")


def encode(folder: Path, modality: str, *options: object) -> int:
    arguments = ["--dataset", NAME, "--data_path", str(folder.parent), "--modality", modality]
    return main(["encode", *arguments, *map(str, options)])


def matrix_of(folder: Path, modality: str) -> dict[str, np.ndarray]:
    tokens = (folder / f"{NAME}.{modality}.tokens").read_text().splitlines()
    matrix = np.load(folder / f"{NAME}.{modality}.npy", allow_pickle=False)
    return dict(zip(tokens, matrix, strict=True))


def report_of(folder: Path, modality: str) -> dict:
    return json.loads((folder / f"{NAME}.{modality}.encoding.json").read_text())


def test_images_of_a_folder_become_rows_of_their_items(folder: Path, tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos", ITEMS[:10])
    assert encode(folder, "image", "--source", photos) == 0
    rows = matrix_of(folder, "image")
    assert list(rows) == ITEMS[:10]
    encoder = ColorTextureEncoder()
    for item in (ITEMS[0], ITEMS[7]):
        expected = encoder.prepare((photos / f"{item}.png").read_bytes())
        np.testing.assert_array_equal(rows[item], expected)
    report = report_of(folder, "image")
    assert (report["encoded"], report["reused"], report["without_source"]) == (10, 0, 2)
    entry = FeatureManifest.read(folder, NAME).modalities["image"]
    assert entry.source == "encoded from photos by colour and texture histograms"


def test_a_second_run_encodes_only_what_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_images(tmp_path / "photos", ITEMS)
    assert encode(folder, "image", "--source", photos, "--batch_size", 5) == 0
    before = matrix_of(folder, "image")
    prepared = []
    prepare = ColorTextureEncoder.prepare
    monkeypatch.setattr(
        ColorTextureEncoder,
        "prepare",
        lambda encoder, content: prepared.append(content) or prepare(encoder, content),
    )
    (photos / f"{ITEMS[4]}.png").write_bytes(png(99))
    (photos / f"{ITEMS[5]}.png").rename(photos / "elsewhere.png")
    assert encode(folder, "image", "--source", photos) == 0
    assert prepared == [png(99)]
    after = matrix_of(folder, "image")
    assert set(before) - set(after) == {ITEMS[5]}
    assert not np.array_equal(before[ITEMS[4]], after[ITEMS[4]])
    for item in set(after) - {ITEMS[4]}:
        np.testing.assert_array_equal(before[item], after[item])
    report = report_of(folder, "image")
    assert (report["encoded"], report["reused"], report["unknown"]) == (1, 10, 1)


def test_an_interrupted_run_keeps_what_is_done(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photos = write_images(tmp_path / "photos", ITEMS)
    encode_batch, batches = ColorTextureEncoder.encode, []

    def interrupted(encoder, batch):
        batches.append(len(batch))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return encode_batch(encoder, batch)

    monkeypatch.setattr(ColorTextureEncoder, "encode", interrupted)
    assert encode(folder, "image", "--source", photos, "--batch_size", 2) == 130
    assert "give the same command again" in capsys.readouterr().err
    assert not FeatureManifest.path(folder, NAME).exists()
    assert encode(folder, "image", "--source", photos, "--batch_size", 2) == 0
    report = report_of(folder, "image")
    assert (report["encoded"], report["reused"]) == (8, 4)


def test_a_damaged_cache_is_encoded_again(folder: Path, tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos", ITEMS)
    assert encode(folder, "image", "--source", photos) == 0
    before = matrix_of(folder, "image")
    (shard,) = folder.glob(".encodings/*/*.npz")
    shard.write_bytes(shard.read_bytes()[:-200])
    assert encode(folder, "image", "--source", photos) == 0
    assert report_of(folder, "image")["encoded"] == len(ITEMS)
    np.testing.assert_array_equal(matrix_of(folder, "image")[ITEMS[3]], before[ITEMS[3]])


def test_unreadable_images_are_missing_and_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_images(tmp_path / "photos", ITEMS)
    (photos / f"{ITEMS[0]}.png").write_bytes(b"")
    (photos / f"{ITEMS[1]}.png").write_bytes(png(1)[:60])
    (photos / f"{ITEMS[2]}.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    assert encode(folder, "image", "--source", photos) == 0
    assert list(matrix_of(folder, "image")) == ITEMS[3:]
    assert list(report_of(folder, "image")["unreadable"]) == ITEMS[:3]
    said = capsys.readouterr().out
    assert "3 items cannot be read" in said
    assert f"{ITEMS[0]}: expected an image, found an empty file" in said


def test_the_tables_of_the_converter_are_found(folder: Path, tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos", ITEMS)
    (photos / f"{ITEMS[2]}.png").unlink()
    write_texts(folder, NAME, {item: text_of(item) for item in ITEMS[:9]} | {ITEMS[9]: " "})
    write_images_table(folder, NAME, {item: photos / f"{item}.png" for item in ITEMS[:5]})
    assert encode(folder, "text", "--dimension", 4) == 0
    assert encode(folder, "image") == 0
    assert list(matrix_of(folder, "text")) == ITEMS[:9]
    assert matrix_of(folder, "text")[ITEMS[0]].shape == (4,)
    assert list(report_of(folder, "text")["unreadable"]) == [ITEMS[9]]
    assert list(report_of(folder, "image")["unreadable"]) == [ITEMS[2]]
    assert list(FeatureManifest.read(folder, NAME).modalities) == ["text", "image"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt"])
def test_texts_come_in_many_forms(folder: Path, tmp_path: Path, kind: str) -> None:
    source = tmp_path / f"texts.{kind}"
    if kind == "txt":
        source.mkdir()
        for item in ITEMS:
            (source / f"{item}.txt").write_text(text_of(item))
    elif kind == "csv":
        rows = "".join(f'{item},7,"{text_of(item)}"\n' for item in ITEMS)
        source.write_text(f"sku,price,title\n{rows}")
    else:
        records = [{"item_id": item, "title": text_of(item)} for item in ITEMS]
        source.write_text("\n".join(map(json.dumps, records)))
    assert encode(folder, "text", "--source", source, "--dimension", 3) == 0
    write_texts(folder, NAME, {item: text_of(item) for item in ITEMS})
    assert encode(folder, "other", "--kind", "text", "--dimension", 3) == 0
    expected = matrix_of(folder, "other")
    for item, row in matrix_of(folder, "text").items():
        np.testing.assert_array_equal(row, expected[item])


def test_a_table_in_another_encoding_is_read_as_it_is_said(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = "".join(f"{item};{text_of(item)} Käse\n" for item in ITEMS)
    source, modern = tmp_path / "alt.csv", tmp_path / "neu.csv"
    source.write_bytes(f"Artikel;Bezeichnung\n{rows}".encode("latin-1"))
    modern.write_text(f"Artikel;Bezeichnung\n{rows}", encoding="utf-8")
    assert encode(folder, "text", "--source", source) == 2
    assert "expected UTF-8" in (said := capsys.readouterr().err)
    assert "--encoding latin-1" in said
    assert encode(folder, "text", "--source", source, "--encoding", "klingon") == 2
    assert "--encoding: expected the name of an encoding" in capsys.readouterr().err
    assert encode(folder, "text", "--encoding", "latin-1", "--source", tmp_path) == 2
    assert "--encoding: expected a table with --source" in capsys.readouterr().err
    assert encode(folder, "text", "--source", source, "--encoding", "latin-1") == 0
    assert encode(folder, "other", "--kind", "text", "--source", modern) == 0
    expected = matrix_of(folder, "other")
    for item, row in matrix_of(folder, "text").items():
        np.testing.assert_array_equal(row, expected[item])
    assert not caplog.records
    assert encode(folder, "text", "--source", modern, "--encoding", "latin-1") == 0
    assert f"{len(ITEMS)} lines of neu.csv are UTF-8 but were read as latin-1" in caplog.text


def test_paths_in_a_table_are_meant_from_the_table(folder: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "shop" / "photos", ITEMS)
    table = tmp_path / "shop" / "items.csv"
    rows = "".join(f"{item},photos/{item}.png\n" for item in ITEMS[::-1])
    table.write_text(f"item_id,image\n{rows}")
    assert encode(folder, "image", "--source", table) == 0
    np.testing.assert_array_equal(
        matrix_of(folder, "image")[ITEMS[1]],
        ColorTextureEncoder().prepare(png(1)),
    )


def test_addresses_of_images_are_to_be_fetched_first(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images_table(folder, NAME, {ITEMS[0]: "https://img.example/a.jpg"})
    assert encode(folder, "image") == 2
    said = capsys.readouterr().err
    assert "expected image files, found 1 addresses, such as https://img.example/a.jpg" in said
    assert "give the folder with --source" in said


def test_the_dataset_of_recbole_has_texts_of_its_own(tmp_path: Path) -> None:
    arguments = ["--dataset", "ml-100k", "--data_path", str(tmp_path), "--modality", "titles"]
    assert (
        main(["encode", *arguments, "--kind", "text", "--text_columns", "movie_title,class"]) == 0
    )
    modalities = FeatureManifest.read(tmp_path / "ml-100k", "ml-100k").modalities
    assert list(modalities) == ["text", "credits", "titles"]
    assert modalities["titles"].rows > 1500


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["image", "--source", "nowhere"], "nowhere does not exist"),
        (["1st", "--kind", "text"], "the first a letter"),
        (["cover"], "--kind: expected one of text, image, audio"),
        (["image", "--encoder", "tfidf", "--kind", "image"], "expected --kind text"),
        (["image"], "tiny.images.tsv"),
        (["text"], "tiny.item"),
        (["image", "--batch_size", "0"], "--batch_size: expected at least 1"),
        (["audio", "--source", "{empty}"], "expected the name or folder of a model for audio"),
        (["image", "--source", "{empty}"], "expected files named by item"),
        (["image", "--source", "{other}"], "none in common"),
        (["text", "--source", "{table}", "--text_columns", "price"], "no such column"),
    ],
)
def test_errors_say_what_mends_them(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "somebody.png").write_bytes(png(0))
    (tmp_path / "table.csv").write_text("sku,title\nitem.0,red\n")
    paths = {name: str(tmp_path / name) for name in ("empty", "other")}
    paths["table"] = str(tmp_path / "table.csv")
    assert encode(folder, *[option.format(**paths) for option in options]) == 2
    assert said in capsys.readouterr().err


def test_a_missing_dataset_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["encode", "--dataset", "x", "--modality", "text", "--data_path", str(tmp_path)]) == 2
    )
    assert "x.train.inter" in capsys.readouterr().err


def test_features_that_were_not_encoded_are_not_replaced_unasked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_images(tmp_path / "photos", ITEMS)
    write_features(folder, NAME, "image", np.ones((12, 3), np.float32), ITEMS, "the laboratory")
    assert encode(folder, "image", "--source", photos) == 2
    assert "from: the laboratory" in capsys.readouterr().err
    assert encode(folder, "image", "--source", photos, "--overwrite") == 0
    assert encode(folder, "image", "--source", photos) == 0


def test_nothing_readable_leaves_everything_as_it_was(folder: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / f"{ITEMS[0]}.png").write_bytes(b"no image")
    assert encode(folder, "image", "--source", photos) == 2
    assert not FeatureManifest.path(folder, NAME).exists()


def new_features(folder: Path, modality: str) -> dict[str, np.ndarray]:
    rows, _ = read_new_features(folder)
    return {item: of_item[modality] for item, of_item in rows.items()}


def test_new_texts_are_encoded_in_the_space_of_the_old_ones(folder: Path, tmp_path: Path) -> None:
    write_texts(folder, NAME, {item: text_of(item) for item in ITEMS})
    assert encode(folder, "text", "--dimension", 4) == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    rows = "".join(f"new-{item},{text_of(item)}\n" for item in ITEMS[:3])
    (tmp_path / "new.csv").write_text(f"item_id,text\n{rows}nothing,unheard\n")
    options = ["--source", tmp_path / "new.csv", "--output_dir", tmp_path / "arrivals"]
    assert encode(folder, "text", *options) == 0
    old, new = matrix_of(folder, "text"), new_features(tmp_path / "arrivals", "text")
    assert list(new) == [f"new-{item}" for item in ITEMS[:3]]
    for item in ITEMS[:3]:
        np.testing.assert_allclose(new[f"new-{item}"], old[item], rtol=1e-4, atol=1e-5)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    made_by = read_new_features(tmp_path / "arrivals")[1]["text"]
    assert made_by is not None
    assert made_by == FeatureManifest.read(folder, NAME).modalities["text"].encoder


def test_new_images_are_encoded_as_the_old_ones(folder: Path, tmp_path: Path) -> None:
    assert encode(folder, "image", "--source", write_images(tmp_path / "photos", ITEMS)) == 0
    more = tmp_path / "more"
    write_images(more, ITEMS[:2])
    (more / f"{ITEMS[0]}.png").rename(more / "new.png")
    assert encode(folder, "image", "--source", more, "--output_dir", tmp_path / "arrivals") == 0
    new = new_features(tmp_path / "arrivals", "image")
    np.testing.assert_array_equal(new["new"], matrix_of(folder, "image")[ITEMS[0]])


def test_what_cannot_encode_new_items_says_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_images(tmp_path / "photos", ITEMS)
    new = ["--source", photos, "--output_dir", tmp_path / "arrivals"]
    write_features(folder, NAME, "image", np.ones((12, 3), np.float32), ITEMS, "the laboratory")
    write_texts(folder, NAME, {item: text_of(item) for item in ITEMS})
    assert encode(folder, "text") == 0
    assert encode(folder, "image", *new) == 2
    assert "found 'the laboratory'" in capsys.readouterr().err
    assert encode(folder, "audio", *new) == 2
    assert "expected one of image, text" in capsys.readouterr().err
    assert encode(folder, "text", "--output_dir", tmp_path / "arrivals") == 2
    assert "--source, found none" in capsys.readouterr().err
    assert encode(folder, "text", "--source", photos, "--output_dir", folder) == 2
    assert "that of the dataset" in capsys.readouterr().err
    write_texts(folder, NAME, {item: f"{text_of(item)} word" for item in ITEMS})
    space, _ = TextSpace.fit(["one two", "two one three", "three"], 2, "a test")
    space.write(TextSpace.path(folder, NAME, "text"))
    table = tmp_path / "new.csv"
    table.write_text("item_id,text\nn1,one two\n")
    assert encode(folder, "text", "--source", table, "--output_dir", tmp_path / "arrivals") == 2
    assert "found another fit" in capsys.readouterr().err
    assert not (tmp_path / "arrivals").exists()


def test_a_slip_in_the_encoder_and_a_photo_cut_off_are_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_images(tmp_path / "photos", ITEMS)
    for item in ITEMS[:7]:
        picture = Image.open(photos / f"{item}.png")
        picture.resize((300, 300)).save(photos / f"{item}.jpg")
        (photos / f"{item}.png").unlink()
        whole = (photos / f"{item}.jpg").read_bytes()
        (photos / f"{item}.jpg").write_bytes(whole[: len(whole) // 2])
    assert encode(folder, "image", "--source", photos, "--encoder", "colour-texture") == 2
    assert "found 'colour-texture': did you mean color-texture?" in capsys.readouterr().err
    assert encode(folder, "image", "--source", photos) == 0
    report = capsys.readouterr().out
    assert "found a JPEG that is cut off" in report
    assert f"... and 2 more, all in {NAME}.image.encoding.json" in report
