"""A table on disk, whatever its format, read in pieces that fit into memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_margo.errors import DataError
from recbole_margo.store.tables.cells import is_broken

CHUNK_ROWS = 500_000
# Beyond it, neighbouring whole numbers are one float.
LARGEST_EXACT = 2.0**53


class TableFile(ABC):
    """A table with named columns.

    Attributes:
        path: the file.
        columns: names of its columns, in order.
        description: the format as it was recognised, for people.
    """

    path: Path
    columns: list[str]
    description: str

    @abstractmethod
    def read(self, columns: Sequence[str], label: str) -> Iterator[pd.DataFrame]:
        """Yield the table in pieces; the index counts the rows from 0.

        Args:
            columns: the columns to read.
            label: text of the progress bar.

        Raises:
            DataError: a column occurs twice, or the file is not what its beginning promised.
        """

    @abstractmethod
    def place(self, row: int) -> str:
        """Return where a row stands in the file, for messages: `line 7`."""

    def check(self, columns: Sequence[str], remedy: str) -> None:
        """Check that columns exist and are told apart by their names.

        Args:
            columns: the names.
            remedy: what to do otherwise, for the message.

        Raises:
            DataError: a column does not exist, or exists twice.
        """
        for column in columns:
            count = self.columns.count(column)
            if count != 1:
                found = "no such column" if not count else f"{count} columns of this name"
                raise DataError(
                    f"{self.path}: expected one column {column!r}, found {found} among "
                    f"{', '.join(map(repr, self.columns))} ({self.description}). {remedy}"
                )

    def check_scalars(self, values: pd.Series) -> None:
        """Check that a piece of a column has no lists and objects, as JSON and parquet allow.

        Args:
            values: the piece; its index counts the rows.

        Raises:
            DataError: a value is one.
        """
        if values.dtype == object:
            nested = [isinstance(value, list | dict | np.ndarray) for value in values]
            self.refuse(np.array(nested, dtype=bool), values, "a single value")

    def check_ids(self, values: pd.Series) -> None:
        """Check that a piece of a column can hold ids.

        Args:
            values: the piece; its index counts the rows.

        Raises:
            DataError: a value is a list or an object, true or false, holds half a character, or is
                a number too large for the type of the column.
        """
        self.check_scalars(values)
        if values.dtype == bool:
            self.refuse(np.ones(len(values), dtype=bool), values, "an id, a text or a whole number")
        elif values.dtype == object:
            flags = [isinstance(value, bool | bytes) for value in values]
            self.refuse(np.array(flags, dtype=bool), values, "an id, a text or a whole number")
            halves = [isinstance(value, str) and is_broken(value) for value in values]
            self.refuse(
                np.array(halves, dtype=bool), values, "an id of whole characters (no half an emoji)"
            )
        elif values.dtype.kind == "f":
            large = np.abs(values.to_numpy(dtype=float)) >= LARGEST_EXACT
            self.refuse(large, values, "an id that a float can hold; save the column as text")

    def refuse(self, wrong: NDArray[np.bool_], values: pd.Series, expected: str) -> None:
        """Raise if any value is wrong.

        Args:
            wrong: [rows] where.
            values: [rows] a piece of a column; its index counts the rows.
            expected: what they should be.

        Raises:
            DataError: any is; the message names the first.
        """
        if wrong.any():
            first = int(wrong.argmax())
            raise DataError(
                f"{self.path}, column {values.name!r}, {self.place(values.index[first])}: expected "
                f"{expected}, found {values.iloc[first]!r}, and {int(wrong.sum()) - 1} more such "
                "rows."
            )
