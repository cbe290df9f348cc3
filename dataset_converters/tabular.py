"""Any table of interactions, any table of items, a folder of images, any matrices."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from dataset_converters.interaction_converter import InteractionConverter
from dataset_converters.interaction_table import OPTIONS, choose_columns, read_interactions
from dataset_converters.item_inputs import ItemInputs
from dataset_converters.preparation import Preparation
from dataset_converters.raw_interactions import RawInteractions
from recbole_margo.store.tables import open_table
from recbole_margo.store.tables.columns import choose_item_columns, read_item_texts


class TabularConverter(InteractionConverter):
    """Converts one's own data; what is not said is guessed, and the report says the guess."""

    command = "tabular"
    summary = "your own data: a table of interactions, with texts, images or matrices of items"
    source_is_file = True

    def __init__(
        self,
        source: Path,
        name: str,
        preparation: Preparation | None = None,
        inputs: ItemInputs | None = None,
        columns: Mapping[str, str | None] | None = None,
        items: Path | None = None,
        item_id: str | None = None,
        text_columns: Sequence[str] | None = None,
        separator: str | None = None,
        encoding: str | None = None,
        header: bool | None = None,
    ) -> None:
        r"""Remember what is to be converted, and how.

        Args:
            source: the interactions: csv, tsv, JSON lines or parquet.
            name: name of the dataset to make.
            preparation: filters and split.
            inputs: images, matrices and text features.
            columns: user_id, item_id, rating, timestamp -> column; None: guessed.
            items: a table of items in any of these formats.
            item_id: its column of ids; None: guessed.
            text_columns: its columns of text; None: guessed.
            separator: of both tables; `\t` may be written as it is here. None: guessed.
            encoding: of both tables; None: UTF-8.
            header: whether the interactions have one; None: guessed.
        """
        super().__init__(source, name, preparation, inputs)
        self.columns = dict(columns or {})
        self.items = items
        self.item_id = item_id
        self.text_columns = text_columns
        self.separator = separator.replace("\\t", "\t") if separator else None
        self.encoding = encoding
        self.header = header
        self.item_column = ""  # known once the interactions are read

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the columns and the form of the tables."""
        super().add_arguments(parser)
        group = parser.add_argument_group("tables", "What is left out is guessed and reported.")
        for field, option in OPTIONS.items():
            group.add_argument(
                option, dest=field, metavar="COLUMN", help=f"column of the {option[2:]}"
            )
        group.add_argument(
            "--items", type=Path, metavar="FILE", help="table of the items and their texts"
        )
        group.add_argument("--item-id", dest="item_key", metavar="COLUMN", help="its item column")
        group.add_argument(
            "--text-columns", metavar="COLUMN,COLUMN", help="its columns of text, separated by ,"
        )
        group.add_argument("--separator", help="between the fields of both tables, such as ';'")
        group.add_argument("--encoding", help="of both tables, such as latin-1 (default: utf-8)")
        group.add_argument(
            "--header",
            action=argparse.BooleanOptionalAction,
            help="whether the first line of the interactions names the columns",
        )

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> TabularConverter:
        """Return the converter that a parsed command line describes."""
        text_columns = arguments.text_columns
        return cls(
            arguments.source,
            arguments.name,
            Preparation.from_arguments(arguments),
            ItemInputs.from_arguments(arguments),
            {field: getattr(arguments, field) for field in OPTIONS},
            arguments.items,
            arguments.item_key,
            text_columns.split(",") if text_columns else None,
            arguments.separator,
            arguments.encoding,
            arguments.header,
        )

    def read_interactions(self) -> RawInteractions:
        """Read the table of interactions."""
        table = open_table(self.source, self.separator, self.encoding, self.header)
        columns, notes = choose_columns(table, self.columns)
        self.item_column = columns["item_id"]
        raw = read_interactions(table, columns)
        raw.notes = [f"{self.source.name}: {table.description}", *notes, *raw.notes]
        return raw

    def read_texts(self, items: Sequence[str]) -> tuple[pd.DataFrame | None, list[str]]:
        """Read the table of items, if there is one."""
        if self.items is None:
            return None, []
        table = open_table(self.items, self.separator, self.encoding)
        id_column, text_columns, notes = choose_item_columns(
            table, self.item_id, self.text_columns, self.item_column
        )
        texts, more_notes = read_item_texts(table, id_column, text_columns, items)
        return texts, [f"{self.items.name}: {table.description}", *notes, *more_notes]
