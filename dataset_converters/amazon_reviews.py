"""Reads Amazon reviews or ratings of any edition, tens of millions of them, in bounded memory."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dataset_converters.interactions import RawInteractions
from recbole_margo.errors import DataError
from recbole_margo.store.reading import lines, reading, text_of
from recbole_margo.store.tables.json_lines import array_records, is_array, parse_record
from recbole_margo.store.tables.table_file import MISSING as NO_VALUES
from recbole_margo.store.tables.table_file import is_broken

# The names of user, item, rating and time: first the edition of 2023, then those before.
NAMES = (
    ("user_id", "parent_asin", "rating", "timestamp"),
    ("reviewerID", "asin", "overall", "unixReviewTime"),
)
# What the first files of 2023 called the time.
EARLY_TIME = "sort_timestamp"
ASIN_LENGTH = 10
HEAD_LINES = 1000
PIECE_ROWS = 1 << 20
LARGEST_RATING = float(np.finfo(np.float32).max)
MISSING = NO_VALUES | {None}

Row = tuple[Any, Any, Any, Any]


@dataclass
class ReviewInteractions(RawInteractions):
    """Interactions that keep the user of each row as bytes: a dictionary of users is too large.

    Attributes:
        user_ids: pieces of `PIECE_ROWS` rows; the index of the table counts through them.
    """

    user_ids: list[NDArray[np.bytes_]] = field(default_factory=list)

    def with_tokens(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return rows of the table with tokens in the place of numbers."""
        pieces, places = np.divmod(table.index.to_numpy(), PIECE_ROWS)
        users = np.empty(len(table), dtype=object)
        for number, piece in enumerate(self.user_ids):
            here = pieces == number
            users[here] = piece[places[here]].astype(str)
        items = np.array(self.items, dtype=object)[table["item_id"]]
        decoded: pd.DataFrame = table.assign(user_id=users, item_id=items)
        return decoded


def read_reviews(path: Path) -> ReviewInteractions:
    """Read reviews line by line.

    Args:
        path: JSON lines of any edition; or ratings as csv, with the header of 2023 or without one
            (2014: user, item, rating, time; 2018: item, user, rating, time). Plain or gzip.
    """
    with reading(path) as stream:
        if is_array(stream.peek(64)[:64]):  # type: ignore[attr-defined]
            return _collect(_rows_of_json(array_records(stream, path), path), path)
        head = [line for _, line in zip(range(HEAD_LINES), lines(stream, path), strict=False)]
    if not head:
        raise DataError(f"{path}: expected reviews, found an empty file. Fetch it again.")
    with reading(path, "reading reviews") as stream:
        numbered = lines(stream, path)
        if head[0][1].lstrip(b"\xef\xbb\xbf \t")[:1] == b"{":
            parsed = ((number, parse_record(line, path, number)) for number, line in numbered)
            return _collect(_rows_of_json(parsed, path), path)
        return _collect(_rows_of_csv(numbered, path, [line for _, line in head]), path)


def _rows_of_json(parsed: Iterable[tuple[int, Any]], path: Path) -> Iterator[tuple[int, Row]]:
    names: tuple[str, str, str, str] | None = None
    for number, record in parsed:
        if not isinstance(record, dict):
            raise DataError(f"{path}, object {number}: expected an object, found {record!r:.80}.")
        if names is None:
            names = next((some for some in NAMES if some[1] in record), None)
            if names is None:
                raise DataError(
                    f"{path}, line {number}: expected the fields of a review, "
                    f"{' or '.join(', '.join(some) for some in NAMES)}, found "
                    f"{', '.join(map(repr, record)) or 'none'}. Is this the file of reviews?"
                )
            if names[3] not in record and EARLY_TIME in record:
                names = (*names[:3], EARLY_TIME)
        user, item, rating, time = map(record.get, names)
        yield number, (user, item, rating, time)


def _rows_of_csv(
    numbered: Iterable[tuple[int, bytes]], path: Path, head: list[bytes]
) -> Iterator[tuple[int, Row]]:
    first = text_of(head[0], path, 1).strip().split(",")
    has_header = set(NAMES[0]) <= set(first)
    user, item, rating, time = map(first.index, NAMES[0]) if has_header else (0, 1, 2, 3)
    if not has_header:
        if len(first) < len(NAMES[0]):
            raise DataError(
                f"{path}: expected reviews as JSON, or ratings as user, item, rating and time "
                f"separated by commas, found the line {','.join(first)[:80]!r}. Is this the file "
                "of reviews?"
            )
        # The length of an ASIN tells items from users, whose order depends on the edition.
        fields = [text_of(line, path, place).split(",") for place, line in enumerate(head, 1)]
        lengths = [{len(row[column]) for row in fields if len(row) == 4} for column in (0, 1)]
        if lengths[0] == {ASIN_LENGTH} != lengths[1]:
            user, item = item, user
    for number, line in numbered:
        if has_header and number == 1:
            continue
        values = text_of(line, path, number).strip().split(",")
        if len(values) != len(first):
            raise DataError(
                f"{path}, line {number}: expected {len(first)} fields separated by commas, found "
                f"{len(values)}: {','.join(values)[:80]!r}. Repair or remove the line."
            )
        yield number, (values[user], values[item], values[rating], values[time])


def _collect(rows: Iterable[tuple[int, Row]], path: Path) -> ReviewInteractions:
    collected = _Columns()
    rows_read = 0
    for number, (user, item, rating, time) in rows:
        rows_read += 1
        try:
            if not MISSING.isdisjoint((user, item, rating, time)):
                continue
            if user.split() != [user] or item.split() != [item]:
                raise ValueError("an id with a space")
            if is_broken(item):
                raise ValueError("an id with half a character")
            value, moment = float(rating), int(time)
            if math.isnan(value):
                continue
            if not abs(value) <= LARGEST_RATING or (isinstance(time, float) and moment != time):
                raise ValueError("not finite, or a fraction of a second")
            collected.append(user, item, value, moment)
        except (ValueError, TypeError, OverflowError, AttributeError) as error:
            raise DataError(
                f"{path}, line {number}: expected a user, an item, a rating and a time in whole "
                f"seconds or milliseconds, found {(user, item, rating, time)!r} ({error}). Repair "
                "or remove the line."
            ) from error
    raw = collected.finish(rows_read)
    if raw.table.empty:
        raise DataError(f"{path}: expected interactions, found {rows_read} incomplete rows.")
    return raw


class _Columns:
    """The columns as they grow: numbers only, in pieces, and the users as bytes."""

    def __init__(self) -> None:
        self._code_of: dict[str, int] = {}
        self._users: list[bytes] = []
        self._user_ids: list[NDArray[np.bytes_]] = []
        self._hashes = array("q")
        self._items = array("i")
        self._ratings = array("f")
        self._times = array("q")

    def append(self, user: str, item: str, rating: float, time: int) -> None:
        self._users.append(user.encode("ascii"))
        # Two users of one hash, about one pair in 10^12, would only be filtered as one.
        self._hashes.append(hash(user))
        self._items.append(self._code_of.setdefault(item, len(self._code_of)))
        self._ratings.append(rating)
        self._times.append(time)
        if len(self._users) == PIECE_ROWS:
            self._close_piece()

    def finish(self, rows_read: int) -> ReviewInteractions:
        self._close_piece()
        users = pd.factorize(np.frombuffer(self._hashes, dtype=np.int64))[0].astype(np.int32)
        self._hashes = array("q")
        table = pd.DataFrame(
            {
                "user_id": users,
                "item_id": np.frombuffer(self._items, dtype=np.int32),
                "rating": np.frombuffer(self._ratings, dtype=np.float32),
                "timestamp": np.frombuffer(self._times, dtype=np.int64),
            },
            copy=False,
        )
        dropped = rows_read - len(table)
        return ReviewInteractions(
            table,
            [],
            list(self._code_of),
            rows_read,
            {"no user, item, rating or time": dropped} if dropped else {},
            user_ids=self._user_ids,
        )

    def _close_piece(self) -> None:
        self._user_ids.append(np.array(self._users, dtype=np.bytes_))
        self._users = []
