"""MicroLens: micro-videos with titles, covers and extracted features (Ni et al., 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pandas as pd

from dataset_converters.interaction_converter import FILES, InteractionConverter, only_file
from dataset_converters.interactions import (
    Columns,
    RawInteractions,
    choose_columns,
    read_interactions,
)
from dataset_converters.item_inputs import ItemInputs
from dataset_converters.preparation import Preparation
from recbole_margo.command_line import group, option
from recbole_margo.errors import DataError
from recbole_margo.store.tables.columns import read_item_texts
from recbole_margo.store.tables.delimited import DelimitedTable


@dataclass
class MicroLensConverter(InteractionConverter):
    """Converts MicroLens as it is published; the default split is that of its paper.

    A `.npy` of features without ids has a row for each of the items 1, 2, ... (or 0, 1, ...).
    """

    command = "microlens"
    summary = "MicroLens: *_pairs.csv, *_title*.csv, covers and extracted features"

    preparation: Preparation = group(Preparation(split="leave-one-out"), "interactions")
    inputs: ItemInputs = group(ItemInputs(), "items", images="--covers")
    pairs: Path | None = option("user, item, timestamp", None, metavar="FILE", in_group=FILES)
    titles: Path | None = option("item, title", None, metavar="FILE", in_group=FILES)

    def __post_init__(self) -> None:
        """Find the files that are not named."""
        super().__post_init__()
        self.pairs = self.pairs or self._only("*_pairs.csv", "--pairs")
        if self.pairs is None:
            raise DataError(
                f"{self.source}: expected *_pairs.csv (user, item, timestamp), found none. Name "
                "the file with --pairs. The *_pairs.tsv beside it has no timestamps."
            )
        self.titles = self.titles or self._only("*_title*.csv", "--titles")
        self._items: list[str] = []  # known once the pairs are read

    def _only(self, pattern: str, flag: str) -> Path | None:
        return only_file(sorted(self.source.glob(pattern)), pattern, flag, self.source)

    def read_interactions(self) -> RawInteractions:
        """Read the pairs."""
        table = DelimitedTable(cast(Path, self.pairs))
        columns, notes = choose_columns(table, Columns())
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
