"""Parquet files from a stranger: a value that is written once may stand in millions of rows."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataset_converters.item_inputs import read_keyed_matrix
from recbole_margo.errors import DataError
from recbole_margo.store.tables import parquet
from recbole_margo.store.tables.parquet import ParquetTable

arrow = pytest.importorskip("pyarrow")
files = pytest.importorskip("pyarrow.parquet")


def one_text_in_every_row(rows: int, text: Any) -> Any:
    return arrow.DictionaryArray.from_arrays(np.zeros(rows, np.int32), arrow.array([text]))


def texts_in_lists() -> Any:
    offsets = np.arange(ROWS + 1, dtype=np.int32)
    return arrow.ListArray.from_arrays(offsets, one_text_in_every_row(ROWS, LONG))


ROWS, LONG = 20_000, "x" * 900_000
BOMBS: dict[str, Callable[[], Any]] = {
    "text": lambda: one_text_in_every_row(ROWS, LONG),
    "bytes": lambda: one_text_in_every_row(ROWS, LONG.encode()),
    "texts in lists": texts_in_lists,
    "texts in objects": lambda: arrow.StructArray.from_arrays(
        [one_text_in_every_row(ROWS, LONG)], ["title"]
    ),
    "vectors": lambda: arrow.array(
        [np.zeros(70_000_000, np.float32)], arrow.list_(arrow.float32())
    ),
    "page": lambda: arrow.array(["x" * 300_000_000]),
}


def written(path: Path, column: Any, **options: Any) -> Path:
    ids = arrow.array([f"i{row}" for row in range(len(column))])
    table = arrow.table({"item_id": ids, "content": column})
    files.write_table(table, path, compression="zstd", store_schema=False, **options)
    return path


@pytest.mark.parametrize("kind", BOMBS)
def test_no_column_expands_without_bounds(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / "items.parquet", BOMBS[kind](), use_dictionary=kind != "page")
    assert path.stat().st_size < 1 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table = ParquetTable(path)
    with pytest.raises(DataError, match=r"column 'content.*expand 100 times at most"):
        list(table.read(table.columns, "reading"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


def test_what_repeats_within_bounds_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "items.parquet", one_text_in_every_row(3000, "x" * 2000))
    (chunk,) = ParquetTable(path).read(["item_id", "content"], "reading")
    assert chunk["content"].tolist() == ["x" * 2000] * 3000
    assert chunk["item_id"].tolist() == [f"i{row}" for row in range(3000)]


def test_wide_rows_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).random((300, 64), np.float32)
    column = arrow.array(list(vectors), arrow.list_(arrow.float32()))
    path = written(tmp_path / "image.parquet", column)
    monkeypatch.setattr(parquet, "LARGEST_BYTES", 100 * 64 * 4)
    pieces = list(ParquetTable(path).read(["item_id", "content"], "reading"))
    assert len(pieces) > 2
    matrix, ids = read_keyed_matrix(path)
    np.testing.assert_array_equal(matrix, vectors)
    assert ids == [f"i{row}" for row in range(300)]
