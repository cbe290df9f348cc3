"""From raw interactions to the splits: what is dropped, and which row goes where."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dataset_converters.interactions import RawInteractions
from recbole_margo.command_line import option
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import SPLITS


def k_core(
    users: NDArray[np.integer], items: NDArray[np.integer], minimum: int
) -> NDArray[np.bool_]:
    """Find the interactions in which every user and every item has at least `minimum`.

    Users and items below the minimum are removed together, again and again, until nothing changes.
    The result is the largest such set; it does not depend on the order of removal.

    Args:
        users: [E] the user of every interaction, as numbers from 0 without large gaps.
        items: [E] its item, likewise.
        minimum: the fewest interactions that a user or an item may have.
    """
    core = np.zeros(len(users), dtype=bool)
    kept = np.arange(len(users))
    while len(kept):
        enough = np.bincount(users)[users] >= minimum
        enough &= np.bincount(items)[items] >= minimum
        if enough.all():
            break
        kept, users, items = kept[enough], users[enough], items[enough]
    core[kept] = True
    return core


SPLIT_RULES = {
    "random": "a fifth of each user's interactions, drawn at random, is held out (as published)",
    "time": "the latest fifth of each user's interactions is held out",
    "leave-one-out": "each user's latest interaction is the test, the one before the validation",
    "global-time": "the first 80 % of all time is training, the next 10 % validation",
}
TIME_RULES = frozenset(SPLIT_RULES) - {"random"}
TRAIN, VALID, TEST = range(3)
# A user below this has nothing to spare: one interaction each for training, validation and test.
FEWEST_TO_SPLIT = 3


def split_labels(
    users: NDArray[np.integer], timestamps: NDArray[np.number] | None, rule: str, seed: int
) -> NDArray[np.int8]:
    r"""Assign every interaction to training (0), validation (1) or test (2).

    A user with n < 10 interactions gives 1 to validation and 1 to test; a user with n >= 10 gives
    \lfloor n / 5 \rfloor, of which \lfloor half \rfloor go to validation and the rest to test. A
    user with fewer than 3 keeps all of them in training.

    Args:
        users: [E] the user of every interaction, as numbers.
        timestamps: [E] its time; not needed by the rule `random`. Equal times keep the row order.
        rule: one of `SPLIT_RULES`.
        seed: of the draw; only the rule `random` uses it.

    Raises:
        ValueError: the rule is unknown, or needs timestamps that are not given.
    """
    if rule not in SPLIT_RULES:
        raise ValueError(f"expected one of {list(SPLIT_RULES)}, found {rule!r}.")
    if rule == "random":
        order = np.random.default_rng(seed).permutation(len(users))
        return _by_user(users, order, leave_one_out=False)
    if timestamps is None:
        raise ValueError(f"the rule {rule!r} needs timestamps.")
    if rule == "global-time":
        return _by_global_time(timestamps)
    order = np.argsort(timestamps, kind="stable")
    return _by_user(users, order, leave_one_out=rule == "leave-one-out")


def held_out_counts(
    counts: NDArray[np.integer],
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Return how many of n interactions of a user go to validation and to test."""
    held = np.where(counts < 10, 2, counts // 5)
    held = np.where(counts < FEWEST_TO_SPLIT, 0, held)
    return held // 2, held - held // 2


def _by_user(
    users: NDArray[np.integer], order: NDArray[np.integer], leave_one_out: bool
) -> NDArray[np.int8]:
    """Label the last interactions of every user, where `order` [E] lists all from first to last."""
    counts, from_end = _places_from_end(users, order)
    valid, test = held_out_counts(np.minimum(counts, FEWEST_TO_SPLIT) if leave_one_out else counts)
    labels = np.full(len(order), TRAIN, dtype=np.int8)
    labels[from_end <= valid + test] = VALID
    labels[from_end <= test] = TEST
    return labels


def _places_from_end(
    users: NDArray[np.integer], order: NDArray[np.integer]
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Return for every interaction how many its user has, and its place from the user's last, 1."""
    order = order[np.argsort(users[order], kind="stable")]
    _, starts, counts = np.unique(users[order], return_index=True, return_counts=True)
    count = np.empty(len(order), dtype=np.int64)
    place = np.empty(len(order), dtype=np.int64)
    count[order] = np.repeat(counts, counts)
    place[order] = np.repeat(starts + counts, counts) - np.arange(len(order))
    return count, place


def draw_validation(users: NDArray[np.integer], ratio: float, seed: int) -> NDArray[np.bool_]:
    r"""Draw the validation from the training interactions of a split that has none.

    A user with n of them gives \max(1, \lfloor ratio n \rfloor), one with fewer than 3 none.

    Args:
        users: [E] the user of every training interaction.
    """
    order = np.random.default_rng(seed).permutation(len(users))
    counts, from_end = _places_from_end(users, order)
    drawn = np.maximum(1, np.floor(ratio * counts))
    return from_end <= np.where(counts < FEWEST_TO_SPLIT, 0, drawn)


def _by_global_time(timestamps: NDArray[np.number]) -> NDArray[np.int8]:
    """Cut all time at its quantiles .8 and .9; interactions of one moment stay together."""
    end_of_train, end_of_valid = np.quantile(timestamps, [0.8, 0.9])
    labels = np.full(len(timestamps), TRAIN, dtype=np.int8)
    labels[timestamps > end_of_train] = VALID
    labels[timestamps > end_of_valid] = TEST
    return labels


REPEATS = ("first", "last", "all")


@dataclass(frozen=True)
class Preparation:
    """How interactions are filtered and split, in the order of the fields."""

    min_rating: float | None = option(
        "drop interactions with a lower rating (default: every rating is a positive)",
        None,
        metavar="RATING",
    )
    repeats: str = option(
        "of several interactions of one user with one item keep the first row, the last, or all "
        "that differ in time",
        "first",
        choices=REPEATS,
    )
    k_core: int = option(
        "drop users and items with fewer than K interactions, until none is left", 1, metavar="K"
    )
    split: str = option(
        "; ".join(f"{rule}: {text}" for rule, text in SPLIT_RULES.items()),
        "random",
        choices=SPLIT_RULES,
    )
    seed: int = option("seed of the split 'random' and of --valid_ratio", 999, metavar="SEED")
    valid_ratio: float = option(
        "where the source has a split without a validation: the share of each user's training "
        "interactions that is drawn for it",
        0.1,
        metavar="RATIO",
    )

    def __post_init__(self) -> None:
        """Refuse what no data could satisfy."""
        if self.min_rating is not None and not math.isfinite(self.min_rating):
            raise DataError(f"--min_rating: expected a number, found {self.min_rating}.")
        if self.k_core < 1:
            raise DataError(f"--k_core: expected 1 (drops none) or more, found {self.k_core}.")
        if self.seed < 0:
            raise DataError(f"--seed: expected 0 or more, found {self.seed}.")
        if not 0 < self.valid_ratio < 1:
            raise DataError(f"--valid_ratio: expected between 0 and 1, found {self.valid_ratio}.")

    def apply(self, raw: RawInteractions, where: str) -> dict[str, pd.DataFrame]:
        """Filter interactions in place, count what is dropped, and return the rest by split."""
        if "split" in raw.table and self.split != "random":
            raise DataError(
                f"--split {self.split}: expected none, because the split of the source is kept. "
                "Leave it out."
            )
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
        labels = self._labels(raw, where)
        table = raw.table.drop(columns="split", errors="ignore")
        return {split: table[labels == label] for label, split in enumerate(SPLITS)}

    def _labels(self, raw: RawInteractions, where: str) -> NDArray[np.integer]:
        """Return the split of every interaction: that of the source, or one that is made here."""
        users = raw.table["user_id"].to_numpy()
        if "split" not in raw.table:
            timestamps = raw.table["timestamp"].to_numpy() if "timestamp" in raw.table else None
            return split_labels(users, timestamps, self.split, self.seed)
        labels: NDArray[np.integer] = raw.table["split"].to_numpy(copy=True)
        counts = np.bincount(labels, minlength=len(SPLITS))
        if not counts[TRAIN] or not counts[TEST]:
            found = ", ".join(
                f"{count:,} {split}" for split, count in zip(SPLITS, counts, strict=True)
            )
            raise DataError(
                f"{where}: expected interactions for training and for the test in the split of the "
                f"source, found {found}. Name another split, or let --split make one."
            )
        if not counts[VALID]:
            training = np.flatnonzero(labels == TRAIN)
            drawn = training[draw_validation(users[training], self.valid_ratio, self.seed)]
            if not len(drawn):
                raise DataError(
                    f"{where}: expected a validation, or users with {FEWEST_TO_SPLIT} or more "
                    "training interactions to draw one from, found neither."
                )
            labels[drawn] = VALID
            raw.notes.append(
                f"the source has no validation: {len(drawn):,} of its {len(training):,} training "
                f"interactions are drawn for it ({self.valid_ratio:g} of each user's, at least 1: "
                "--valid_ratio, --seed); the test is kept as it is"
            )
        return labels

    def _rated_well(self, table: pd.DataFrame, where: str) -> NDArray[np.bool_]:
        if self.min_rating is None:
            return np.ones(len(table), dtype=bool)
        if "rating" not in table:
            raise DataError(
                f"{where}: --min_rating needs a column of ratings, found none. Name it with "
                "--rating, or leave --min_rating out."
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
        # A split of the source is kept with what it has twice.
        columns += ["split"] * ("split" in table)
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
