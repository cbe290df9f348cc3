"""Looks at the atomic files of a dataset before RecBole reads them: columns and fields of rows."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from recbole_margo.errors import ConfigError, DatasetError


def atomic_files(config: Any, source: str) -> list[Path]:
    """Return where the files of a source are, such as `inter`, whether or not they are there."""
    name, folder = config["dataset"], Path(config["data_path"])
    parts = config["benchmark_filename"] if source == "inter" else None
    names = [f"{name}.{part}.{source}" for part in parts] if parts else [f"{name}.{source}"]
    return [folder / each for each in names]


def columns_of(config: Any, source: str) -> list[str] | None:
    """Return the names of the columns that all files of a source have, in their order.

    Returns:
        The names; none where a file is not there.

    Raises:
        ConfigError: if a first line is not one of names and types.
    """
    common: list[str] | None = None
    for path in atomic_files(config, source):
        if not path.is_file():
            return None
        names = _columns_of_file(path, config["field_separator"], config["encoding"])
        common = names if common is None else [name for name in common if name in names]
    return common


def _columns_of_file(path: Path, separator: str, encoding: str | None) -> list[str]:
    with path.open(encoding=encoding or "utf-8", errors="replace") as file:
        words = file.readline().rstrip("\r\n").split(separator)
    for word in words:
        if word.count(":") != 1:
            raise ConfigError(
                f"the first line of {path} must name columns and types such as `user_id:token`, "
                f"with {separator!r} between them (`field_separator`), found {word[:80]!r}"
            )
    return [word.partition(":")[0] for word in words]


def check_id_columns(config: Any) -> None:
    """Look whether the interactions have the columns that name users and items.

    Raises:
        ConfigError: says which columns there are and what to set.
    """
    columns = columns_of(config, "inter")
    keys = ("USER_ID_FIELD", "ITEM_ID_FIELD")
    if columns is None or all(config[key] is None or config[key] in columns for key in keys):
        return
    lacking = " and ".join(f"`{config[key]}` ({key})" for key in keys if config[key] not in columns)
    files = ", ".join(path.name for path in atomic_files(config, "inter"))
    raise ConfigError(
        f"{files}: expected the columns {lacking}, found {', '.join(columns)}: set USER_ID_FIELD "
        "and ITEM_ID_FIELD to the columns that name users and items, as options or in "
        f"{config['dataset']}.yaml beside the file"
    )


def check_rows(config: Any) -> None:
    """Look whether all rows of the interactions have as many fields as the first line.

    pandas takes surplus fields of the first row for the names of rows, so that every value moves
    into the column beside its own, and drops those of later rows; neither says a word.

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
