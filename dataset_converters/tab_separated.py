"""Tab-separated tables with a header, read strictly: no row is cut, no column overwritten."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_margo.errors import DataError
from recbole_margo.store.feature_files import first_duplicate
from recbole_margo.store.reading import lines

HEADER_CHARACTERS = 1 << 16


def read_tab_separated(path: Path, as_text: bool = False) -> pd.DataFrame:
    """Read a table of interactions.

    Args:
        path: a UTF-8 file with a header, perhaps with a byte order mark.
        as_text: keep every value as the text it is, and take a field in quotes as one field;
            else whole columns become numbers where they can, and quotes have no meaning.

    Returns:
        The table, with at least one row.

    Raises:
        DataError: the file cannot be read, is no such table, or has no rows.
    """
    options: dict[str, Any] = (
        {"dtype": str, "na_filter": False} if as_text else {"quoting": csv.QUOTE_NONE}
    )
    try:
        _refuse_zero_bytes(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            columns = file.readline(HEADER_CHARACTERS).rstrip("\r\n").split("\t")
        repeated = first_duplicate(columns)
        if repeated is not None:
            raise DataError(
                f"{path}: expected each column once, found {repeated!r} twice in the header. "
                "Rename or remove one of them."
            )
        with warnings.catch_warnings():
            # pandas would cut off rows that are longer than the header, with a warning only.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table: pd.DataFrame = pd.read_csv(
                path,
                sep="\t",
                index_col=False,
                low_memory=False,
                float_precision="round_trip",
                encoding="utf-8-sig",
                **options,
            )
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: expected a file to read, found: {error.strerror}.") from error
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path}: expected interactions, found an empty file.") from error
    except (ValueError, OverflowError, pd.errors.ParserWarning) as error:
        raise DataError(
            f"{path}: expected a UTF-8 table with as many fields in every row as in the header, "
            f"found: {str(error).strip()}."
        ) from error
    if table.empty:
        raise DataError(f"{path}: expected interactions, found a header only.")
    lacking = table.iloc[:, -1].isna().to_numpy()
    if as_text and lacking.any():
        raise DataError(
            f"{path}, line {int(lacking.argmax()) + 2}: expected {len(table.columns)} fields as in "
            "the header, found fewer."
        )
    return table


def _refuse_zero_bytes(path: Path) -> None:
    """Refuse what pandas would silently take for the end of a field."""
    with path.open("rb") as file:
        for number, line in lines(file, path, blank=True):
            if b"\0" in line:
                raise DataError(
                    f"{path}, line {number}: expected text in UTF-8, found a byte "
                    "of value 0. Is it in UTF-16? Convert it: iconv -f UTF-16 -t UTF-8."
                )
