"""The directions of the items in a feature space, a block at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_margo.data.row_norms import RowNorms


class ItemDirections:
    r"""The rows :math:`x_i / \lVert x_i \rVert` of the items that have one.

    Only the features as they were given are held, whatever the size of the catalogue: a block of
    directions is made when it is asked for.

    Args:
        features: the feature matrix [I, D]; taken as a constant.
        present: which items have the modality [I], bool.
    """

    def __init__(self, features: Tensor, present: Tensor) -> None:
        self._features = features.detach()
        norms = RowNorms.of(self._features)
        self.items = torch.nonzero(present & (norms.norm > 0)).squeeze(1)
        self._norms = norms[self.items]

    def __len__(self) -> int:
        """Return N, the number of items that have a direction."""
        return len(self.items)

    @property
    def width(self) -> int:
        """The number of columns D."""
        return self._features.shape[1]

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Return directions [n, D] of some of the N items, by a range or by positions [n]."""
        return self._norms[rows].divide_(self._features[self.items[rows]].float())
