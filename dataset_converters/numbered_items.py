"""Items numbered from 0: their matrices by row, and the files that say what the numbers mean."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dataset_converters.interaction_converter import only_file
from dataset_converters.item_inputs import Matrix
from recbole_margo.command_line import columns_option, option
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import (
    joined_texts,
    write_images,
    write_item_table,
    write_texts,
    write_user_table,
)
from recbole_margo.store.feature_files import equal_groups, open_matrix, row_blocks, write_features
from recbole_margo.store.tables import open_table
from recbole_margo.store.tables.columns import choose_item_columns, guess_column, read_item_texts
from recbole_margo.store.tables.delimited import DelimitedTable
from recbole_margo.store.tables.table_file import NUMBER, TableFile

CONTENT, MISSING = "content", "missing"
# No product photograph or description serves so many items; a song may.
FEWEST_TO_FILL = 10
# Files that were filled with the mean may have been scaled since.
COSINE_WITH_MEAN = 0.9999


def repeated_rows_option() -> Any:
    """Return the field that says what rows without content are."""
    return option(
        "rows that stand for no content (the mean of the other rows, or one row that "
        f"{FEWEST_TO_FILL} items or more share) are content like any other, or items that miss the "
        "modality",
        CONTENT,
        choices=(CONTENT, MISSING),
    )


def repeated_rows(matrix: Matrix) -> tuple[list[NDArray[np.intp]], list[NDArray[np.intp]]]:
    """Find equal rows; rows of zeros, which are missing already, do not count.

    Args:
        matrix: [rows, D], in memory or memory-mapped.

    Returns:
        The groups of equal rows, the largest first; and those that stand for no content: the mean
        of the other rows, or a row that `FEWEST_TO_FILL` items or more share.
    """
    if matrix.dtype.kind != "f":
        return [], []  # `write_features` says what it has to be
    groups = [
        group for group in equal_groups(matrix, "looking for equal rows") if matrix[group[0]].any()
    ]
    groups.sort(key=len, reverse=True)
    total = np.zeros(matrix.shape[1])
    for rows in row_blocks(len(matrix) if groups else 0, matrix.shape[1]):
        with np.errstate(all="ignore"):
            total += matrix[rows].sum(axis=0, dtype=np.float64)
    return groups, [
        group
        for group in groups
        if len(group) >= FEWEST_TO_FILL or _is_mean(matrix[group[0]], total, len(group))
    ]


def _is_mean(row: NDArray[np.floating], total: NDArray[np.float64], count: int) -> bool:
    """Tell whether a row that occurs `count` times is parallel to the mean of the others."""
    row = row.astype(np.float64)
    with np.errstate(all="ignore"):  # values that are not finite are refused when they are written
        others = total - count * row
        lengths = np.linalg.norm(row) * np.linalg.norm(others)
        return bool(row @ others > COSINE_WITH_MEAN * lengths)


def write_numbered_features(
    folder: Path,
    dataset_name: str,
    modality: str,
    path: Path,
    item_count: int,
    interactions: str,
    repeated: str,
) -> list[str]:
    """Write a matrix whose row r belongs to item r.

    Args:
        interactions: the file that has the items, for the message.
        repeated: `content` or `missing`, see `repeated_rows_option`.

    Returns:
        Notes on rows that are equal.
    """
    matrix = open_matrix(path)
    if len(matrix) != item_count:
        raise DataError(
            f"{path}: expected {item_count} rows, row r for itemID r of {interactions} "
            f"(largest itemID {item_count - 1}), found {len(matrix)}. Take features and "
            "interactions from the same preparation."
        )
    groups, fillers = repeated_rows(matrix)
    rows = np.arange(item_count)
    if fillers and repeated == MISSING:
        rows = np.setdiff1d(rows, np.concatenate(fillers))
        matrix = matrix[rows]
    tokens = [str(row) for row in rows]
    origin = f"{path.parent.resolve().name}/{path.name}"
    write_features(folder, dataset_name, modality, matrix, tokens, origin)
    return _notes_on(path.name, groups, fillers, repeated)


def _notes_on(
    name: str, groups: list[NDArray[np.intp]], fillers: list[NDArray[np.intp]], repeated: str
) -> list[str]:
    if not groups:
        return [f"{name}: no row equals another"] if repeated == MISSING else []
    note = f"{name}: {sum(map(len, groups)):,} rows equal others"
    kind = f"the mean of the other rows, or one row of {FEWEST_TO_FILL} items or more"
    if not fillers:
        return [f"{note}; none stands for no content ({kind})"]
    done = "left out" if repeated == MISSING else "kept, --repeated_rows=missing leaves them out"
    count = sum(map(len, fillers))
    return [f"{note}; {count:,} stand for no content ({kind}), {done}"]


ITEM_IDS = ("i_id_mapping.csv", "item_list.txt")
USER_IDS = ("u_id_mapping.csv", "user_list.txt")
SUFFIX = r"\.(csv|tsv|jsonl?|parquet)(\.gz)?"
METADATA = re.compile(rf"(meta[-_].*|.*[-_]meta(data)?){SUFFIX}", re.IGNORECASE)
ADDRESSES = re.compile(rf"(.*[-_])?urls?{SUFFIX}", re.IGNORECASE)
ADDRESS_NAMES = "url imurl imageurl imgurl imageurls imurls urls imageurlhighres image images img"
# Of a list of addresses, as data frames write it, the first.
ADDRESS = re.compile(r"https?://[^\s\"'\]]+")
OTHER_FILE = "Take it of the same preparation, or move it out of the folder."


@dataclass(frozen=True)
class ItemTables:
    """The files beside numbered interactions: original ids, texts, addresses of images."""

    metadata: Path | None = option(
        "titles, descriptions ... of the items: meta-*.csv and the like", None, metavar="FILE"
    )
    image_addresses: Path | None = option(
        "addresses of the images: *_url.csv, or a column of the metadata", None, metavar="FILE"
    )
    item_id: str | None = option("item column of the metadata (guessed)", None, metavar="COLUMN")
    text_columns: Sequence[str] | None = columns_option(
        "its columns of text, separated by , (guessed)"
    )

    def write(
        self, source: Path, folder: Path, dataset_name: str, users: list[str], items: list[str]
    ) -> list[str]:
        """Write what the source says of its users and items, in the files of the dataset.

        Args:
            users: the numbers that the interactions have; items likewise.

        Returns:
            Notes: which file and column was taken for what.
        """
        notes: list[str] = []
        user_ids = original_ids(source, USER_IDS, users, notes)
        item_ids = original_ids(source, ITEM_IDS, items, notes)
        metadata = _table(self.metadata, METADATA, "--metadata", source)
        texts = pd.DataFrame()
        if metadata is not None:
            column, columns, guesses = choose_item_columns(
                metadata, self.item_id, self.text_columns, "itemID"
            )
            texts = _rows(metadata, column, columns, items, item_ids, notes)
            texts = texts.apply(lambda cells: cells.map(html.unescape))
            known = f"{len(texts):,} of {len(items):,} items have a text"
            notes += [f"{metadata.path.name}: {note}" for note in [*guesses, known]]
            if not texts.empty:
                write_texts(folder, dataset_name, joined_texts(texts))
        own = _table(self.image_addresses, ADDRESSES, "--image_addresses", source)
        addresses = _addresses(own, own or metadata, items, item_ids, notes)
        if addresses and not (folder / f"{dataset_name}.images.tsv").exists():
            write_images(folder, dataset_name, addresses)
        if user_ids:
            write_user_table(folder, dataset_name, user_ids)
        if item_ids:
            texts = texts.reindex(sorted(item_ids, key=int), fill_value="")
            texts.insert(0, "original_id", list(item_ids.values()))
        if not texts.empty:
            write_item_table(folder, dataset_name, texts, ["original_id"])
        return notes


def original_ids(
    folder: Path, names: Sequence[str], numbers: Sequence[str], notes: list[str]
) -> dict[str, str]:
    """Read what numbers stand for, from the first file of these names; none: empty.

    The last column that has all the numbers holds them, the first other one the original ids.
    """
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        return {}
    table = DelimitedTable(path)
    table.check(table.columns, OTHER_FILE)
    rows = pd.concat(table.read(table.columns, f"reading {path.name}"))
    rows = rows.apply(lambda cells: cells.str.strip())
    missing = {column: set(numbers).difference(rows[column]) for column in table.columns}
    number = min(reversed(table.columns), key=lambda column: len(missing[column]))
    if missing[number] or rows[number].duplicated().any():
        twice = rows[number][rows[number].duplicated()].nunique()
        raise DataError(
            f"{path}: expected a column with each of the {len(numbers):,} numbers that the "
            f"interactions have, once; found {len(missing[number]):,} missing, such as "
            f"{min(missing[number], key=int, default='none')}, and {twice:,} repeated in "
            f"{number!r}. {OTHER_FILE}"
        )
    original = next(column for column in table.columns if column != number)
    notes.append(f"{path.name}: column {number} has the numbers, {original} the original ids")
    found = rows.set_index(number)[original]
    return {one: found[one] for one in sorted(numbers, key=int)}


def _table(given: Path | None, names: re.Pattern[str], flag: str, source: Path) -> TableFile | None:
    found = sorted(path for path in source.iterdir() if names.fullmatch(path.name))
    path = given or only_file(found, "table", flag, source)
    return None if path is None else open_table(path)


def _addresses(
    own: TableFile | None,
    table: TableFile | None,
    items: Sequence[str],
    item_ids: Mapping[str, str],
    notes: list[str],
) -> dict[str, str]:
    column = guess_column(table.columns, ADDRESS_NAMES) if table else None
    if table is None or column is None:
        if own is not None:
            listed = ", ".join(map(repr, own.columns))
            raise DataError(f"{own.path}: expected a column url of addresses, found {listed}.")
        return {}
    item, _, _ = choose_item_columns(table, None, [column], "itemID")
    cells = _rows(table, item, [column], items, item_ids, notes if own else [])[column]
    found = {str(number): ADDRESS.search(cell) for number, cell in cells.items()}
    addresses = {number: match[0] for number, match in found.items() if match}
    known = f"{len(addresses):,} of {len(items):,} items have an address of an image"
    notes.append(f"{table.path.name}: items {item}, addresses {column}; {known}")
    return addresses


def _rows(
    table: TableFile,
    id_column: str,
    columns: Sequence[str],
    items: Sequence[str],
    item_ids: Mapping[str, str],
    notes: list[str],
) -> pd.DataFrame:
    """Read texts of items by number, from a table that has their numbers or their original ids."""
    beginning = next(iter(table.read([id_column], "looking at the beginning")), pd.DataFrame())
    ids = {str(cell).strip() for cell in beginning.get(id_column, ())}
    number_of = {original: number for number, original in item_ids.items()}
    by_original = len(ids & number_of.keys()) > len(ids.intersection(items))
    if not number_of and not any(NUMBER.fullmatch(one) for one in ids):
        raise DataError(
            f"{table.path}, column {id_column!r}: expected the numbers of items, found original "
            f"ids such as {min(ids, default='')!r}, and no {ITEM_IDS[0]} beside the interactions "
            f"to translate them. Put it there, or move {table.path.name} out of the folder."
        )
    names = list(number_of) if by_original else items
    rows, more_notes = read_item_texts(table, id_column, columns, names)
    notes += more_notes
    return rows.rename(index=number_of) if by_original else rows
