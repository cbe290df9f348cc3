"""The items of a dataset, and the raw content of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import recbole

from recbole_margo.data.bundled import BUNDLED_DATASET, ensure_bundled_features
from recbole_margo.encode.encoding_request import ItemColumns
from recbole_margo.errors import DataError, DatasetNotFoundError, FeatureError
from recbole_margo.store.dataset_files import (
    ADDRESS,
    IMAGE_SUFFIXES,
    SPLITS,
    files_by_name,
    read_item_lines,
)
from recbole_margo.store.reading import require_regular_file
from recbole_margo.store.tables import open_table
from recbole_margo.store.tables.columns import (
    check_overlap,
    choose_item_columns,
    guess_column,
    texts_by_item,
)

SUFFIXES = {
    "text": frozenset({".txt"}),
    "image": IMAGE_SUFFIXES,
    "audio": frozenset({".wav", ".flac", ".ogg", ".mp3"}),
}
PATH_NAMES = "path file filename imagepath imagefile image audiopath audiofile audio poster cover"
# Files of one item; what is larger is taken for a mistake rather than read into memory.
LARGEST_FILE_BYTES = 1 << 28
GUESSED = ItemColumns()


class UnreadableContentError(FeatureError):
    """The text, image or sound of one item cannot be read; the item then misses the modality."""


@dataclass(frozen=True)
class ItemSource:
    """The raw content of items.

    Attributes:
        contents: item token -> its text, or the file that holds its content.
        origin: where the contents were found, for people.
        unknown: how many items the source has that the dataset has not.
    """

    contents: dict[str, str | Path]
    origin: str
    unknown: int

    @classmethod
    def find(
        cls,
        kind: str,
        given: Path | None,
        folders: tuple[Path, Path],
        dataset: str,
        items: Sequence[str],
        columns: ItemColumns = GUESSED,
    ) -> ItemSource:
        """Find the contents of a dataset's items.

        Args:
            kind: `text`, `image` or `audio`.
            given: a folder of files named by item, or a table; None takes the converter's table
                `<name>.texts.tsv` or `<name>.images.tsv`, or for texts RecBole's `<name>.item`.
            folders: of the dataset's features and of its interactions.

        Raises:
            DataError: there is no source, it is damaged, or it knows none of the items.
        """
        if given is None:
            found = cls._of_dataset(kind, folders, dataset, columns)
        else:
            found = cls.of_path(kind, given, columns)
        contents = found.contents
        check_overlap(list(contents), items, given or Path(found.origin))
        known = {item: contents[item] for item in items if item in contents}
        return cls(known, found.origin, len(contents) - len(known))

    @classmethod
    def of_path(cls, kind: str, given: Path, columns: ItemColumns = GUESSED) -> ItemSource:
        """Return all contents of a folder or a table; arguments and errors are those of `find`."""
        if given.is_dir():
            return cls(dict(files_by_name(given, SUFFIXES[kind])[0]), given.name, 0)
        return cls(_rows_of(given, kind, columns), given.name, 0)

    @classmethod
    def _of_dataset(
        cls, kind: str, folders: tuple[Path, Path], dataset: str, columns: ItemColumns
    ) -> ItemSource:
        features, interactions = folders
        table = {"text": "texts", "image": "images"}.get(kind, "")
        lines, items_file = features / f"{dataset}.{table}.tsv", interactions / f"{dataset}.item"
        if table and lines.is_file():
            found: dict[str, str | Path] = dict(read_item_lines(features, dataset, table))
            if kind == "image":
                _refuse_addresses(list(map(str, found.values())), lines)
                found = {item: Path(path) for item, path in found.items()}
            return cls(found, lines.name, 0)
        if kind == "text" and items_file.is_file():
            return cls(_rows_of_recbole(items_file, columns.contents), items_file.name, 0)
        looked = [str(lines)] * bool(table) + [str(items_file)] * (kind == "text")
        found_none = f"found neither it nor {looked[1]}" if looked[1:] else "found no such file"
        expected = f"{looked[0]}, {found_none}" if looked else "--source, found none"
        raise DataError(
            f"{dataset}: expected raw content of kind {kind} in {expected}. Give --source: a "
            f"folder of files named by item ({', '.join(sorted(SUFFIXES[kind]))}), or a table."
        )


def read_content(content: str | Path) -> bytes:
    """Return the bytes of an item's content, texts in UTF-8.

    Raises:
        UnreadableContentError: the file is missing, unreadable or too large, or has no end, such
            as a pipe or a device.
    """
    if isinstance(content, str):
        return content.encode("utf-8", errors="replace")
    try:
        require_regular_file(content)
        with content.open("rb") as file:
            found = file.read(LARGEST_FILE_BYTES + 1)
    except DataError as error:
        raise UnreadableContentError(str(error)) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableContentError(f"expected a file, found: {reason}") from error
    if len(found) > LARGEST_FILE_BYTES:
        raise UnreadableContentError(
            f"{content}: expected at most {LARGEST_FILE_BYTES >> 20} MiB, found more"
        )
    return found


def decode_text(content: bytes) -> str:
    """Return the text of UTF-8 bytes, stripped; an `UnreadableContentError` if there is none."""
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UnreadableContentError(
            f"expected UTF-8, found the byte {content[error.start]:#04x}"
        ) from error
    if not text:
        raise UnreadableContentError("expected a text, found none")
    return text


def _refuse_addresses(images: Sequence[str], path: Path) -> None:
    addresses = [image for image in images if ADDRESS.fullmatch(image)]
    if addresses:
        raise DataError(
            f"{path}: expected image files, found {len(addresses):,} addresses, such as "
            f"{addresses[0]}. Fetch them into a folder, named by item as in 17.jpg, and give the "
            "folder with --source (audit and bundle: --images)."
        )


def _rows_of(path: Path, kind: str, columns: ItemColumns) -> dict[str, str | Path]:
    table, chosen = open_table(path, encoding=columns.encoding), columns.contents
    if kind != "text" and not chosen:
        column = guess_column(table.columns, PATH_NAMES)
        if column is None:
            raise DataError(
                f"{path}: expected a column of file names, found {', '.join(table.columns)} "
                f"({table.description}). Name it with --path_column."
            )
        chosen = [column]
    item_id, contents, _ = choose_item_columns(table, columns.item_id, chosen, "item_id")
    if kind == "text":
        return dict(texts_by_item(table, item_id, contents))
    # A path in a table is meant from where the table is.
    rows = texts_by_item(table, item_id, contents[:1])
    return {item: path.parent / name for item, name in rows.items()}


def _rows_of_recbole(path: Path, columns: Sequence[str] | None) -> dict[str, str | Path]:
    table = open_table(path, separator="\t", header=True)
    by_name = {column.partition(":")[0]: column for column in table.columns}
    if columns:
        texts = [by_name.get(column, column) for column in columns]
    else:
        texts = [column for column in table.columns if column.endswith(":token_seq")]
    if not texts:
        raise DataError(
            f"{path}: expected columns of the type token_seq, found {', '.join(table.columns)}. "
            "Name the columns of text with --text_columns."
        )
    table.check([by_name.get("item_id", "item_id")], "--item_id")
    table.check(texts, "--text_columns")
    return dict(texts_by_item(table, by_name["item_id"], texts))


def dataset_folders(data_path: Path, dataset: str) -> tuple[Path, Path]:
    """Return where a dataset's features go, and where its interactions are.

    They differ only for the dataset that RecBole brings in its own package; the features that this
    project makes of it are made, so that more can be added to them.
    """
    folder = data_path / dataset
    if dataset != BUNDLED_DATASET:
        return folder, folder
    ensure_bundled_features(folder)
    return folder, Path(recbole.__path__[0]) / "dataset_example" / BUNDLED_DATASET


def read_items(folder: Path, dataset: str) -> list[str]:
    """Return the tokens of all items with interactions, in the order of the files.

    Raises:
        DatasetNotFoundError: there is no such file.
        DataError: a file is damaged, or has no column of items.
    """
    usual = [folder / f"{dataset}.inter", *(folder / f"{dataset}.{s}.inter" for s in SPLITS)]
    files = [path for path in usual if path.is_file()]
    files += sorted(set(folder.glob(f"{dataset}.*.inter")) - set(files))
    if not files:
        raise DatasetNotFoundError(
            f"{folder}: expected the dataset {dataset!r}, found no file {dataset}.inter or "
            f"{dataset}.train.inter there. Convert it first: `recbole-margo convert tabular` for "
            "your own tables, other sources in `recbole-margo convert --help`; or give "
            "the folder of all datasets with --data_path."
        )
    columns = []
    for path in files:
        table = open_table(path, separator="\t", header=True)
        column = next((c for c in table.columns if c.partition(":")[0] == "item_id"), "item_id")
        table.check([column], "item_id")
        columns += [piece[column] for piece in table.read([column], f"reading {path.name}")]
    items: list[str] = pd.concat(columns).drop_duplicates().astype(str).tolist()
    return items
