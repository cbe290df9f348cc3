"""What the feature matrix of one modality is like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_margo.data.row_norms import RowNorms
from recbole_margo.inspection.alignment import Alignment
from recbole_margo.inspection.duplicate_items import DuplicateItems
from recbole_margo.inspection.interaction_statistics import distribution

RANK_ROWS = 2_048
SEED = 0


@dataclass(frozen=True)
class ModalityStatistics:
    """Numbers of one modality, without any normalisation.

    Attributes:
        items: items that have it.
        coverage: share of the items that have it.
        interaction_coverage: share of the training interactions whose item has it.
        dimension: columns.
        constant_columns: columns that are the same for all items.
        norms: distribution of the rows' lengths.
        rank: numerical rank of the rows that were sampled for it.
        rank_rows: how many these were.
        principal_dimension: principal components that hold 90 % of their variance.
        duplicates: items that others equal.
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
        valid: sp.csr_matrix,
        label: str | None = None,
    ) -> ModalityStatistics:
        """Measure one modality.

        Args:
            features: [I, D] float32 without normalisation, rows of missing items zero.
            order: [n] the items that have the modality, in the order of the file's rows; n > 0.
            tokens: [I] item tokens.
            train: training interactions [U, I].
            valid: validation interactions [U, I].
            label: text of a progress bar on a terminal.
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
            alignment=Alignment.measure(features, order, train, valid, label),
        )


def row_norms(rows: Tensor) -> NDArray[np.float64]:
    """Return the lengths [n] of rows [n, D]."""
    norms = RowNorms.of(rows)
    lengths: NDArray[np.float64] = (norms.power.double() * norms.norm.double()).numpy()
    return lengths


def ranks(rows: Tensor) -> tuple[int, int]:
    """Return the numerical rank, and how many principal components hold 90 % of the variance.

    A singular value counts when it is above max(n, D) times float32's precision times the largest.

    Args:
        rows: [n, D].
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
    """Return them from the largest, by the smaller Gram matrix: exact enough, and much faster."""
    rows, columns = matrix.shape
    gram = matrix.T @ matrix if columns < rows else matrix @ matrix.T
    squares: Tensor = torch.linalg.eigvalsh(gram).flip(0).clamp(min=0.0)
    return squares
