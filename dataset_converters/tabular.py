"""Any table of interactions, any table of items, a folder of images, any matrices."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dataset_converters.interaction_converter import InteractionConverter
from dataset_converters.interactions import (
    Columns,
    RawInteractions,
    choose_columns,
    is_numbered,
    read_interactions,
)
from recbole_margo.command_line import columns_option, group, option, words_of
from recbole_margo.errors import DataError
from recbole_margo.store.tables import open_table
from recbole_margo.store.tables.columns import (
    INTERACTION_NAMES,
    ITEM_NAMES,
    TEXT_NAMES,
    TITLE_NAMES,
    choose_item_columns,
    choose_title_column,
    guess_column,
    read_item_texts,
)
from recbole_margo.store.tables.table_file import TableFile

SPLIT_FILES = "one file a split, which is kept (or --split_column)"
TABLES = "tables (what is left out is guessed and reported)"


@dataclass
class TabularConverter(InteractionConverter):
    """Converts one's own data; what is not said is guessed, and the report says the guess."""

    command = "tabular"
    summary = "your own data: a table of interactions, with texts, images or matrices of items"
    source_is_file = True

    source: Path = option("table of the interactions", metavar="FILE")
    columns: Columns = group(Columns(), "columns of the interactions")
    items: Path | None = option(
        "table of the items and their texts", None, metavar="FILE", in_group=TABLES
    )
    item_id: str | None = option("its item column", None, metavar="COLUMN", in_group=TABLES)
    text_columns: Sequence[str] | None = columns_option(
        "its columns of text, separated by ,", in_group=TABLES
    )
    title_column: str | None = option(
        "its column of titles, which lists and pages show", None, metavar="COLUMN", in_group=TABLES
    )
    date_format: str | None = option(
        "of dates that are not in ISO 8601, such as '%d.%m.%Y %H:%M'", None, in_group=TABLES
    )
    separator: str | None = option(
        "between the fields of both tables, such as ';'", None, in_group=TABLES
    )
    encoding: str | None = option(
        "of both tables, such as latin-1 (default: utf-8)", None, in_group=TABLES
    )
    items_encoding: str | None = option(
        "of the table of the items, where it has another", None, in_group=TABLES
    )
    header: bool | None = option(
        "whether the first line of the interactions names the columns", None, in_group=TABLES
    )
    valid: Path | None = option(
        "table of the validation; --source is the training then",
        None,
        metavar="FILE",
        in_group=SPLIT_FILES,
    )
    test: Path | None = option("table of the test", None, metavar="FILE", in_group=SPLIT_FILES)

    def __post_init__(self) -> None:
        r"""Take `\t` for a tab."""
        super().__post_init__()
        self.separator = self.separator.replace("\\t", "\t") if self.separator else None
        self._item_column = ""  # known once the interactions are read
        self._titles: pd.Series | None = None  # by item token, once the items are read
        if (self.valid and not self.test) or (self.test and self.columns.split):
            raise DataError(
                "--test, --valid: expected a table of the test, perhaps one of the validation, and "
                "no --split_column with them."
            )

    def read_interactions(self) -> RawInteractions:
        """Read the table of interactions."""
        table = open_table(self.source, self.separator, self.encoding, self.header)
        self._check_guesses(table)
        columns, notes = choose_columns(table, self.columns)
        self._item_column = columns.item_id or ""
        held_out = {
            label: open_table(path, self.separator, self.encoding, self.header)
            for label, path in ((1, self.valid), (2, self.test))
            if path is not None
        }
        raw = read_interactions(table, columns, held_out, self.date_format)
        files = [f"{one.path.name}: {one.description}" for one in (table, *held_out.values())]
        raw.notes = [*files, *notes, *_unused(table, list(columns.chosen.values())), *raw.notes]
        return raw

    def _check_guesses(self, table: TableFile) -> None:
        """Refuse all columns that cannot be guessed at once, where they are more than one."""
        given = self.columns
        wanted = [
            (table, flag, INTERACTION_NAMES[name], vars(given)[name])
            for name, flag in (("user_id", "--user"), ("item_id", "--item"))
        ]
        if self.items is not None:
            goods = open_table(self.items, self.separator, self.items_encoding or self.encoding)
            is_shared = given.item_id in goods.columns
            wanted += [
                (goods, "--item_id", f"{ITEM_NAMES} id", self.item_id or is_shared or None),
                (goods, "--text_columns", TEXT_NAMES, self.text_columns),
            ]
        lacking = [
            (of, flag)
            for of, flag, names, said in wanted
            if said is None and guess_column(of.columns, names) is None and not is_numbered(of)
        ]
        if len(lacking) < 2:
            return
        listed = "; ".join(
            f"{of.path} has {', '.join(map(repr, of.columns))} ({of.description})"
            for of in dict.fromkeys(of for of, _ in lacking)
        )
        flags = " ".join(f"{flag} COLUMN" for _, flag in lacking)
        words = shlex.join(["recbole-margo", "convert", self.command, *words_of(self)])
        raise DataError(
            f"expected columns with names that say what they hold, found none for "
            f"{', '.join(flag for _, flag in lacking)}: {listed}. --no_header "
            f"and --separator change how a file is read. Name them: {words} {flags}"
        )

    def read_texts(self, items: Sequence[str]) -> tuple[pd.DataFrame | None, list[str]]:
        """Read the table of items, if there is one."""
        if self.items is None:
            return None, []
        table = open_table(self.items, self.separator, self.items_encoding or self.encoding)
        id_column, text_columns, notes = choose_item_columns(
            table, self.item_id, self.text_columns, self._item_column
        )
        title, title_note = choose_title_column(
            table, self.title_column, id_column, self.text_columns
        )
        read = list(dict.fromkeys([*text_columns, *([title] if title else [])]))
        rows, more_notes = read_item_texts(table, id_column, read, items)
        self._titles = None if title is None else rows[title]
        texts: pd.DataFrame = rows[text_columns]
        file = f"{self.items.name}: {table.description}"
        notes += [title_note, *_unused(table, [id_column, *read]), *more_notes]
        return texts[(texts != "").any(axis=1)], [file, *notes]

    def item_table(self, texts: pd.DataFrame) -> pd.DataFrame:
        """Return texts and titles, where readers of titles find these by the column's name."""
        if self._titles is None:
            return texts
        title = str(self._titles.name)
        if title in texts and guess_column(texts.columns.tolist(), TITLE_NAMES) == title:
            return texts
        others = texts.drop(columns=title, errors="ignore").rename(columns={"title": "title_text"})
        table: pd.DataFrame = others.reindex(self._titles.index, fill_value="")
        table.insert(0, "title", self._titles)
        return table


def _unused(table: TableFile, used: Sequence[str]) -> list[str]:
    rest = [column for column in table.columns if column not in used]
    return [f"{table.path.name}: columns not used: {', '.join(rest)}"] if rest else []
