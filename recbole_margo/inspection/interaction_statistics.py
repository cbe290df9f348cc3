"""Counts of a dataset's interactions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

QUANTILES = {"minimum": 0.0, "10%": 0.1, "25%": 0.25, "median": 0.5, "75%": 0.75, "90%": 0.9}


@dataclass(frozen=True)
class InteractionStatistics:
    """Counts of the interactions of all splits.

    Attributes:
        users: users with any interaction.
        items: items with any interaction.
        interactions: split -> interactions.
        density: interactions of all splits by users times items.
        user_degrees: distribution of the training interactions of a user: quantiles and mean.
        item_degrees: likewise of an item.
        cold_users: users without a training interaction.
        cold_items: items without a training interaction.
        repeated: validation and test interactions whose user and item occur in training too.
    """

    users: int
    items: int
    interactions: dict[str, int]
    density: float
    user_degrees: dict[str, float]
    item_degrees: dict[str, float]
    cold_users: int
    cold_items: int
    repeated: int

    @classmethod
    def of(cls, splits: Mapping[str, sp.csr_matrix]) -> InteractionStatistics:
        """Count interactions.

        Args:
            splits: `train`, `valid`, `test` -> number of interactions [U, I], PAD included.
        """
        train = splits["train"]
        users, items = (size - 1 for size in train.shape)
        counts = {split: int(matrix.sum()) for split, matrix in splits.items()}
        user_degrees, item_degrees = degrees(train)
        seen = (train > 0).astype(np.int64)
        others = [matrix for split, matrix in splits.items() if split != "train"]
        return cls(
            users=users,
            items=items,
            interactions=counts,
            density=sum(counts.values()) / (users * items),
            user_degrees=distribution(user_degrees),
            item_degrees=distribution(item_degrees),
            cold_users=int((user_degrees == 0).sum()),
            cold_items=int((item_degrees == 0).sum()),
            repeated=int(sum(matrix.multiply(seen).sum() for matrix in others)),
        )


def degrees(train: sp.csr_matrix) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the training interactions of every user [U - 1] and item [I - 1], without PAD."""
    of_users = np.asarray(train.sum(axis=1), dtype=np.int64).ravel()
    of_items = np.asarray(train.sum(axis=0), dtype=np.int64).ravel()
    return of_users[1:], of_items[1:]


def distribution(values: NDArray[np.integer] | NDArray[np.floating]) -> dict[str, float]:
    """Return quantiles, maximum and mean of values [n], n > 0."""
    found = dict(zip(QUANTILES, np.quantile(values, list(QUANTILES.values())), strict=True))
    found |= {"maximum": values.max(), "mean": values.mean()}
    return {name: float(value) for name, value in found.items()}
