"""Whether the rows of interaction files have the fields that their first line names."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from recbole_margo.data.atomic_columns import atomic_files
from recbole_margo.errors import DatasetError


def check_rows(config: Any) -> None:
    """Look whether all rows of the interactions have as many fields as the first line.

    pandas takes surplus fields of the first row for the names of rows, so that every value moves
    into the column beside its own, and drops those of later rows; neither says a word.

    Args:
        config: the config, which says where the files are and what separates columns.

    Raises:
        DatasetError: names the file, the line, and how many fields it has and should have, or says
            that there are no rows at all.
    """
    files = atomic_files(config, "inter")
    separator, encoding = config["field_separator"], config["encoding"]
    rows = [_rows_of_file(path, separator, encoding, _state(path)) for path in files]
    if not any(rows):
        raise DatasetError(
            f"{', '.join(map(str, files))}: expected rows of interactions below the first line, "
            "found none"
        )


def _state(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


@lru_cache  # the models of a comparison share their files
def _rows_of_file(path: Path, separator: str, encoding: str | None, state: tuple[int, ...]) -> int:
    """Return the number of rows, which all have as many fields as the first line."""
    rows = 0
    with path.open(encoding=encoding or "utf-8", errors="replace") as file:
        header = next(file, "")
        expected = header.count(separator)
        for number, line in enumerate(file, start=2):
            found = line.count(separator)
            if found == expected or not line.strip("\r\n"):
                rows += found == expected
            elif len(separator) > 1 or '"' in line:
                rows += 1  # a pattern, or a separator that quotes may protect
            else:
                raise DatasetError(
                    f"{path}, line {number}: expected {expected + 1} fields as in the first line "
                    f"({', '.join(header.split())}), found {found + 1}: "
                    f"{line.rstrip()[:80]!r}; mend the line, or convert the raw data again"
                )
    return rows
