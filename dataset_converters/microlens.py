"""MicroLens: micro-videos with titles, covers and extracted features (Ni et al., 2023)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dataset_converters.interaction_converter import InteractionConverter
from dataset_converters.interaction_table import choose_columns, read_interactions
from dataset_converters.item_inputs import ItemInputs
from dataset_converters.preparation import Preparation
from dataset_converters.raw_interactions import RawInteractions
from recbole_margo.errors import DataError
from recbole_margo.store.tables.columns import read_item_texts
from recbole_margo.store.tables.delimited import DelimitedTable


class MicroLensConverter(InteractionConverter):
    """Converts MicroLens as it is published; the default split is that of its paper."""

    command = "microlens"
    summary = "MicroLens: *_pairs.csv, *_title*.csv, covers and extracted features"
    preparation = Preparation(split="leave-one-out")
    images_option = "--covers"

    def __init__(
        self,
        source: Path,
        name: str,
        preparation: Preparation | None = None,
        inputs: ItemInputs | None = None,
        pairs: Path | None = None,
        titles: Path | None = None,
    ) -> None:
        """Find the files.

        Args:
            source: folder of the files as they were fetched.
            name: name of the dataset to make.
            preparation: filters and split.
            inputs: covers, matrices and text features. A `.npy` without ids has a row for each of
                the items 1, 2, ... (or 0, 1, ...) of the pairs.
            pairs: user, item, timestamp; None takes `*_pairs.csv`.
            titles: item, title; None takes `*_title*.csv`, if there is one.

        Raises:
            DataError: no file or several could be meant.
        """
        super().__init__(source, name, preparation, inputs)
        found = pairs or _only(source, "*_pairs.csv", "--pairs")
        if found is None:
            raise DataError(
                f"{source}: expected *_pairs.csv (user, item, timestamp), found none. Name the "
                "file with --pairs. The *_pairs.tsv beside it has no timestamps."
            )
        self.pairs = found
        self.titles = titles or _only(source, "*_title*.csv", "--titles")
        self._items: list[str] = []  # known once the pairs are read

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the files of the source."""
        super().add_arguments(parser)
        group = parser.add_argument_group("files", "By default they are found in the source.")
        group.add_argument("--pairs", type=Path, metavar="FILE", help="user, item, timestamp")
        group.add_argument("--titles", type=Path, metavar="FILE", help="item, title")

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> MicroLensConverter:
        """Return the converter that a parsed command line describes."""
        return cls(
            arguments.source,
            arguments.name,
            Preparation.from_arguments(arguments),
            ItemInputs.from_arguments(arguments),
            arguments.pairs,
            arguments.titles,
        )

    def read_interactions(self) -> RawInteractions:
        """Read the pairs."""
        table = DelimitedTable(self.pairs)
        columns, notes = choose_columns(table, {})
        raw = read_interactions(table, columns)
        self._items = raw.items
        raw.notes = [*notes, *raw.notes]
        return raw

    def read_texts(self, items: Sequence[str]) -> tuple[pd.DataFrame | None, list[str]]:
        """Read the titles, if there are any; MicroLens-100k has no header in their file."""
        if self.titles is None:
            return None, ["no titles (*_title*.csv) in the source, so no texts"]
        table = DelimitedTable(self.titles, separator=",")
        item, title = table.columns[:2]
        texts, notes = read_item_texts(table, item, [title], items)
        return texts.set_axis(["title"], axis=1), notes

    def ids_of_rows(self, rows: int) -> list[str] | None:
        """Return the numbers of the items when the matrix has exactly a row for each of them."""
        if not all(item.isdecimal() for item in self._items):
            return None
        numbers = {int(item) for item in self._items}
        first, last = min(numbers), max(numbers)
        if first > 1 or rows != last - first + 1:
            return None
        return [str(number) for number in range(first, last + 1)]


def _only(source: Path, pattern: str, option: str) -> Path | None:
    files = sorted(source.glob(pattern))
    if len(files) > 1:
        raise DataError(
            f"{source}: expected one {pattern}, found {', '.join(file.name for file in files)}. "
            f"Name one with {option}."
        )
    return files[0] if files else None
