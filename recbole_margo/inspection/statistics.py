"""Numbers of the interactions, of the features of a modality, and of items that others equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_margo.data.row_norms import RowNorms
from recbole_margo.inspection.alignment import Alignment
from recbole_margo.store.feature_files import equal_groups

NEAR_COSINE = 0.999
# A block of similarities takes at most 64 MB.
BLOCK_CELLS = 1 << 24
# With more items than this, the neighbours of a sample are counted.
LARGEST_EXACT = 10_000
SAMPLED_ITEMS = 5_000
SEED = 0
SHOWN = 5
RANK_ROWS = 2_048
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


@dataclass(frozen=True)
class DuplicateItems:
    """Items that others equal.

    Attributes:
        exact_items: items whose row equals, bit for bit, the row of another item.
        largest_group: items in the largest of them.
        near_items: compared items with another item at a cosine above `NEAR_COSINE`.
        compared_items: items that were compared with all others.
        examples: pairs of item tokens above `NEAR_COSINE`.
        exact_examples: tokens of the first items with equal rows, by group.
    """

    exact_items: int
    exact_groups: int
    largest_group: int
    near_items: int
    compared_items: int
    examples: list[tuple[str, str]]
    exact_examples: list[list[str]]

    @classmethod
    def of(cls, features: Tensor, tokens: NDArray[np.str_]) -> DuplicateItems:
        """Look for duplicates, in blocks.

        Args:
            features: [n, D] rows of the items that have the modality, none of zeros.
            tokens: [n] their tokens.
        """
        equal = equal_groups(features.numpy())
        groups = [len(group) for group in equal]
        directions = RowNorms.of(features).divide_(features.clone())
        count = len(directions)
        compared = np.arange(count)
        if count > LARGEST_EXACT:
            generator = np.random.default_rng(SEED)
            compared = np.sort(generator.choice(count, SAMPLED_ITEMS, replace=False))
        near = 0
        examples: list[tuple[str, str]] = []
        step = max(1, BLOCK_CELLS // max(1, count))
        for start in range(0, len(compared), step):
            items = torch.from_numpy(compared[start : start + step])
            cosines = directions[items] @ directions.T
            cosines[torch.arange(len(items)), items] = -1.0
            best = cosines.max(dim=1)
            found = torch.nonzero(best.values > NEAR_COSINE).squeeze(1)
            near += len(found)
            for row in found[: SHOWN - len(examples)]:
                pair = (str(tokens[items[row]]), str(tokens[best.indices[row]]))
                if pair[::-1] not in examples:
                    examples.append(pair)
        named = [[str(tokens[row]) for row in group[:SHOWN]] for group in equal[:SHOWN]]
        largest = max(groups, default=0)
        return cls(sum(groups), len(groups), largest, near, len(compared), examples, named)


@dataclass(frozen=True)
class ModalityStatistics:
    """Numbers of one modality, without any normalisation.

    Attributes:
        coverage: share of the items that have it.
        interaction_coverage: share of the training interactions whose item has it.
        constant_columns: columns that are the same for all items.
        norms: distribution of the rows' lengths.
        rank: numerical rank of the rows that were sampled for it.
        rank_rows: how many these were.
        principal_dimension: principal components that hold 90 % of their variance.
        alignment: whether rows and items belong together; None without validation interactions.
    """

    items: int
    coverage: float
    interaction_coverage: float
    dimension: int
    constant_columns: int
    norms: dict[str, float]
    rank: int
    rank_rows: int
    principal_dimension: int
    duplicates: DuplicateItems
    alignment: Alignment | None

    @classmethod
    def of(
        cls,
        features: Tensor,
        order: NDArray[np.intp],
        tokens: NDArray[np.str_],
        train: sp.csr_matrix,
        later: sp.csr_matrix,
        label: str | None = None,
    ) -> ModalityStatistics:
        """Measure one modality.

        Args:
            features: [I, D] float32 without normalisation, rows of missing items zero.
            order: [n] the items that have the modality, in the order of the file's rows; n > 0.
            tokens: [I] item tokens.
            train: training interactions [U, I].
            later: validation and test interactions [U, I].
        """
        rows = features[torch.from_numpy(order)]
        sample = rows
        if len(rows) > RANK_ROWS:
            chosen = np.random.default_rng(SEED).choice(len(rows), RANK_ROWS, replace=False)
            sample = rows[torch.from_numpy(np.sort(chosen))]
        rank, principal = ranks(sample)
        per_item = np.asarray(train.sum(axis=0)).ravel()
        return cls(
            items=len(order),
            coverage=len(order) / (len(features) - 1),
            interaction_coverage=float(per_item[order].sum() / per_item.sum()),
            dimension=features.shape[1],
            constant_columns=int((rows == rows[0]).all(dim=0).sum()),
            norms=distribution(row_norms(rows)),
            rank=rank,
            rank_rows=len(sample),
            principal_dimension=principal,
            duplicates=DuplicateItems.of(rows, tokens[order]),
            alignment=Alignment.measure(features, order, train, later, label),
        )


def row_norms(rows: Tensor) -> NDArray[np.float64]:
    """Return the lengths [n] of rows [n, D]."""
    norms = RowNorms.of(rows)
    return (norms.power.double() * norms.norm.double()).numpy()


def ranks(rows: Tensor) -> tuple[int, int]:
    """Return the numerical rank of rows [n, D], and how many components hold 90 % of the variance.

    A singular value counts when it is above max(n, D) times float32's precision times the largest.
    """
    matrix = rows.double()
    squared_tolerance = (max(matrix.shape) * torch.finfo(torch.float32).eps) ** 2
    squares = _squared_singular_values(matrix)
    rank = int((squares > squared_tolerance * squares[0]).sum())
    variances = _squared_singular_values(matrix - matrix.mean(dim=0))
    # Equal rows leave nothing but rounding.
    if variances.sum() <= squared_tolerance * squares[0]:
        return rank, 0
    shares = torch.cumsum(variances, dim=0) / variances.sum()
    return rank, int((shares < 0.9).sum()) + 1


def _squared_singular_values(matrix: Tensor) -> Tensor:
    rows, columns = matrix.shape
    gram = matrix.T @ matrix if columns < rows else matrix @ matrix.T
    squares: Tensor = torch.linalg.eigvalsh(gram).flip(0).clamp(min=0.0)
    return squares
