"""`python -m dataset_converters.atomic_features`: vectors in RecBole's files to item features.

RecBole's ways to bring vectors are a `float_seq` column of `<name>.item`, or a file of its own such
as `<name>.itememb`, named by `additional_feat_suffix` and `preload_weight`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recbole_margo.command_line import CommandParser, add_options, from_options, option, run_command
from recbole_margo.errors import DataError
from recbole_margo.store.feature_files import write_features
from recbole_margo.store.tables.delimited import DelimitedTable
from recbole_margo.store.writing import disk_errors

TYPES = ("float_seq", "float")


@dataclass(frozen=True)
class AtomicVectors:
    """Vectors of items in one of RecBole's atomic files."""

    dataset: str = option("name of the dataset", metavar="NAME")
    modality: str = option("name of the modality, such as image", metavar="NAME")
    field: str = option("the float_seq (or float) column of the vectors", metavar="COLUMN")
    data_path: Path = option("folder of datasets", Path("dataset"), metavar="DIR")
    suffix: str = option("ending of the file, such as itememb", "item")
    item_field: str | None = option("the token column of items (default: the only one)", None)
    field_separator: str = option("between columns (default: tab)", "\t")
    seq_separator: str = option("between numbers (default: space)", " ")

    @property
    def path(self) -> Path:
        """The file."""
        return self.data_path / self.dataset / f"{self.dataset}.{self.suffix}"

    def read(self) -> tuple[NDArray[np.float32], list[str]]:
        """Return the matrix [rows, D] and the tokens of the items whose field is not empty."""
        table = DelimitedTable(self.path, self.field_separator, header=True, quotes=False)
        item, vector = self._columns(table.columns)
        tokens: list[str] = []
        rows: list[NDArray[np.float32]] = []
        for chunk in table.read_strictly([item, vector], f"reading {self.field}"):
            given = chunk[chunk[vector].str.strip() != ""]
            tokens += given[item].tolist()
            for row, text in given[vector].items():
                where = f"{self.path}, {table.location(row)}"
                rows.append(self._numbers(text, where, len(rows[0]) if rows else None))
        if not rows:
            raise DataError(f"{self.path}: expected vectors in {self.field!r}, found none.")
        return np.stack(rows), tokens

    def _columns(self, header: Sequence[str]) -> tuple[str, str]:
        fields = [column.partition(":")[::2] for column in header]
        of_tokens = [name for name, kind in fields if kind == "token"]
        of_vectors = [name for name, kind in fields if kind in TYPES]
        item_field = self.item_field
        if item_field is None and (len(of_tokens) == 1 or "item_id" in of_tokens):
            item_field = of_tokens[0] if len(of_tokens) == 1 else "item_id"
        for flag, name, found, kind in (
            ("--item_field", item_field, of_tokens, "token"),
            ("--field", self.field, of_vectors, " or ".join(TYPES)),
        ):
            if name not in found:
                raise DataError(
                    f"{self.path}, line 1: expected a column {name or 'of items'}:{kind}, found "
                    f"{', '.join(header)[:200]}. Name one of {', '.join(found) or 'none'} with "
                    f"{flag}."
                )
        names = [name for name, _ in fields]
        return header[names.index(str(item_field))], header[names.index(self.field)]

    def _numbers(self, text: str, where: str, expected: int | None) -> NDArray[np.float32]:
        try:
            numbers = [float(word) for word in text.split(self.seq_separator) if word.strip()]
        except ValueError as error:
            raise DataError(
                f"{where}, field {self.field!r}: expected numbers separated by "
                f"{self.seq_separator!r}, found {text[:60]!r}. Give --seq_separator if it is "
                "another."
            ) from error
        # A number beyond float32 becomes infinite.
        with np.errstate(over="ignore"):
            row = np.array(numbers, dtype=np.float32)
        if not np.isfinite(row).all():
            raise DataError(
                f"{where}, field {self.field!r}: expected finite numbers, found {text[:60]!r}. "
                "Empty the field if the item has no vector."
            )
        if expected is not None and len(row) != expected:
            raise DataError(
                f"{where}, field {self.field!r}: expected {expected} numbers as in the items "
                f"before, found {len(row)}."
            )
        return row


def main(
    arguments: Sequence[str] | None = None,
    program: str = "python -m dataset_converters.atomic_features",
) -> int:
    """Write the vectors of one of RecBole's files as a modality of its dataset."""

    def command() -> int:
        parser = CommandParser(program, description=__doc__)
        add_options(parser, AtomicVectors)
        vectors = from_options(AtomicVectors, parser.parse_args(arguments))
        folder, source = vectors.path.parent, f"{vectors.path.name}, field {vectors.field}"
        with disk_errors(folder):
            matrix, tokens = vectors.read()
            entry = write_features(
                folder, vectors.dataset, vectors.modality, matrix, tokens, source
            )
        sys.stdout.write(
            f"{vectors.modality}: {entry.rows} items with {entry.dim} columns from {source}, "
            f"written to {folder / entry.file}\n"
        )
        return 0

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
