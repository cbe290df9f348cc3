"""Reads the texts of items from any table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from recbole_margo.errors import DataError
from recbole_margo.store.tables.cells import TokenCodes, clean_ids, text_of_cell
from recbole_margo.store.tables.column_names import ITEM_NAMES, guess_column, guess_text_columns
from recbole_margo.store.tables.table_file import TableFile


def choose_item_columns(
    table: TableFile, id_column: str | None, text_columns: Sequence[str] | None, preferred: str
) -> tuple[str, list[str], list[str]]:
    """Decide which columns of a table of items hold the ids and the texts.

    Args:
        table: the items.
        id_column: named by the user, or None.
        text_columns: likewise.
        preferred: the item column of the interactions.

    Returns:
        The column of ids, those of texts, and a note on the guesses.

    Raises:
        DataError: a named column does not exist, or none can be guessed.
    """
    guesses: list[str] = []
    listed = f"{', '.join(map(repr, table.columns))} ({table.description})"
    if id_column is None:
        if preferred in table.columns:
            id_column = preferred
        else:
            id_column = guess_column(table.columns, f"{ITEM_NAMES} id")
        if id_column is None:
            raise DataError(
                f"{table.path}: expected a column of item ids, found {listed}. Name it with "
                "--item-id."
            )
        guesses.append(f"--item-id {id_column}")
    if text_columns is None:
        free = [column for column in table.columns if column != id_column]
        text_columns = guess_text_columns(free)
        if not text_columns:
            raise DataError(
                f"{table.path}: expected columns of text, found {listed}, none with a name that "
                "says so. Name them with --text-columns title,description."
            )
        guesses.append(f"--text-columns {','.join(text_columns)}")
    table.check([id_column], "Name another with --item-id.")
    table.check(text_columns, "Name others with --text-columns.")
    notes = [f"guessed {' '.join(guesses)}"] if guesses else []
    return id_column, list(text_columns), notes


def read_item_texts(
    table: TableFile, id_column: str, text_columns: Sequence[str], items: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Read the texts of items.

    Args:
        table: the file.
        id_column: column of item ids.
        text_columns: columns of text.
        items: the tokens that are wanted.

    Returns:
        Text columns by item token, in the order of `items`, without those that have no text; and
        notes on rows that were left out.

    Raises:
        DataError: no row belongs to any of the items.
    """
    codes = TokenCodes()
    pieces = []
    columns = list(dict.fromkeys([id_column, *text_columns]))
    for chunk in table.read(columns, "reading items"):
        table.check_ids(chunk[id_column])
        piece = chunk[list(text_columns)].apply(lambda column: column.map(text_of_cell))
        pieces.append(piece.set_axis(codes.encode(chunk[id_column]), axis=0))
    rows = pd.concat(pieces) if pieces else pd.DataFrame(columns=list(text_columns))
    rows = rows[rows.index >= 0]
    tokens = np.array(clean_ids(codes.tokens, f"{table.path}, column {id_column!r}"), dtype=object)
    rows.index = pd.Index(tokens[rows.index], dtype=object)
    notes = []
    repeated = rows.index.duplicated()
    if repeated.any():
        notes.append(f"{repeated.sum():,} rows of {table.path.name} repeat an item; first kept")
        rows = rows[~repeated]
    check_overlap(rows.index.tolist(), items, table.path)
    strangers = len(rows) - rows.index.isin(items).sum()
    if strangers:
        notes.append(f"{strangers:,} items of {table.path.name} have no interaction; left out")
    rows = rows.reindex([item for item in items if item in rows.index])
    return rows[(rows != "").any(axis=1)], notes


def check_overlap(found: Sequence[str], items: Sequence[str], path: Path) -> None:
    """Check that a file speaks of the same items as the interactions.

    Args:
        found: item ids of the file.
        items: item tokens of the interactions.
        path: the file, for the message.

    Raises:
        DataError: none of the ids is among the tokens.
    """
    if set(found).isdisjoint(items):
        raise DataError(
            f"{path}: expected ids of items with interactions, such as {_some(items)}; found "
            f"{_some(found)}, none in common. Use the same ids in both files."
        )


def _some(values: Sequence[str]) -> str:
    return ", ".join(map(repr, values[:3])) or "none"
