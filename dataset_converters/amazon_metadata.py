"""Reads what Amazon's metadata says of products, for those that are wanted."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from recbole_margo.errors import DataError
from recbole_margo.store.reading import lines, reading
from recbole_margo.store.tables.columns import check_overlap
from recbole_margo.store.tables.json_lines import array_records, is_array, parse_record
from recbole_margo.store.tables.table_file import whole_characters

ASIN = re.compile(rb"""["'](?:parent_)?asin["']\s*:\s*["']([^"']*)["']""")
COLUMNS = ("title", "brand", "category", "description")
# Pages of 2018 whose title was not found hold the script of the page instead.
SCRIPT = "getTime"


def read_metadata(path: Path, items: Sequence[str]) -> pd.DataFrame:
    """Read the texts of products.

    Args:
        path: metadata of any edition: JSON lines, or the Python literals of 2014; plain or gzip.
        items: the products that are wanted; only their lines are parsed.

    Returns:
        The columns title, brand, category (its first path) and description by item, in the order
        of `items`, without items that have no text. Of several lines of a product the first counts.

    Raises:
        DataError: the file is missing or damaged, or describes none of the items.
    """
    wanted = {item.encode() for item in items}
    found: dict[str, tuple[str, ...]] = {}
    others: list[str] = []
    with reading(path, "reading metadata") as stream:
        if is_array(stream.peek(64)[:64]):  # type: ignore[attr-defined]
            records: Iterator[tuple[int, Any]] = array_records(stream, path)
        else:
            records = _wanted_lines(stream, path, wanted, others)
        for number, record in records:
            fields: dict[str, Any] = record if isinstance(record, dict) else {}
            item = fields.get("parent_asin", fields.get("asin"))
            if not isinstance(item, str):
                raise DataError(
                    f"{path}, line {number}: expected the field asin or parent_asin, found "
                    f"{', '.join(map(repr, fields)) or 'none'}. Is this the file of metadata?"
                )
            if item.encode(errors="replace") in wanted:
                found.setdefault(item, _texts(fields))
    check_overlap([*found, *others], items, path)
    known = [item for item in items if any(found.get(item, ()))]
    rows = [found[item] for item in known]
    texts: pd.DataFrame = pd.DataFrame(rows, index=known, columns=list(COLUMNS), dtype=object)
    return texts


def _wanted_lines(
    stream: BinaryIO, path: Path, wanted: set[bytes], others: list[str]
) -> Iterator[tuple[int, Any]]:
    """Yield the number and content of the lines that may speak of wanted items."""
    for number, line in lines(stream, path):
        named = ASIN.search(line)
        if named is not None and wanted.isdisjoint(ASIN.findall(line)):
            if len(others) < 3:
                others.append(named[1].decode(errors="replace"))
            continue
        yield number, parse_record(line, path, number)


def _texts(record: dict[str, Any]) -> tuple[str, ...]:
    """Return title, brand, first category path and description of a product."""
    title = _text(record.get("title"))
    # 2014: a list of paths; since 2018: one path.
    paths = record.get("categories") or record.get("category")
    if isinstance(paths, list) and paths and isinstance(paths[0], list):
        paths = paths[0]
    return (
        "" if SCRIPT in title else title,
        _text(record.get("brand") or record.get("store")),
        _text(paths),
        _text(record.get("description")),
    )


def _text(value: Any) -> str:
    parts = value if isinstance(value, list) else [value]
    words = " ".join(html.unescape(part) for part in parts if isinstance(part, str))
    return whole_characters(" ".join(words.split()))
