"""Interactions drawn with the degrees of real catalogues, and interactions read from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.shapes import Shape
from recbole_margo.errors import RecBoleMargoError

# What 5-core data have at least; a user has at least three in training.
LEAST_DEGREE = 5
# Exponents of the densities p(degree) ~ degree^-a; items are the more skewed.
USER_EXPONENT, ITEM_EXPONENT = 3.0, 2.2
# No one interacts with more than this share of the other side.
LARGEST_SHARE = 0.25
MOST_ROUNDS = 1000
LABELS = {0: "train", 1: "valid", 2: "test"}
COLUMNS = ("userID", "itemID", "x_label")


def generated_splits(shape: Shape, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Return interactions with power laws of users and items, the same for the same seed.

    Degrees are quantiles of a power law, not below 5 where there are enough interactions; which
    user meets which item is drawn anew until no pair comes twice (the configuration model).

    Args:
        shape: the sizes, all of which are met exactly.
        seed: of everything that is drawn.

    Returns:
        train, valid and test -> a table with the columns user_id and item_id.
    """
    random = np.random.default_rng(seed)
    user_degree = power_law_degrees(shape.users, shape.interactions, shape.items, USER_EXPONENT)
    item_degree = power_law_degrees(shape.items, shape.interactions, shape.users, ITEM_EXPONENT)
    users = np.repeat(random.permutation(shape.users), user_degree)
    items = _distinct_items(users, np.repeat(random.permutation(shape.items), item_degree), random)
    split = _split_of_rows(users, shape, random)
    table = pd.DataFrame({"user_id": users, "item_id": items}).astype(str)
    return {name: table[split == label].reset_index(drop=True) for label, name in LABELS.items()}


def read_splits(path: Path) -> dict[str, pd.DataFrame]:
    """Return the interactions of a file in MMRec's layout: userID, itemID, x_label.

    Args:
        path: tab separated, with a header; x_label 0, 1, 2 is train, valid, test.

    Returns:
        train, valid and test -> a table with the columns user_id and item_id.

    Raises:
        RecBoleMargoError: if the file is missing or another one.
    """
    if not path.is_file():
        raise RecBoleMargoError(f"--interactions: there is no file {path}")
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, usecols=list(COLUMNS))
    except (ValueError, OSError) as error:
        raise RecBoleMargoError(
            f"--interactions: {path} must be tab separated with the columns "
            f"{', '.join(COLUMNS)}: {error}"
        ) from error
    tables = {
        name: table.loc[table["x_label"] == str(label), list(COLUMNS[:2])]
        .set_axis(["user_id", "item_id"], axis=1)
        .reset_index(drop=True)
        for label, name in LABELS.items()
    }
    empty = [f"{label} ({name})" for label, name in LABELS.items() if tables[name].empty]
    if empty:
        raise RecBoleMargoError(
            f"--interactions: {path} has no row with x_label {', '.join(empty)}; it needs all three"
        )
    return tables


def power_law_degrees(count: int, total: int, limit: int, exponent: float) -> NDArray[np.int64]:
    """Return degrees of a power law with a given sum, descending.

    Args:
        count: number of nodes N.
        total: sum of the degrees.
        limit: nodes on the other side.
        exponent: a of p(degree) ~ degree^-a.

    Returns:
        Degrees [N].
    """
    least = min(LEAST_DEGREE, total // count)
    most = max(int(limit * LARGEST_SHARE), -(-total // count))
    quantiles = (np.arange(count) + 0.5) / count
    weights = quantiles ** (-1.0 / (exponent - 1.0)) - 1.0
    degrees = np.full(count, least, dtype=np.int64)
    while (rest := total - int(degrees.sum())) > 0:
        open_weights = np.where(degrees < most, weights, 0.0)
        degrees = np.minimum(degrees + _apportioned(rest, open_weights), most)
    return degrees


def _apportioned(total: int, weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return whole numbers in proportion to weights [N] with a given sum (largest remainders)."""
    shares = total * weights / weights.sum()
    whole = np.floor(shares).astype(np.int64)
    largest = np.argsort(whole - shares, kind="stable")[: total - int(whole.sum())]
    whole[largest] += 1
    return whole


def _distinct_items(
    users: NDArray[np.int64], items: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Deal the items [E] out to the rows of the users [E] so that no pair comes twice."""
    items = random.permutation(items)
    for _ in range(MOST_ROUNDS):
        pairs = users * (int(items.max()) + 1) + items
        _, first = np.unique(pairs, return_index=True)
        repeated = np.setdiff1d(np.arange(len(pairs)), first, assume_unique=True)
        if not len(repeated):
            return items
        # Rows that come twice change items with as many others, drawn among all.
        others = random.choice(len(pairs), size=len(repeated) + 1, replace=False)
        changing = np.union1d(repeated, others)
        items[changing] = items[random.permutation(changing)]
    raise RecBoleMargoError("the generated graph is too dense: some pairs always come twice")


def _split_of_rows(
    users: NDArray[np.int64], shape: Shape, random: np.random.Generator
) -> NDArray[np.int64]:
    """Return 0, 1 or 2 for each row [E]: every user has some to validate and some to test on."""
    degree = np.bincount(users, minlength=shape.users)
    # What goes beyond one each belongs to the active users, as a share of what they have.
    spare = np.maximum(degree - LEAST_DEGREE, 0).astype(np.float64)
    valid = 1 + _apportioned(shape.valid - shape.users, spare)
    test = 1 + _apportioned(shape.test - shape.users, spare)
    order = np.lexsort((random.random(len(users)), users))
    place = np.arange(len(users)) - np.repeat(np.cumsum(degree) - degree, degree)
    owner = users[order]
    split = np.empty(len(users), dtype=np.int64)
    split[order] = np.select(
        [place < valid[owner], place < valid[owner] + test[owner]], [1, 2], default=0
    )
    return split
