"""A dataset folder back to MMRec's layout, so that its models run on the same rows and split.

`python -m dataset_converters.export --dataset NAME --output_dir DIR`
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dataset_converters.base import ConversionReport, Converter, convert
from recbole_margo.command_line import CommandParser, add_options, from_options, option, run_command
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import FIELD_TYPES, SPLITS
from recbole_margo.store.feature_files import read_stored_features, row_blocks
from recbole_margo.store.manifest import FeatureManifest
from recbole_margo.store.tables.delimited import DelimitedTable
from recbole_margo.store.writing import write_npy

MISSING = ("refuse", "mean", "zero")
LABELS = tuple(enumerate(SPLITS))
NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
# MMRec has a place for one image-like and one text-like modality, in files of these names.
MMREC_MODALITIES = ("image", "text")


@dataclass(frozen=True)
class ExportOptions:
    """The options of an export."""

    dataset: str = option("name of the dataset", metavar="NAME")
    output_dir: Path = option("MMRec's data folder; the result is DIR/NAME", metavar="DIR")
    data_path: Path = option(
        "folder of all datasets (default: dataset)", Path("dataset"), metavar="DIR"
    )
    missing: str = option(
        "the row of an item that misses a modality, which MMRec has no notion of: none (refuse), "
        "the mean of the others as in MMRec's own preparation, or zeros",
        MISSING[0],
        choices=MISSING,
    )
    overwrite: bool = option("replace DIR/NAME if it has other content", False)
    dry_run: bool = option("show the report, write nothing", False)


@dataclass
class MMRecExport(Converter):
    """Writes a dataset as `<name>.inter` with x_label, and a matrix by itemID a modality.

    Tokens that are the numbers from 0 on stay themselves, so that what came from MMRec's layout
    goes back to it unchanged; others are numbered in order of first appearance. Rows are those of
    training, then validation, then test, each in their order.
    """

    command = "export"
    summary = "a dataset folder to MMRec's layout: NAME.inter with x_label, image_feat.npy, ..."

    missing: str = MISSING[0]

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add all options; none is shared with the converters of raw data."""
        add_options(parser, ExportOptions)

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> Converter:
        """Return the export that a parsed command line describes."""
        given = from_options(ExportOptions, arguments)
        return cls(given.data_path / given.dataset, given.dataset, given.missing)

    def build(self, folder: Path) -> ConversionReport:
        """Write the interactions, the mappings of ids and the features."""
        interactions = _read_interactions(self.source, self.name)
        entries = FeatureManifest.read(self.source, self.name).modalities
        stored = {m: read_stored_features(self.source, entry) for m, entry in entries.items()}
        featured = {token for _, tokens in stored.values() for token in tokens}
        users = _numbers(interactions["user_id"].unique(), ())
        items = _numbers(interactions["item_id"].unique(), featured)
        others = [column for column in interactions.columns if column not in ("user_id", "item_id")]
        columns = {
            "userID": interactions["user_id"].map(users),
            "itemID": interactions["item_id"].map(items),
            **{column: interactions[column] for column in others},
        }
        _write_table(folder / f"{self.name}.inter", columns)
        for file, key, number, numbers in (
            ("u_id_mapping.csv", "user_id", "userID", users),
            ("i_id_mapping.csv", "asin", "itemID", items),
        ):
            _write_table(folder / file, {key: list(numbers), number: list(numbers.values())})
        modalities = {
            modality: (matrix.shape[1], self._write_features(folder, modality, matrix, rows, items))
            for modality, (matrix, rows) in stored.items()
        }
        return ConversionReport(
            self.name,
            len(interactions),
            {split: int((interactions["x_label"] == label).sum()) for label, split in LABELS},
            len(users),
            interactions["item_id"].nunique(),
            modalities,
            tuple(self._notes(list(stored), users, items, featured)),
        )

    def _write_features(
        self,
        folder: Path,
        modality: str,
        matrix: NDArray[Any],
        tokens: Sequence[str],
        items: Mapping[str, int],
    ) -> int:
        """Write `<modality>_feat.npy`, row r for itemID r; return how many items miss it."""
        row_of = {token: row for row, token in enumerate(tokens)}
        # Both in the order of itemID.
        rows = np.array([row_of.get(item, -1) for item in items], dtype=np.intp)
        lacking = [item for item, row in zip(items, rows, strict=True) if row < 0]
        if len(lacking) == len(items):
            raise DataError(
                f"{self.source}, modality {modality!r}: expected features of the items that have "
                f"interactions, such as {', '.join(lacking[:3])}; found those of others, such as "
                f"{', '.join(tokens[:3])}. Write the features with the tokens of the .inter files."
            )
        if lacking and self.missing == "refuse":
            raise DataError(
                f"{self.source}, modality {modality!r}: expected features of all {len(items)} "
                f"items, because MMRec has no missing modalities; found {len(lacking)} items "
                f"without, first {', '.join(lacking[:5])}. Give --missing mean, as MMRec's own "
                "preparation does, or --missing zero."
            )
        filler = np.zeros(matrix.shape[1], dtype=matrix.dtype)
        if lacking and self.missing == "mean":
            filler = _mean(matrix, rows[rows >= 0])
        shape = (len(items), matrix.shape[1])
        blocks = (
            np.where(rows[block][:, None] >= 0, matrix[rows[block]], filler)
            for block in row_blocks(*shape, f"writing {modality}")
        )
        write_npy(folder / f"{modality}_feat.npy", matrix.dtype, shape, blocks)
        return len(lacking)

    def _notes(
        self,
        modalities: Sequence[str],
        users: Mapping[str, int],
        items: Mapping[str, int],
        featured: set[str],
    ) -> list[str]:
        notes = []
        for name, numbers in (("users", users), ("items", items)):
            kept = all(token == str(number) for token, number in numbers.items())
            notes.append(
                f"{name} keep their numbers"
                if kept
                else f"{name} are numbered anew, see {name[0]}_id_mapping.csv"
            )
        if unused := len(featured.difference(items)):
            notes.append(f"features of {unused} items without interactions are left out")
        if others := [m for m in modalities if m not in MMREC_MODALITIES]:
            notes.append(
                f"MMRec reads image_feat.npy and text_feat.npy; name {', '.join(others)} in its "
                "configuration to use them"
            )
        return notes


def _read_interactions(folder: Path, name: str) -> pd.DataFrame:
    """Return columns user_id, item_id, those of rating and timestamp that there are, x_label."""
    paths = {split: folder / f"{name}.{split}.inter" for split in SPLITS}
    absent = [path.name for path in paths.values() if not path.is_file()]
    if absent:
        raise DataError(
            f"{folder}: expected a dataset with a fixed split, found no {', '.join(absent)}. "
            "Convert its source with a converter that splits, such as python -m "
            "dataset_converters tabular."
        )
    tables: list[pd.DataFrame] = []
    for label, split in LABELS:
        file = DelimitedTable(paths[split], "\t", header=True)
        wanted = [f"{field}:{kind}" for field, kind in FIELD_TYPES.items()]
        found = [column for column in wanted if column in file.columns]
        if found[:2] != wanted[:2] or (tables and found != list(tables[0].columns[:-1])):
            raise DataError(
                f"{paths[split]}: expected the columns {wanted[0]}, {wanted[1]}, and {wanted[2]} "
                f"and {wanted[3]} in all splits or none; found {file.columns}."
            )
        file.check(found, "Rename or remove one of them.")
        pieces = file.read_strictly(found, f"reading {split}")
        table = pd.concat(pieces).assign(x_label=label)
        for column in wanted[:2]:
            file.refuse((table[column] == "").to_numpy(), table[column], "an id")
        tables.append(table)
    names = {f"{field}:{kind}": field for field, kind in FIELD_TYPES.items()}
    together: pd.DataFrame = pd.concat(tables, ignore_index=True).rename(columns=names)
    return together


def _numbers(tokens: Iterable[str], known: Collection[str]) -> dict[str, int]:
    """Return the number of each token, in the order of the numbers."""
    tokens = list(tokens)
    if all(NUMBER.fullmatch(token) for token in tokens):
        count = max(map(int, tokens)) + 1
        if count <= len(tokens) + len(known):
            numbers = {str(number): number for number in range(count)}
            if numbers.keys() - set(tokens) <= set(known):
                return numbers
    return {token: number for number, token in enumerate(tokens)}


def _mean(matrix: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """Return [D] the mean of some rows, summed in float64 a block at a time."""
    total = np.zeros(matrix.shape[1])
    for block in row_blocks(len(rows), matrix.shape[1]):
        total += matrix[rows[block]].sum(axis=0, dtype=np.float64)
    return (total / max(1, len(rows))).astype(matrix.dtype)


def _write_table(path: Path, columns: Mapping[str, Any]) -> None:
    pd.DataFrame(columns).to_csv(path, sep="\t", index=False, lineterminator="\n")


def main(
    arguments: Sequence[str] | None = None, program: str = "python -m dataset_converters.export"
) -> int:
    """Export one dataset, print the report and return the exit status."""
    parser = CommandParser(program, description=f"Export {MMRecExport.summary}")
    MMRecExport.add_arguments(parser)
    return run_command(lambda: convert(MMRecExport, parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main())
