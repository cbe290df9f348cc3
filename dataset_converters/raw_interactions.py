"""Interactions as a source gives them, before anything is dropped or split."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from recbole_margo.store.tables.table_file import clean_ids


@dataclass
class RawInteractions:
    """A table of interactions whose users and items are numbers.

    Attributes:
        table: columns user_id and item_id (numbers that stand for tokens) and, if the source has
            them, rating and timestamp.
        users: token by number.
        items: token by number.
        rows_read: rows of the source.
        dropped: reason -> rows of the source that are not in `table`.
        notes: what the reader had to guess.
    """

    table: pd.DataFrame
    users: list[str]
    items: list[str]
    rows_read: int
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def clean_ids(self, where: dict[str, str]) -> None:
        """Apply `clean_ids` to users and items, and number them again where two became one.

        Args:
            where: user_id and item_id -> file and column, for messages.
        """
        for column, tokens in (("user_id", self.users), ("item_id", self.items)):
            cleaned = clean_ids(tokens, where[column])
            codes, unique = pd.factorize(np.array(cleaned, dtype=object))
            changed = [
                token for token, clean in zip(tokens, cleaned, strict=True) if token != clean
            ]
            if changed:
                self.notes.append(
                    f"{len(changed):,} ids of {column} are written with a fraction of zero, such "
                    f"as {changed[0]}, and are read without it; {len(tokens) - len(unique):,} of "
                    "them are the same as another id"
                )
            self.table[column] = codes[self.table[column].to_numpy()]
            tokens[:] = unique

    def item_tokens(self) -> list[str]:
        """Return the items of the table, in the order of their first appearance."""
        return [self.items[code] for code in self.table["item_id"].unique()]

    def with_tokens(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return rows of the table with tokens in the place of numbers."""
        decoded: pd.DataFrame = table.assign(
            user_id=np.array(self.users, dtype=object)[table["user_id"]],
            item_id=np.array(self.items, dtype=object)[table["item_id"]],
        )
        return decoded
