"""Rows of a trained model's item table for items that it was not trained with; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recbole_margo.nn.content_path import ContentPath, unit_rows
from recbole_margo.store.manifest import EncoderRecord


@dataclass(frozen=True)
class Content:
    """The way from the stored features of a new item to its row of the item table.

    Attributes:
        path: from the features as the model takes them to a row of the item table.
        widths: columns of the features as they are stored [M].
        normalizations: what the model does to the features of each modality [M]; the tables
            `mean_m` and `deviation_m` of the path belong to `standard`.
        encoders: what made the features of each modality [M], None where it is not known; empty in
            bundles of earlier versions.
    """

    path: ContentPath
    widths: tuple[int, ...]
    normalizations: tuple[str, ...]
    encoders: tuple[EncoderRecord | None, ...] = ()

    def item_rows(
        self,
        raw: Sequence[NDArray[np.float32]],
        present: NDArray[np.bool_],
        weights: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Return rows of the item table [B, K].

        Args:
            raw: features as they are stored, one [B, D_m] per modality; zeros where there are none.
            present: which item has which modality [B, M].
            weights: of the modalities [B, M], of a model that weighs them.
        """
        features = []
        for m, (matrix, normalization) in enumerate(zip(raw, self.normalizations, strict=True)):
            if normalization == "l2":
                matrix = unit_rows(matrix)
            elif normalization == "standard":
                matrix = (matrix - self.path.table("mean", m)) / self.path.table("deviation", m)
            features.append(matrix)
        rows = self.path.item_rows(features, present)
        if weights is None:
            return rows
        return (rows.reshape(*weights.shape, -1) * weights[:, :, None]).reshape(rows.shape)


def prior_weights(
    known: NDArray[np.float32], has: NDArray[np.bool_], present: NDArray[np.bool_]
) -> NDArray[np.float32]:
    r"""Return the weights of modalities that items have before anything is known of their users.

    .. math:: w_{new}^m = \mathrm{mean}_{i : M_i = M_{new}} w_i^m

    It is what a weight is expected to become: the trained ones follow the held-out evidence, of
    which a new item has none. Where no trained item has the same modalities, the mean weight of
    each modality among the items that have it, scaled to the sum 1.

    Args:
        known: weights of the trained items [I, M].
        has: which of them have which modality [I, M].
        present: likewise for the new ones [B, M].
    """
    known, has = np.asarray(known), np.asarray(has)
    found = np.zeros(present.shape, np.float32)
    for pattern in np.unique(present, axis=0):
        alike = (has == pattern).all(axis=1)
        if alike.any():
            weights = known[alike].mean(axis=0, dtype=np.float64)
        else:
            weights = (known * has).sum(axis=0, dtype=np.float64) / np.maximum(has.sum(axis=0), 1)
        weights = np.where(pattern, weights, 0.0)
        if not weights.sum() > 0:
            weights = np.maximum(pattern, not pattern.any()).astype(float)
        found[(present == pattern).all(axis=1)] = weights / weights.sum()
    return found
