"""Interactions as a source gives them, before anything is dropped or split, read from any table."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_margo.command_line import option
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import SPLITS
from recbole_margo.store.tables.columns import INTERACTION_NAMES, guess_column
from recbole_margo.store.tables.table_file import MISSING, TableFile, TokenCodes, clean_ids


@dataclass
class RawInteractions:
    """A table of interactions whose users and items are numbers.

    Attributes:
        table: columns user_id and item_id (numbers that stand for tokens) and, if the source has
            them, rating, timestamp and split (0 training, 1 validation, 2 test).
        dropped: reason -> rows of the source that are not in `table`.
    """

    table: pd.DataFrame
    users: list[str]
    items: list[str]
    rows_read: int
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def clean_ids(self, where: dict[str, str]) -> None:
        """Apply `clean_ids` to users and items, and number them again where two became one."""
        for column, tokens in (("user_id", self.users), ("item_id", self.items)):
            cleaned = clean_ids(tokens, where[column])
            codes, unique = pd.factorize(np.array(cleaned, dtype=object))
            changed = [
                token for token, clean in zip(tokens, cleaned, strict=True) if token != clean
            ]
            if changed:
                self.notes.append(
                    f"{len(changed):,} ids of {column} are written with a fraction of zero, such "
                    f"as {changed[0]}, and are read without it; {len(tokens) - len(unique):,} of "
                    "them are the same as another id"
                )
            self.table[column] = codes[self.table[column].to_numpy()]
            tokens[:] = unique

    def item_tokens(self) -> list[str]:
        """Return the items of the table, in the order of their first appearance."""
        return [self.items[code] for code in self.table["item_id"].unique()]

    def with_tokens(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return rows of the table with tokens in the place of numbers."""
        decoded: pd.DataFrame = table.assign(
            user_id=np.array(self.users, dtype=object)[table["user_id"]],
            item_id=np.array(self.items, dtype=object)[table["item_id"]],
        )
        return decoded


OPTIONS = {
    "user_id": "--user",
    "item_id": "--item",
    "rating": "--rating",
    "timestamp": "--timestamp",
    "split": "--split_column",
}


@dataclass(frozen=True)
class Columns:
    """The columns of a table of interactions; None: guessed, or there is none."""

    user_id: str | None = option("of the user", None, flag="--user", metavar="COLUMN")
    item_id: str | None = option("of the item", None, flag="--item", metavar="COLUMN")
    rating: str | None = option("of the rating", None, metavar="COLUMN")
    timestamp: str | None = option("of the timestamp", None, metavar="COLUMN")
    split: str | None = option(
        "of a split that is kept, with values such as train, valid, test or 0, 1, 2",
        None,
        flag=OPTIONS["split"],
        metavar="COLUMN",
    )

    @property
    def chosen(self) -> dict[str, str]:
        """Field -> column, of the fields that have one."""
        return {name: column for name, column in vars(self).items() if column is not None}


REQUIRED = ("user_id", "item_id")
# Above this, a number is no rating: it counts seconds since 1970.
LARGEST_RATING = 1e6
# RecBole keeps ratings as float32, in which more is infinite.
LARGEST_FLOAT = float(np.finfo(np.float32).max)


def choose_columns(table: TableFile, given: Columns) -> tuple[Columns, list[str]]:
    """Decide which column of a table holds which field; return them and a note on the guesses."""
    chosen = given.chosen
    guesses: list[str] = []
    for name, column in chosen.items():
        table.check([column], f"Name another with {OPTIONS[name]}.")
    for name, names in INTERACTION_NAMES.items():
        flag = OPTIONS[name]
        if name not in chosen:
            free = [one for one in table.columns if one not in chosen.values()]
            guess = guess_column(free, names) or _by_position(table, name)
            if guess is not None and guess != given.split:
                table.check([guess], f"Name another with {flag}.")
                chosen[name] = guess
                guesses.append(f"{flag} {guess}")
            elif name in REQUIRED:
                raise DataError(
                    f"{table.path}: expected a column of {name.removesuffix('_id')}s, found "
                    f"{', '.join(map(repr, table.columns))} ({table.description}), none with a "
                    f"name that says so. Name it with {flag}; --no_header and --separator change "
                    "how the file is read."
                )
    if chosen["user_id"] == chosen["item_id"]:
        raise DataError(
            f"{table.path}: expected users and items in two columns, found {chosen['user_id']!r} "
            "for both. Change --user or --item."
        )
    free = [one for one in table.columns if one not in chosen.values()]
    notes = [f"guessed {' '.join(guesses)}"] if guesses else []
    if given.split is None and (found := guess_column(free, SPLIT_NAMES)):
        notes.append(f"the column {found!r} is left out; --split_column {found} keeps its split")
    return Columns(**chosen), notes


def read_interactions(
    table: TableFile,
    of_table: Columns,
    held_out: Mapping[int, TableFile] | None = None,
    date_format: str | None = None,
) -> RawInteractions:
    """Read interactions.

    Args:
        held_out: the tables of validation (1) and test (2), of the same columns, where `table` has
            the training alone.
        date_format: of dates that are not in ISO 8601, as `strptime` has it.
    """
    columns = of_table.chosen
    codes = {name: TokenCodes() for name in REQUIRED}
    pieces: list[pd.DataFrame] = []
    rows_read = 0
    notes: list[str] = []
    said: dict[str, int] = {}
    for label, part in {0: table, **(held_out or {})}.items():
        part.check(list(columns.values()), f"Use the columns of {table.path.name} in it.")
        rows_of_part = 0
        for chunk in part.read(list(dict.fromkeys(columns.values())), "reading interactions"):
            rows_of_part += len(chunk)
            piece = _read_piece(chunk, part, columns, codes, date_format)
            if held_out:
                piece["split"] = label
            elif "split" in columns:
                said |= dict(zip(chunk[columns["split"]].astype(str), piece["split"], strict=True))
            pieces.append(piece[(piece["user_id"] >= 0) & (piece["item_id"] >= 0)])
        if not rows_of_part:
            raise DataError(f"{part.path}: expected interactions, found a header only.")
        rows_read += rows_of_part
        notes += part.notes()
    if said:
        meant = ", ".join(f"{word!r} is {SPLITS[label]}" for word, label in said.items())
        notes.append(f"--split_column {columns['split']}: {meant}")
    together = pd.concat(pieces, ignore_index=True)
    if together.empty:
        raise DataError(
            f"{table.path}: expected interactions, found {rows_read} rows without a user or "
            f"without an item (columns {columns['user_id']!r} and {columns['item_id']!r})."
        )
    if "timestamp" in together:
        together["timestamp"] = _whole_if_possible(together["timestamp"])
    dropped = rows_read - len(together)
    raw = RawInteractions(
        together,
        codes["user_id"].tokens,
        codes["item_id"].tokens,
        rows_read,
        {"no user or no item": dropped} if dropped else {},
        notes,
    )
    raw.clean_ids({name: f"{table.path}, column {columns[name]!r}" for name in REQUIRED})
    return raw


def _read_piece(
    chunk: pd.DataFrame,
    table: TableFile,
    columns: Mapping[str, str],
    codes: dict[str, TokenCodes],
    date_format: str | None,
) -> pd.DataFrame:
    readers: dict[str, Callable[[pd.Series, TableFile], pd.Series]] = {
        "rating": to_numbers,
        "timestamp": functools.partial(to_seconds, date_format=date_format),
        "split": to_labels,
    }
    piece = pd.DataFrame(index=chunk.index)
    for name, column in columns.items():
        if name in codes:
            table.check_ids(chunk[column])
            piece[name] = codes[name].encode(chunk[column])
        else:
            piece[name] = readers[name](chunk[column], table)
    read: pd.DataFrame = piece
    return read


# The words that people use for training, validation and test.
SPLIT_VALUES = (
    "train training tr trn 0",
    "valid validation val vali vld dev development 1",
    "test testing te tst heldout holdout 2",
)
LABELS = {word: label for label, words in enumerate(SPLIT_VALUES) for word in words.split()}
NO_WORD = re.compile(r"\.0+$|[^a-z0-9.]")
SPLIT_NAMES = "split xlabel subset partition"


def to_labels(values: pd.Series, table: TableFile) -> pd.Series:
    """Return 0 for training, 1 for validation, 2 for test, as the words of a split say it."""
    table.check_scalars(values)
    words = values.astype(str).str.lower().str.replace(NO_WORD, "", regex=True)
    labels = words.map(LABELS)
    table.refuse(labels.isna().to_numpy(), values, "train, valid or test, or 0, 1 or 2")
    return labels.astype(np.int8)


def to_numbers(values: pd.Series, table: TableFile) -> pd.Series:
    """Return numbers, NaN where there is no value."""
    table.check_scalars(values)
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    wrong = ~(np.abs(numbers.to_numpy()) <= LARGEST_FLOAT) & ~_missing(values)
    table.refuse(wrong, values, "a number")
    return numbers


# Dates that people write, and times of the day after them.
DAYS = ("%d.%m.", "%d/%m/", "%m/%d/", "%d-%m-", "%m-%d-")
YEARS = ("%Y", "%y")
CLOCKS = ("", " %H:%M", " %H:%M:%S", ", %H:%M", ", %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")


def date_formats_of(table: TableFile, column: str) -> list[str]:
    """Return those of the usual formats of dates that read all rows of a column."""
    fitting = ["".join(parts) for parts in itertools.product(DAYS, YEARS, CLOCKS)]
    for chunk in table.read([column], "looking at dates"):
        values = chunk[column].mask(_missing(chunk[column])).dropna().drop_duplicates()
        fitting = [
            each
            for each in fitting
            if pd.to_datetime(values, errors="coerce", format=each).notna().all()
        ]
        if not fitting:
            break
    return fitting


def _refuse_dates(wrong: NDArray[np.bool_], values: pd.Series, table: TableFile) -> None:
    """Refuse dates in another form than ISO 8601, with the option that would read them."""
    try:
        expected = "a number or a date in ISO 8601, such as 2024-05-31 or 2024-05-31T18:00:00"
        table.refuse(wrong, values, expected)
    except DataError as error:
        fitting = [f"--date_format '{each}'" for each in date_formats_of(table, str(values.name))]
        advice = "Give a format with --date_format, such as '%d.%m.%Y %H:%M'."
        if len(fitting) == 1:
            advice = f"{fitting[0]} reads all rows."
        elif fitting:
            advice = f"Both {' and '.join(fitting)} read all rows: give the one that is meant."
        raise DataError(f"{error} {advice}") from error


def to_seconds(values: pd.Series, table: TableFile, date_format: str | None = None) -> pd.Series:
    """Return times as numbers: as they are, or the seconds since 1970 of dates.

    Without `date_format` times are numbers, or dates in ISO 8601.
    """
    table.check_scalars(values)
    missing = _missing(values)
    is_date = pd.api.types.is_datetime64_any_dtype(values.dtype)
    if not is_date and date_format is None:
        numbers = pd.to_numeric(values, errors="coerce").astype(float)
        wrong = ~np.isfinite(numbers.to_numpy()) & ~missing
        if wrong.sum() <= (~missing).sum() / 2:
            table.refuse(wrong, values, "a number, as in most rows")
            return numbers
    format_ = None if is_date else date_format or "ISO8601"
    dates = pd.to_datetime(values.mask(missing), errors="coerce", utc=True, format=format_)
    wrong = dates.isna().to_numpy() & ~missing
    if date_format is None:
        _refuse_dates(wrong, values, table)
    table.refuse(wrong, values, f"a date in the form {date_format!r} of --date_format")
    seconds: pd.Series = (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    return seconds


def is_numbered(table: TableFile) -> bool:
    """Tell whether a table has no header, so that its columns are named 1, 2, ..."""
    return table.columns == [str(position + 1) for position in range(len(table.columns))]


def _by_position(table: TableFile, field: str) -> str | None:
    """Guess in a table without a header: user, item, then a rating or time by its size."""
    if not is_numbered(table):
        return None
    if field in REQUIRED:
        return table.columns[REQUIRED.index(field)]
    rest = table.columns[2:4]
    first = next(table.read(rest, "looking at the beginning"), None) if rest else None
    for column in rest:
        numbers = pd.to_numeric(first[column], errors="coerce") if first is not None else None
        if numbers is None or numbers.isna().all():
            continue
        if (numbers.median() > LARGEST_RATING) == (field == "timestamp"):
            return column
    return None


def _missing(values: pd.Series) -> NDArray[np.bool_]:
    return (values.isna() | values.isin(MISSING)).to_numpy()


def _whole_if_possible(numbers: pd.Series) -> pd.Series:
    # Beyond 2^53 a float is no longer the number that was read.
    is_whole = (numbers.abs() < 2**53).all() and (numbers == np.floor(numbers)).all()
    return numbers.astype(np.int64) if is_whole else numbers


# Times since 1970 between 1973 and 5138, by their unit.
UNITS = {
    "seconds": (1e8, 1e11),
    "milliseconds": (1e11, 1e14),
    "microseconds": (1e14, 1e17),
    "nanoseconds": (1e17, 1e20),
}


def value_notes(table: pd.DataFrame) -> list[str]:
    """Return notes on ratings and times that are missing, and on times of several units."""
    notes = []
    for column in ("rating", "timestamp"):
        absent = int(table[column].isna().sum()) if column in table else 0
        if absent:
            notes.append(f"{absent:,} interactions have no {column} (empty, NaN or the like)")
    if "timestamp" not in table:
        return notes
    sizes = np.abs(table["timestamp"].to_numpy(dtype=float))
    counts = {
        unit: int(((sizes >= low) & (sizes < high)).sum()) for unit, (low, high) in UNITS.items()
    }
    found = {unit: count for unit, count in counts.items() if count}
    if len(found) > 1:
        listed = ", ".join(f"{count:,} like {unit}" for unit, count in found.items())
        notes.append(
            f"times of several units: {listed}; they are kept as they are, so that an order or a "
            "split by time is wrong. Bring them to one unit"
        )
    return notes
