"""From raw interactions to the splits: what is dropped, and which row goes where."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dataset_converters.k_core import k_core
from dataset_converters.raw_interactions import RawInteractions
from dataset_converters.splits import SPLIT_RULES, TIME_RULES, split_labels
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import SPLITS

REPEATS = ("first", "last", "all")


@dataclass(frozen=True)
class Preparation:
    """How interactions are filtered and split, in this order.

    Attributes:
        min_rating: drop rows with a lower rating; None makes every rating a positive.
        repeats: of several interactions of one user with one item, keep the `first` or the `last`
            row, or `all` that differ in time.
        k_core: drop users and items with fewer interactions, again and again; 1 drops none.
        split: one of `SPLIT_RULES`.
        seed: of the split `random`.
    """

    min_rating: float | None = None
    repeats: str = "first"
    k_core: int = 1
    split: str = "random"
    seed: int = 999

    def __post_init__(self) -> None:
        """Refuse what no data could satisfy.

        Raises:
            DataError: a value is out of its range.
        """
        if self.min_rating is not None and not math.isfinite(self.min_rating):
            raise DataError(f"--min-rating: expected a number, found {self.min_rating}.")
        if self.k_core < 1:
            raise DataError(f"--k-core: expected 1 (drops none) or more, found {self.k_core}.")
        if self.seed < 0:
            raise DataError(f"--seed: expected 0 or more, found {self.seed}.")

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add an option for each attribute, with the values of this object as defaults."""
        group = parser.add_argument_group("interactions")
        group.add_argument(
            "--min-rating",
            type=float,
            default=self.min_rating,
            metavar="RATING",
            help="drop interactions with a lower rating (default: every rating is a positive)",
        )
        group.add_argument(
            "--repeats",
            choices=REPEATS,
            default=self.repeats,
            help="of several interactions of one user with one item keep the first row, the last, "
            f"or all that differ in time (default: {self.repeats})",
        )
        group.add_argument(
            "--k-core",
            type=int,
            default=self.k_core,
            metavar="K",
            help="drop users and items with fewer than K interactions, until none is left "
            f"(default: {self.k_core})",
        )
        group.add_argument(
            "--split",
            choices=SPLIT_RULES,
            default=self.split,
            help="; ".join(f"{rule}: {text}" for rule, text in SPLIT_RULES.items()).replace(
                "%", "%%"
            )
            + f" (default: {self.split})",
        )
        group.add_argument(
            "--seed",
            type=int,
            default=self.seed,
            help=f"seed of the split 'random' (default: {self.seed})",
        )

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> Preparation:
        """Return what a parsed command line asks for."""
        return cls(
            arguments.min_rating,
            arguments.repeats,
            arguments.k_core,
            arguments.split,
            arguments.seed,
        )

    def apply(self, raw: RawInteractions, where: str) -> dict[str, pd.DataFrame]:
        """Filter interactions in place, count what is dropped, and split the rest.

        Args:
            raw: the interactions; its `table` and `dropped` are changed.
            where: the source, for messages.

        Returns:
            Split -> its rows, in the order of the table.

        Raises:
            DataError: a column that an option needs is not there, or nothing is left.
        """
        for reason, keep in (
            (f"rating below {self.min_rating}, or none", self._rated_well),
            ("no timestamp, which the split needs", self._timed),
            (f"repeats a user and item{' and time' * (self.repeats == 'all')}", self._distinct),
            (f"user or item with fewer than {self.k_core} interactions", self._in_core),
        ):
            mask = keep(raw.table, where)
            if not mask.any():
                raise DataError(
                    f"{where}: expected interactions, found that none of {len(mask)} is left "
                    f"after dropping: {reason}. Choose a milder filter."
                )
            if not mask.all():
                raw.dropped[reason] = int((~mask).sum())
                raw.table = raw.table.loc[mask]
        timestamps = raw.table["timestamp"].to_numpy() if "timestamp" in raw.table else None
        users = raw.table["user_id"].to_numpy()
        labels = split_labels(users, timestamps, self.split, self.seed)
        return {split: raw.table[labels == label] for label, split in enumerate(SPLITS)}

    def _rated_well(self, table: pd.DataFrame, where: str) -> NDArray[np.bool_]:
        if self.min_rating is None:
            return np.ones(len(table), dtype=bool)
        if "rating" not in table:
            raise DataError(
                f"{where}: --min-rating needs a column of ratings, found none. Name it with "
                "--rating, or leave --min-rating out."
            )
        return table["rating"].to_numpy() >= self.min_rating

    def _timed(self, table: pd.DataFrame, where: str) -> NDArray[np.bool_]:
        if self.split not in TIME_RULES:
            return np.ones(len(table), dtype=bool)
        if "timestamp" not in table:
            raise DataError(
                f"{where}: --split {self.split} needs a column of times, found none. Name it with "
                "--timestamp, or choose --split random."
            )
        return table["timestamp"].notna().to_numpy()

    def _distinct(self, table: pd.DataFrame, where: str) -> NDArray[np.bool_]:
        columns = ["user_id", "item_id"]
        if self.repeats == "all" and "timestamp" in table:
            columns.append("timestamp")
        # Equal rows stand together, in the order of the table. pandas.duplicated finds the same
        # with several times the memory.
        keys = [table[column].to_numpy() for column in columns]
        order = np.lexsort(keys)
        equal = np.ones(len(order) - 1, dtype=bool)
        for key in keys:
            ordered = key[order]
            equal &= ordered[1:] == ordered[:-1]
        kept = np.ones(len(order), dtype=bool)
        kept[(order[:-1] if self.repeats == "last" else order[1:])[equal]] = False
        return kept

    def _in_core(self, table: pd.DataFrame, where: str) -> NDArray[np.bool_]:
        if self.k_core <= 1:
            return np.ones(len(table), dtype=bool)
        return k_core(table["user_id"].to_numpy(), table["item_id"].to_numpy(), self.k_core)
