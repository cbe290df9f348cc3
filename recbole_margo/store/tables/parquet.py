"""Tables in parquet files, whose few bytes may expand without end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from recbole_margo.errors import DataError, import_optional
from recbole_margo.store.numpy_archive import LARGEST_BYTES, LARGEST_RATIO, expands_too_far
from recbole_margo.store.tables.table_file import CHUNK_ROWS, TableFile

# Bytes of a value by the physical type; of texts, what refers to them.
VALUE_BYTES = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12}
REFERENCE_BYTES = 4
# A shorter value is no larger than its row is in any table.
LONG_VALUE = 1 << 10


class ParquetBounds:
    """Watches what is read of a parquet file.

    A value that is written once can stand in millions of rows, so that neither the size of the file
    nor that of its pages says how much memory a piece takes.
    """

    def __init__(self, path: Path, metadata: Any, columns: Sequence[str]) -> None:
        self.path = path
        self._metadata = metadata
        self._columns = frozenset(columns)
        self._long_bytes = 0

    def text_leaves(self) -> list[str]:
        """Return the columns, and columns in columns, of text, to be read as dictionaries."""
        schema = self._metadata.schema
        leaves = (schema.column(index) for index in range(len(schema)))
        return [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]

    def rows_at_once(self, most: int) -> int:
        """Return how many rows fit into memory, by what the file says of itself."""
        row_bytes = 1
        for group in range(self._metadata.num_row_groups):
            rows = self._metadata.row_group(group)
            of_group = [self._row_bytes(part, rows.num_rows) for part in self._parts(rows)]
            row_bytes = max(row_bytes, sum(of_group))
        return max(1, min(most, LARGEST_BYTES // row_bytes))

    def _parts(self, rows: Any) -> Iterator[tuple[Any, Any]]:
        """Yield the leaves of the columns in a group of rows, and what it says of each."""
        for index in range(rows.num_columns):
            leaf, part = self._metadata.schema.column(index), rows.column(index)
            if leaf.path.partition(".")[0] in self._columns or leaf.path in self._columns:
                yield leaf, part

    def _row_bytes(self, part: tuple[Any, Any], rows: int) -> int:
        leaf, chunk = part
        # Of fixed length, a value has it whether it is written once or often.
        value = leaf.length or VALUE_BYTES.get(leaf.physical_type, REFERENCE_BYTES)
        together = int(chunk.num_values) * int(value)
        repeated = together if leaf.max_repetition_level or value > LONG_VALUE else 0
        expanded = max(chunk.total_uncompressed_size, repeated)
        if expands_too_far(expanded, chunk.total_compressed_size):
            raise self._bomb(leaf.path, expanded)
        return int(-(-max(chunk.total_uncompressed_size, together) // max(1, rows)))

    def check_texts(self, array: Any, column: str) -> None:
        """Check how long the texts of a piece become without their dictionary."""
        types = import_optional("pyarrow", "pyarrow", str(self.path)).types
        if types.is_dictionary(array.type):
            self._long_bytes += self._bytes_of_long_texts(array)
            if expands_too_far(self._long_bytes, self.path.stat().st_size):
                raise self._bomb(column, self._long_bytes)
        elif types.is_list(array.type) or types.is_large_list(array.type):
            self.check_texts(array.flatten(), column)
        elif types.is_struct(array.type):
            for part in array.flatten():
                self.check_texts(part, column)
        elif types.is_map(array.type):
            self.check_texts(array.keys, column)
            self.check_texts(array.items, column)

    def _bytes_of_long_texts(self, array: Any) -> int:
        compute = import_optional("pyarrow.compute", "pyarrow", str(self.path))
        lengths = compute.binary_length(array.dictionary)
        if (compute.max(lengths).as_py() or 0) < LONG_VALUE:
            return 0
        long = compute.if_else(compute.less(lengths, LONG_VALUE), 0, lengths).cast("int64")
        return int(compute.sum(long.take(array.indices)).as_py() or 0)

    def _bomb(self, column: str, expanded: int) -> DataError:
        return DataError(
            f"{self.path}, column {column!r}: expected values that expand {LARGEST_RATIO} times at "
            f"most, found {expanded:,} bytes or more in a file of {self.path.stat().st_size:,}. If "
            "it is yours, write the column as csv or, vectors, as .npy."
        )


class ParquetTable(TableFile):
    """A parquet file, read by pyarrow."""

    def __init__(self, path: Path) -> None:
        """Read the schema."""
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

    def location(self, row: int) -> str:
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
