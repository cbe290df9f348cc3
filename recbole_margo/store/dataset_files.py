r"""Interactions, texts and images of a dataset's folder.

`<name>.<split>.inter`, `<name>.item` and `<name>.user` are RecBole's. `<name>.texts.tsv` has the
columns item_id and text, `<name>.images.tsv` the columns item_id and path (absolute, or an address
that begins with http:// or https://). Both are UTF-8 with a header and a line an item; a backslash,
tab, line feed or carriage return inside a field is written as `\\`, `\t`, `\n`, `\r`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from recbole_margo.errors import DataError
from recbole_margo.store.writing import replacing

SPLITS = ("train", "valid", "test")
FIELD_TYPES = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}


def write_splits(folder: Path, dataset_name: str, splits: Mapping[str, pd.DataFrame]) -> None:
    """Write one benchmark `.inter` file a split."""
    for split in SPLITS:
        table = splits[split]
        if table.empty:
            raise DataError(
                f"{dataset_name}: expected interactions in each of {', '.join(SPLITS)}, found none "
                f"in {split}. Split the source so that each part has some."
            )
        header = [f"{field}:{FIELD_TYPES[field]}" for field in table.columns]
        table.to_csv(
            folder / f"{dataset_name}.{split}.inter",
            sep="\t",
            header=header,
            index=False,
            lineterminator="\n",
        )


def read_splits(folder: Path, dataset_name: str) -> dict[str, pd.DataFrame]:
    """Read the columns user_id and item_id of every `.inter` file, as text, by split."""
    columns = ["user_id:token", "item_id:token"]
    return {
        split: pd.read_csv(
            folder / f"{dataset_name}.{split}.inter",
            sep="\t",
            usecols=columns,
            dtype=str,
            na_filter=False,  # an item may be called NA
        ).rename(columns=lambda column: column.partition(":")[0])
        for split in SPLITS
    }


ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
CHARACTERS = {escape: character for character, escape in ESCAPES.items()}
TEXTS, IMAGES = "texts", "images"
HEADERS = {TEXTS: "item_id\ttext", IMAGES: "item_id\tpath"}
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


def files_by_name(folder: Path, suffixes: Collection[str]) -> tuple[dict[str, Path], int]:
    """Find the files of items, in a folder and those in it; a `DataError` if there are none.

    Returns:
        Name without its ending -> the first such file by path; and how many others have one.
    """
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in suffixes and path.is_file()
    ]
    if not found:
        raise DataError(
            f"{folder}: expected files named by item ({', '.join(sorted(suffixes))}), found none."
        )
    by_name: dict[str, Path] = {}
    for path in found:
        by_name.setdefault(path.stem, path)
    return by_name, len(found) - len(by_name)


def joined_texts(texts: pd.DataFrame) -> dict[str, str]:
    """Return the text of every item: its cells, joined by spaces."""
    rows = zip(texts.index, texts.to_numpy(), strict=True)
    return {item: " ".join(filter(None, cells)) for item, cells in rows}


def write_texts(folder: Path, dataset_name: str, texts: Mapping[str, str]) -> None:
    """Write `<name>.texts.tsv`."""
    _write(folder / f"{dataset_name}.texts.tsv", HEADERS[TEXTS], texts)


ADDRESS = re.compile(r"https?://\S+")


def write_images(folder: Path, dataset_name: str, images: Mapping[str, Path | str]) -> None:
    """Write `<name>.images.tsv`: of each item a file, or an address that is still to be fetched."""
    places = {
        item: image if isinstance(image, str) else str(image.resolve())
        for item, image in images.items()
    }
    _write(folder / f"{dataset_name}.images.tsv", HEADERS[IMAGES], places)


def read_item_lines(folder: Path, dataset_name: str, kind: str) -> dict[str, str]:
    """Read `<name>.texts.tsv` or `<name>.images.tsv`.

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


def write_item_table(
    folder: Path, dataset_name: str, items: pd.DataFrame, ids: Sequence[str] = ()
) -> None:
    """Write `<name>.item`, RecBole's table of items.

    Args:
        items: columns of text by item token; each becomes a token_seq field.
        ids: those of the columns that hold one other id each; they become token fields.
    """
    fields = pd.DataFrame({"item_id:token": items.index})
    for column in items.columns:
        name = re.sub(r"\W+", "_", column).strip("_").lower() or "text"
        if name == "item_id" or {f"{name}:token_seq", f"{name}:token"} & set(fields):
            name = f"{name}_{len(fields.columns)}"
        # The words of a token_seq are separated by single spaces.
        words = [" ".join(text.split()) for text in items[column]]
        fields[f"{name}:{'token' if column in ids else 'token_seq'}"] = words
    _write_fields(folder / f"{dataset_name}.item", fields)


def write_user_table(folder: Path, dataset_name: str, original: Mapping[str, str]) -> None:
    """Write `<name>.user`, RecBole's table of users, with the id that each has elsewhere."""
    columns = {"user_id:token": list(original), "original_id:token": list(original.values())}
    _write_fields(folder / f"{dataset_name}.user", pd.DataFrame(columns))


def _write_fields(path: Path, fields: pd.DataFrame) -> None:
    with replacing(path) as temporary:
        fields.to_csv(temporary, sep="\t", index=False, lineterminator="\n", encoding="utf-8")


def _write(path: Path, header: str, rows: Mapping[str, str]) -> None:
    escape = str.maketrans(ESCAPES)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f"{header}\n")
        file.writelines(f"{item}\t{text.translate(escape)}\n" for item, text in rows.items())
