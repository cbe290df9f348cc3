"""A table on disk in whatever format, read in pieces, and its cells as ids and as texts."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_margo.errors import DataError

# What pandas, and RecBole through it, reads as "no value"; such a token could never be read back.
MISSING = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
    | {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)
WHOLE = re.compile(r"([+-]?\d+)(?:\.0*)?")
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
# Half of a character beyond U+FFFF, as text that was cut in its middle has it.
SURROGATES = re.compile("[\ud800-\udfff]")


class TokenCodes:
    """Numbers tokens from 0 in the order of their first appearance."""

    def __init__(self) -> None:
        self._code_of: dict[str, int] = {}

    def encode(self, tokens: pd.Series) -> NDArray[np.int32]:
        """Return the codes [E] of tokens [E]; -1 where there is none (see `MISSING`).

        Args:
            tokens: text, or values whose text is the token; space around it does not count.
        """
        local, unique = pd.factorize(tokens)
        codes = np.full(len(unique) + 1, -1, dtype=np.int32)  # the last is for local == -1
        for position, value in enumerate(unique):
            token = str(value).strip()
            if token not in MISSING:
                codes[position] = self._code_of.setdefault(token, len(self._code_of))
        return codes[local]

    @property
    def tokens(self) -> list[str]:
        """All tokens, by code."""
        return list(self._code_of)


def clean_ids(tokens: list[str], where: str) -> list[str]:
    """Undo what spreadsheets and data frames do to ids: 12 that became 12.0.

    Returns:
        The ids in the same order; whole numbers without a fraction if all ids are whole numbers.
    """
    for token in tokens:
        # RecBole's files are lines of fields; a quote that was never closed ends here too.
        if "\t" in token or len(token.splitlines()) != 1:
            raise DataError(
                f"{where}: expected ids without tabs and line ends, found {token[:80]!r}. Repair "
                "the file: often a quote is opened and not closed."
            )
    if not all(NUMBER.fullmatch(token) for token in tokens):
        return tokens
    whole = [WHOLE.fullmatch(token) for token in tokens]
    fraction = next((token for token, match in zip(tokens, whole, strict=True) if not match), None)
    if fraction is not None:
        raise DataError(
            f"{where}: expected ids, found numbers such as {fraction!r}. Name the "
            "column that holds the ids, or save it as text."
        )
    if not any("." in token for token in tokens):
        return tokens
    return [match.group(1) for match in whole if match]


def text_of_cell(value: Any) -> str:
    """Return the text of a cell: empty for no value, the joined parts of a list."""
    if isinstance(value, str):
        text = whole_characters(value.strip())
        return "" if text in MISSING else text
    if isinstance(value, list | tuple | np.ndarray):
        return " ".join(filter(None, map(text_of_cell, value)))
    if isinstance(value, dict):
        return text_of_cell(list(value.values()))
    return "" if value is None or pd.isna(value) else str(value)


def is_broken(text: str) -> bool:
    """Tell whether a text holds half a character, which no file can."""
    return not text.isascii() and SURROGATES.search(text) is not None


def whole_characters(text: str) -> str:
    """Return a text that can be written: halves of a character joined, or replaced by U+FFFD."""
    if not is_broken(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


CHUNK_ROWS = 100_000
# Beyond it, neighbouring whole numbers are one float.
LARGEST_EXACT = 2.0**53


class TableFile(ABC):
    """A table with named columns.

    Attributes:
        description: the format as it was recognised, for people.
    """

    path: Path
    columns: list[str]
    description: str

    @abstractmethod
    def read(self, columns: Sequence[str], label: str) -> Iterator[pd.DataFrame]:
        """Yield the table in pieces; the index counts the rows from 0."""

    @abstractmethod
    def location(self, row: int) -> str:
        """Return where a row stands in the file, for messages: `line 7`."""

    def notes(self) -> list[str]:
        """Return what a report should say of the rows that were read last."""
        return []

    def read_strictly(self, columns: Sequence[str], label: str) -> Iterator[pd.DataFrame]:
        """Yield pieces as `read`; a `DataError` if there are no rows, or a report tells of some."""
        rows = 0
        for piece in self.read(columns, label):
            rows += len(piece)
            yield piece
        if not rows:
            raise DataError(f"{self.path}: expected rows, found a header only.")
        if notes := self.notes():
            raise DataError(f"{self.path}: expected whole rows, found: {'; '.join(notes)}.")

    def check(self, columns: Sequence[str], remedy: str) -> None:
        """Check that columns exist and are told apart by their names."""
        for column in columns:
            count = self.columns.count(column)
            if count != 1:
                found = "no such column" if not count else f"{count} columns of this name"
                raise DataError(
                    f"{self.path}: expected one column {column!r}, found {found} among "
                    f"{', '.join(map(repr, self.columns))} ({self.description}). {remedy}"
                )

    def check_scalars(self, values: pd.Series) -> None:
        """Check that a piece of a column has no lists and objects, as JSON and parquet allow."""
        if pd.api.types.infer_dtype(values).startswith("mixed"):
            nested = [isinstance(value, list | dict | np.ndarray) for value in values]
            self.refuse(nested, values, "a single value")

    def check_ids(self, values: pd.Series) -> None:
        """Check that a piece of a column can hold ids."""
        self.check_scalars(values)
        if values.dtype == bool or values.dtype == object:
            flags = [isinstance(value, bool | bytes) for value in values]
            self.refuse(flags, values, "an id, a text or a whole number")
            halves = [isinstance(value, str) and is_broken(value) for value in values]
            self.refuse(halves, values, "an id of whole characters (no half an emoji)")
        elif values.dtype.kind == "f":
            large = np.abs(values.to_numpy(dtype=float)) >= LARGEST_EXACT
            self.refuse(large, values, "an id that a float can hold; save the column as text")

    def refuse(
        self, wrong: Sequence[bool] | NDArray[np.bool_], values: pd.Series, expected: str
    ) -> None:
        """Raise if any value is wrong."""
        if np.any(wrong):
            first = int(np.argmax(wrong))
            where = f"{self.path}, column {values.name!r}, {self.location(values.index[first])}"
            raise DataError(
                f"{where}: expected {expected}, found {values.iloc[first]!r}, and "
                f"{int(np.sum(wrong)) - 1} more such rows."
            )
