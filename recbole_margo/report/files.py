"""How the files of a report are written: whole or not at all, the same numbers the same file."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataset_converters.atomic import replacing


def write_texts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write texts into a folder, which is made if it is not there, each replacing what was there.

    Args:
        folder: where to.
        texts: text by file name.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return [folder / name for name in texts]


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any] | Mapping[str, Any]]) -> str:
    """Return rows as CSV below the names of their columns.

    Args:
        columns: names of the columns.
        rows: of each row the cells in the order of the columns, or values by column; None, and a
            column without a value, are left empty.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = [row.get(column) for column in columns] if isinstance(row, Mapping) else row
        writer.writerow(cells)
    return text.getvalue()


def json_text(value: Any) -> str:
    """Return a value as JSON; what JSON has no number for becomes null.

    Args:
        value: plain data.
    """
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False, default=str)
    # Half of a surrogate pair, as a file's name may hold one, has no UTF-8.
    return text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n"


def _finite(value: Any) -> Any:
    """Return a value with null for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
