"""Lists of recommendations as a file, written as they are made."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbole_margo.errors import ConfigError, import_optional
from recbole_margo.report.files import harmless_cell
from recbole_margo.serving.recommender import Recommendations
from recbole_margo.store.writing import disk_errors, replacing

COLUMNS = ("user", "rank", "item", "score", "title")
FORMATS = (".csv", ".jsonl", ".parquet")

Write = Callable[[Iterable[Recommendations]], None]


def check_format(path: Path) -> None:
    """Raise a `ConfigError` unless the suffix of a path is one of `FORMATS`."""
    if path.suffix not in FORMATS:
        raise ConfigError(
            f"--output: expected a file whose name ends with {', '.join(FORMATS)}, found {path}"
        )


@contextmanager
def writing(path: Path) -> Iterator[Write]:
    """Yield what adds lists to a file, which appears when the block succeeds.

    Args:
        path: a `.csv` or `.parquet` with a row per recommended item, or a `.jsonl` with a line per
            user.

    Raises:
        ConfigError: its name ends otherwise.
        DataError: it cannot be written, or pyarrow is not there for parquet.
    """
    check_format(path)
    opened = {".csv": _csv, ".jsonl": _json_lines, ".parquet": _parquet}[path.suffix]
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, opened(temporary) as write:
            yield write


def rows(lists: Iterable[Recommendations]) -> Iterator[tuple[str, int, str, float, str]]:
    """Yield a row of `COLUMNS` per recommended item."""
    for one in lists:
        for rank, ranked in enumerate(one.items, start=1):
            yield one.user or "", rank, ranked.item, ranked.score, ranked.title


@contextmanager
def _csv(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        yield lambda lists: writer.writerows(
            [harmless_cell(cell) for cell in row] for row in rows(lists)
        )


@contextmanager
def _json_lines(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="\n") as file:

        def write(lists: Iterable[Recommendations]) -> None:
            for one in lists:
                items = [{"item": each.item, "score": each.score} for each in one.items]
                line = {"user": one.user, "popular": one.popular, "items": items}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

        yield write


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    arrow: Any = import_optional("pyarrow", "pyarrow", "writing parquet")
    parquet: Any = import_optional("pyarrow.parquet", "pyarrow", "writing parquet")
    kinds = (arrow.string(), arrow.int32(), arrow.string(), arrow.float32(), arrow.string())
    schema = arrow.schema(list(zip(COLUMNS, kinds, strict=True)))
    with parquet.ParquetWriter(path, schema) as writer:

        def write(lists: Iterable[Recommendations]) -> None:
            columns = list(zip(*rows(lists), strict=True)) or [()] * len(COLUMNS)
            arrays = [arrow.array(c, kind) for c, kind in zip(columns, kinds, strict=True)]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))

        yield write
