r"""Texts and image files by item: what the encoders of raw content start from.

`<name>.texts.tsv` has the columns item_id and text, `<name>.images.tsv` the columns item_id and
path (absolute). Both are UTF-8 with a header and a line an item; a backslash, tab, line feed or
carriage return inside a field is written as `\\`, `\t`, `\n`, `\r`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from recbole_margo.errors import DataError
from recbole_margo.store.writing import replacing

ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
CHARACTERS = {escape: character for character, escape in ESCAPES.items()}
TEXTS, IMAGES = "texts", "images"
HEADERS = {TEXTS: "item_id\ttext", IMAGES: "item_id\tpath"}
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


def write_texts(folder: Path, dataset_name: str, texts: Mapping[str, str]) -> None:
    """Write `<name>.texts.tsv`.

    Args:
        folder: the dataset's folder.
        dataset_name: name of the dataset.
        texts: item token -> text, in the order of the lines.
    """
    _write(folder / f"{dataset_name}.texts.tsv", HEADERS[TEXTS], texts)


def write_images(folder: Path, dataset_name: str, images: Mapping[str, Path]) -> None:
    """Write `<name>.images.tsv`.

    Args:
        folder: the dataset's folder.
        dataset_name: name of the dataset.
        images: item token -> image file, in the order of the lines.
    """
    absolute = {item: str(path.resolve()) for item, path in images.items()}
    _write(folder / f"{dataset_name}.images.tsv", HEADERS[IMAGES], absolute)


def read_item_lines(folder: Path, dataset_name: str, kind: str) -> dict[str, str]:
    """Read `<name>.texts.tsv` or `<name>.images.tsv`.

    Args:
        folder: the dataset's folder.
        dataset_name: name of the dataset.
        kind: `texts` or `images`.

    Returns:
        Item token -> its text, or the path of its image.

    Raises:
        DataError: the file is missing, is not UTF-8, or has another form.
    """
    path = folder / f"{dataset_name}.{kind}.tsv"
    try:
        header, *rows = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: expected the {kind} of the items, found that this file does not exist. "
            f"Convert the dataset again with its {kind}."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8, found {error}. Convert it again.") from error
    if header != HEADERS[kind]:
        raise DataError(f"{path}, line 1: expected {HEADERS[kind]!r}, found {header[:80]!r}.")
    content: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        item, separator, text = row.partition("\t")
        if not separator or item in content:
            found = f"the item {item!r} twice" if item in content else f"{row[:80]!r}"
            raise DataError(
                f"{path}, line {number}: expected an item and its {kind}, found {found}."
            )
        content[item] = re.sub(r"\\[\\tnr]", lambda match: CHARACTERS[match[0]], text)
    return content


def write_item_table(folder: Path, dataset_name: str, items: pd.DataFrame) -> None:
    """Write `<name>.item`, RecBole's table of items, with one token_seq field a text column.

    Args:
        folder: the dataset's folder.
        dataset_name: name of the dataset.
        items: text columns, by item token.
    """
    fields = pd.DataFrame({"item_id:token": items.index})
    for column in items.columns:
        # The words of a token_seq are separated by single spaces.
        name = re.sub(r"\W+", "_", column).strip("_").lower() or "text"
        if name == "item_id" or f"{name}:token_seq" in fields:
            name = f"{name}_{len(fields.columns)}"
        words = [" ".join(text.split()) for text in items[column]]
        fields[f"{name}:token_seq"] = words
    with replacing(folder / f"{dataset_name}.item") as temporary:
        fields.to_csv(temporary, sep="\t", index=False, lineterminator="\n", encoding="utf-8")


def _write(path: Path, header: str, rows: Mapping[str, str]) -> None:
    escape = str.maketrans(ESCAPES)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f"{header}\n")
        file.writelines(f"{item}\t{text.translate(escape)}\n" for item, text in rows.items())
