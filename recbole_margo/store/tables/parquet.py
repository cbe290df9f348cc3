"""Tables in parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from recbole_margo.errors import DataError
from recbole_margo.optional import import_optional
from recbole_margo.store.tables.parquet_bounds import ParquetBounds
from recbole_margo.store.tables.table_file import CHUNK_ROWS, TableFile


class ParquetTable(TableFile):
    """A parquet file, read by pyarrow."""

    def __init__(self, path: Path) -> None:
        """Read the schema.

        Args:
            path: the file.

        Raises:
            DataError: the file is not parquet, or pyarrow is not installed.
        """
        self.path = path
        self.description = "parquet"
        self._arrow = import_optional("pyarrow", "pyarrow", f"{path}: reading parquet")
        self._parquet = import_optional("pyarrow.parquet", "pyarrow", f"{path}: reading parquet")
        try:
            self.columns = list(self._parquet.ParquetFile(path).schema_arrow.names)
        except (self._arrow.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    def read(self, columns: Sequence[str], label: str) -> Iterator[pd.DataFrame]:
        """Yield the columns in the types that pandas has for them."""
        start = 0
        try:
            metadata = self._parquet.read_metadata(self.path)
            bounds = ParquetBounds(self.path, metadata, columns)
            rows = bounds.rows_at_once(CHUNK_ROWS)
            file = self._parquet.ParquetFile(self.path, read_dictionary=bounds.text_leaves())
            batches = file.iter_batches(batch_size=rows, columns=list(columns))
            total = -(-metadata.num_rows // rows)
            for batch in tqdm(batches, desc=label, total=total, leave=False, disable=None):
                for name in columns:
                    bounds.check_texts(batch.column(name), name)
                # Whole numbers stay whole where some are missing.
                plain = [self._plain(batch.column(name), name) for name in columns]
                arrow = self._arrow.RecordBatch.from_arrays(plain, names=list(columns))
                chunk: pd.DataFrame = arrow.to_pandas(integer_object_nulls=True)
                yield chunk[list(columns)].set_axis(range(start, start + len(chunk)))
                start += len(chunk)
        except (self._arrow.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    def place(self, row: int) -> str:
        """Return the number of a row, from 0 as data frames count."""
        return f"row {row}"

    def _plain(self, array: Any, column: str) -> Any:
        """Return an array of a type that pandas has: bytes are text, dictionaries their values."""
        types = self._arrow.types
        if types.is_dictionary(array.type):
            array = array.dictionary_decode()
        kind = array.type
        if types.is_date(kind):
            return array.cast(self._arrow.timestamp("ms"))
        if types.is_time(kind) or types.is_duration(kind):
            raise DataError(
                f"{self.path}, column {column!r}: expected text, numbers or dates, found {kind}. "
                "Write seconds since 1970, or another column."
            )
        if not (types.is_binary(kind) or types.is_large_binary(kind)):
            if not types.is_fixed_size_binary(kind):
                return array
            array = array.cast(self._arrow.binary())
        try:
            return array.cast(self._arrow.large_string())
        except self._arrow.ArrowInvalid as error:
            raise DataError(
                f"{self.path}, column {column!r}: expected text, found bytes (type {kind}) that "
                f"are no UTF-8 ({error}). Write the column as strings, such as the bytes in "
                "hexadecimal digits."
            ) from error

    def _damaged(self, error: Exception) -> DataError:
        return DataError(
            f"{self.path}: expected a parquet file, found one that does not open ({error}). "
            "Write it again."
        )
