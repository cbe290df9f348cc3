"""The directions of the items in a feature space, a block at a time."""

from __future__ import annotations

import torch
from torch import Tensor


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
        norm = torch.linalg.vector_norm(self._features, dim=1, dtype=torch.float32)
        self.items = torch.nonzero(present & (norm > 0)).squeeze(1)
        self._norm = norm[self.items]

    def __len__(self) -> int:
        """Return N, the number of items that have a direction."""
        return len(self.items)

    @property
    def width(self) -> int:
        """The number of columns D."""
        return self._features.shape[1]

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Return directions [n, D] of some of the N items, by a range or by positions [n]."""
        directions: Tensor = self._features[self.items[rows]].float()
        return directions.div_(self._norm[rows].unsqueeze(1))
