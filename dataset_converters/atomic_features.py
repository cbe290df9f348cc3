"""`python -m dataset_converters.atomic_features`: vectors in RecBole's files to item features.

RecBole's ways to bring vectors are a `float_seq` column of `<name>.item`, or a file of its own such
as `<name>.itememb`, named by `additional_feat_suffix` and `preload_weight`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import DataError
from recbole_margo.store.feature_files import write_features
from recbole_margo.store.reading import lines, reading, text_of
from recbole_margo.store.writing import disk_error

TYPES = ("float_seq", "float")


@dataclass(frozen=True)
class AtomicVectors:
    """Vectors of items in one of RecBole's atomic files.

    Args:
        path: the file.
        field: name of the `float_seq` (or `float`) column that holds the vectors.
        item_field: name of the `token` column of items; none: the only `token` column there is.
        field_separator: between columns, as RecBole's key of this name.
        seq_separator: between the numbers of a vector, as RecBole's key of this name.
    """

    path: Path
    field: str
    item_field: str | None = None
    field_separator: str = "\t"
    seq_separator: str = " "

    def read(self) -> tuple[NDArray[np.float32], list[str]]:
        """Read the vectors.

        Returns:
            The matrix [rows, D] and the [rows] item tokens of the items that have a vector; an item
            whose field is empty has none.

        Raises:
            DataError: the file or a column is missing, an item stands twice, a field holds no
                finite numbers, or not as many as the others.
        """
        seen: set[str] = set()
        tokens: list[str] = []
        rows: list[NDArray[np.float32]] = []
        with reading(self.path, f"reading {self.field}") as stream:
            content = lines(stream, self.path)
            number, line = next(content)
            header = text_of(line, self.path, number).rstrip("\r\n").split(self.field_separator)
            item, vector = self._columns(header)
            for number, line in content:
                fields = text_of(line, self.path, number).rstrip("\r\n").split(self.field_separator)
                where = f"{self.path}, line {number}"
                if len(fields) != len(header):
                    raise DataError(
                        f"{where}: expected {len(header)} fields as in the header, found "
                        f"{len(fields)}. Repair the line, or give --field_separator."
                    )
                token = fields[item]
                if token in seen:
                    raise DataError(f"{where}: expected each item once, found {token!r} again.")
                seen.add(token)
                if not fields[vector].strip():
                    continue
                rows.append(self._numbers(fields[vector], where, len(rows[0]) if rows else None))
                tokens.append(token)
        if not rows:
            raise DataError(f"{self.path}: expected vectors in {self.field!r}, found none.")
        return np.stack(rows), tokens

    def _columns(self, header: Sequence[str]) -> tuple[int, int]:
        """Return the positions of the columns of items and of vectors."""
        names, types = zip(*(column.partition(":")[::2] for column in header), strict=True)
        of_tokens = [name for name, type_ in zip(names, types, strict=True) if type_ == "token"]
        of_vectors = [name for name, type_ in zip(names, types, strict=True) if type_ in TYPES]
        item_field = self.item_field
        if item_field is None and len(of_tokens) == 1:
            item_field = of_tokens[0]
        if item_field is None and "item_id" in of_tokens:
            item_field = "item_id"
        for option, name, found, kind in (
            ("--item_field", item_field, of_tokens, "token"),
            ("--field", self.field, of_vectors, " or ".join(TYPES)),
        ):
            if name not in found:
                raise DataError(
                    f"{self.path}, line 1: expected a column {name or 'of items'}:{kind}, found "
                    f"{', '.join(header)[:200]}. Name one of {', '.join(found) or 'none'} with "
                    f"{option}."
                )
        return names.index(item_field), names.index(self.field)

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
    """Write the vectors of one of RecBole's files as a modality of its dataset.

    Args:
        arguments: the command line without the program's name; None takes that of the process.
        program: what the help calls the command.

    Returns:
        The exit status: 0 when the features are in place, 2 when they cannot be put there.
    """
    parser = argparse.ArgumentParser(program, description=__doc__)
    parser.add_argument("--dataset", required=True, metavar="NAME", help="name of the dataset")
    parser.add_argument(
        "--data_path",
        type=Path,
        default=Path("dataset"),
        metavar="DIR",
        help="folder of datasets",
    )
    parser.add_argument("--modality", required=True, help="name of the modality, such as image")
    parser.add_argument("--field", required=True, help="the float_seq column of the vectors")
    parser.add_argument(
        "--suffix", default="item", help="ending of the file, such as itememb (default: item)"
    )
    parser.add_argument("--item_field", help="the token column of items (default: the only one)")
    parser.add_argument("--field_separator", default="\t", help="between columns (default: tab)")
    parser.add_argument("--seq_separator", default=" ", help="between numbers (default: space)")
    given = parser.parse_args(arguments)
    folder = given.data_path / given.dataset
    path = folder / f"{given.dataset}.{given.suffix}"
    try:
        matrix, tokens = AtomicVectors(
            path, given.field, given.item_field, given.field_separator, given.seq_separator
        ).read()
        source = f"{path.name}, field {given.field}"
        entry = write_features(folder, given.dataset, given.modality, matrix, tokens, source)
    except (DataError, OSError) as error:
        said = disk_error(error, folder) if isinstance(error, OSError) else error
        sys.stderr.write(f"error: {' '.join(str(said).split())}\n")
        return 2
    sys.stdout.write(
        f"{given.modality}: {entry.rows} items with {entry.dim} columns from {source}, written to "
        f"{folder / entry.file}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
