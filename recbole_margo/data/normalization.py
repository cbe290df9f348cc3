"""Normalisation of feature matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_margo.data.row_norms import RowNorms

NORMALIZATIONS = ("none", "l2", "standard")


def normalize_features(matrix: Tensor, present: Tensor, normalization: str) -> None:
    """Normalise a feature matrix in place; rows of missing items stay zero.

    `l2`: x_i / ||x_i||. `standard`: (x_i - mean) / std per column, over the items that have the
    modality (population standard deviation); a column that is constant over them becomes zero.

    Args:
        matrix: [I, D] float32, zero where the item misses the modality.
        present: [I] bool, the items that have it.
        normalization: one of `NORMALIZATIONS`.
    """
    if normalization == "l2":
        RowNorms.of(matrix).divide_(matrix)
    elif normalization == "standard":
        # Missing rows are zero, so that sums over all rows are sums over the items that have it.
        # Sums are in float64, a block at a time: the whole matrix in float64 would be the largest
        # thing in memory.
        count = int(present.sum())
        blocks = torch.split(matrix, 1024)
        mean = torch.stack([block.double().sum(dim=0) for block in blocks]).sum(dim=0) / count
        matrix -= mean.to(matrix.dtype)
        matrix[~present] = 0.0
        squares = torch.stack([block.double().square().sum(dim=0) for block in blocks]).sum(dim=0)
        deviation = (squares / count).sqrt().to(matrix.dtype)
        matrix /= torch.where(deviation > 0, deviation, 1.0)
