"""Opens a table in whatever format it is."""

from __future__ import annotations

from pathlib import Path

from recbole_margo.store.reading import reading
from recbole_margo.store.tables.delimited import DelimitedTable
from recbole_margo.store.tables.json_lines import JsonLinesTable
from recbole_margo.store.tables.parquet import ParquetTable
from recbole_margo.store.tables.table_file import TableFile

PARQUET_MAGIC = b"PAR1"
JSON_SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})


def open_table(
    path: Path,
    separator: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
) -> TableFile:
    """Open a csv, tsv, JSON lines or parquet file, recognised by content; gzip is read too.

    Separator, encoding (else UTF-8) and whether there is a header are of a delimited table; what is
    None is recognised.
    """
    with reading(path) as stream:
        head = stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(PARQUET_MAGIC):
        return ParquetTable(path)
    if head.startswith(b"{") or (head.startswith(b"[") and JSON_SUFFIXES & set(path.suffixes)):
        return JsonLinesTable(path)
    return DelimitedTable(path, separator, encoding, header)
