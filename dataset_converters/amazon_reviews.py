"""Reads Amazon reviews or ratings of any edition, tens of millions of them, in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dataset_converters.interactions import RawInteractions, is_numbered, to_numbers
from recbole_margo.errors import DataError
from recbole_margo.store.reading import reading
from recbole_margo.store.tables import open_table
from recbole_margo.store.tables.table_file import LARGEST_EXACT, MISSING, TableFile, TokenCodes

# The names of user, item, rating and time: first the edition of 2023, then those before.
NAMES = (
    ("user_id", "parent_asin", "rating", "timestamp"),
    ("reviewerID", "asin", "overall", "unixReviewTime"),
)
# What the first files of 2023 called the time.
EARLY_TIME = "sort_timestamp"
ASIN_LENGTH = 10
HEAD_ROWS = 1000
# Without space, and without half of a character.
ASCII_WORD, WORD = re.compile("[!-~]+"), re.compile("[^\\s\ud800-\udfff]+")


@dataclass
class ReviewInteractions(RawInteractions):
    """Interactions that keep the user of each row as bytes: a dictionary of users is too large.

    Attributes:
        user_ids: in pieces; the index of the table counts through them.
    """

    user_ids: list[NDArray[np.bytes_]] = field(default_factory=list)

    def with_tokens(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return rows of the table with tokens in the place of numbers."""
        rows = table.index.to_numpy()
        starts = np.cumsum([0, *map(len, self.user_ids)])
        pieces = np.searchsorted(starts, rows, side="right") - 1
        users = np.empty(len(table), dtype=object)
        for number, piece in enumerate(self.user_ids):
            here = pieces == number
            users[here] = piece[rows[here] - starts[number]].astype(str)
        items = np.array(self.items, dtype=object)[table["item_id"]]
        decoded: pd.DataFrame = table.assign(user_id=users, item_id=items)
        return decoded


def read_reviews(path: Path) -> ReviewInteractions:
    """Read reviews piece by piece.

    Args:
        path: JSON lines of any edition; or ratings as csv, with the header of 2023 or without one
            (2014: user, item, rating, time; 2018: item, user, rating, time). Plain or gzip.
    """
    with reading(path) as stream:
        has_header = NAMES[0][1].encode() in stream.read(64)
    table = open_table(path, ",", header=has_header)
    columns = _columns_of(table)
    codes, rows_read = TokenCodes(), 0
    user_ids: list[NDArray[np.bytes_]] = []
    hashes: list[NDArray[np.uint64]] = []
    pieces: list[pd.DataFrame] = []
    for chunk in table.read(columns, "reading reviews"):
        rows_read += len(chunk)
        for column in columns:
            table.check_scalars(chunk[column])
        rows = chunk[(chunk.notna() & ~chunk.isin(MISSING)).all(axis=1)]
        users, items, ratings, times = (rows[column] for column in columns)
        for ids, word, expected in (
            (users, ASCII_WORD, "a user, an id of ASCII characters without spaces"),
            (items, WORD, "an item, an id of whole characters without spaces"),
        ):
            wrong = [not isinstance(one, str) or word.fullmatch(one) is None for one in ids]
            table.refuse(np.array(wrong, dtype=bool), ids, expected)
        seconds = to_numbers(times, table)
        exact = (seconds == np.floor(seconds)) & (seconds.abs() < LARGEST_EXACT)
        table.refuse(~exact.to_numpy(), times, "a time in whole seconds or milliseconds")
        user_ids.append(np.array(users.to_list(), dtype=np.bytes_))
        # Two users of one hash, about one pair in 10^12, would only be filtered as one.
        hashes.append(pd.util.hash_array(users.to_numpy(dtype=object)))
        of_rows = {
            "item_id": codes.encode(items),
            "rating": to_numbers(ratings, table).to_numpy(dtype=np.float32),
            "timestamp": seconds.to_numpy(dtype=np.int64),
        }
        pieces.append(pd.DataFrame(of_rows))
    if notes := table.notes():
        raise DataError(f"{path}: expected whole rows, found: {'; '.join(notes)}.")
    together = pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame()
    if together.empty:
        raise DataError(f"{path}: expected interactions, found {rows_read} incomplete rows.")
    numbers = pd.factorize(np.concatenate(hashes))[0].astype(np.int32)
    together.insert(0, "user_id", numbers)
    dropped = rows_read - len(together)
    reasons = {"no user, item, rating or time": dropped} if dropped else {}
    return ReviewInteractions(together, [], codes.tokens, rows_read, reasons, user_ids=user_ids)


def _columns_of(table: TableFile) -> Sequence[str]:
    """Return the columns of user, item, rating and time."""
    names = next((some for some in NAMES if some[1] in table.columns), None)
    if names is not None:
        is_early = names[3] not in table.columns and EARLY_TIME in table.columns
        return (*names[:3], EARLY_TIME) if is_early else names
    if not is_numbered(table) or len(table.columns) < len(NAMES[0]):
        raise DataError(
            f"{table.path}: expected the fields of a review, "
            f"{' or '.join(', '.join(some) for some in NAMES)}, or ratings as user, item, rating "
            f"and time separated by commas, found {', '.join(map(repr, table.columns))} "
            f"({table.description}). Is this the file of reviews?"
        )
    # The length of an ASIN tells items from users, whose order depends on the edition.
    users, items, ratings, times = table.columns[:4]
    head = next(iter(table.read([users, items], "looking at the beginning"))).head(HEAD_ROWS)
    lengths = [set(head[column].str.len()) for column in (users, items)]
    if lengths[0] == {ASIN_LENGTH} != lengths[1]:
        users, items = items, users
    return users, items, ratings, times
