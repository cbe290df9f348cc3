"""Exact nearest neighbours by cosine: the items' directions, each pair compared once."""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

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


# Cosines that are held at a time, whatever the size of the catalogue: 16 MB in float32, and 256 MB
# on a GPU.
BLOCK_CELLS, BLOCK_CELLS_ON_GPU = 2**22, 2**26
# Seconds; a bar that would be gone before it is read only disturbs.
PROGRESS_DELAY = 3.0


def exact_neighbors(
    directions: ItemDirections, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k nearest of N items, each its own first; among equals the lower position.

    Cosines are symmetric, so only blocks on and above the diagonal are computed, and each serves
    its rows and its columns.

    Args:
        k: number of neighbours, at most N.

    Returns:
        Their positions [N, k], ascending in each row, and their cosines [N, k].
    """
    on_cpu = directions.items.device.type == "cpu"
    side = isqrt(BLOCK_CELLS if on_cpu else BLOCK_CELLS_ON_GPU)
    blocks = torch.split(torch.arange(len(directions), device=directions.items.device), side)
    best = [_Best.of_nothing(len(block), block.device) for block in blocks]
    pairs = [(a, b) for a in range(len(blocks)) for b in range(a, len(blocks))]
    for a, b in tqdm(pairs, "item neighbours", leave=False, disable=None, delay=PROGRESS_DELAY):
        if a == b:
            rows = directions[blocks[a]]
            cosines = rows @ rows.T
            cosines.fill_diagonal_(torch.inf)
        else:
            cosines = rows @ directions[blocks[b]].T
            best[b] = best[b].joined_by(cosines.T.contiguous(), blocks[a], k)
        best[a] = best[a].joined_by(cosines, blocks[b], k)
    positions = torch.cat([rows.positions for rows in best])
    values = torch.cat([rows.cosines for rows in best]).clamp_(max=1.0)
    return positions.cpu().numpy(), values.cpu().numpy()


class _Best(NamedTuple):
    """The largest cosines [n, <= k] that n rows have met, and with which positions [n, <= k].

    The positions ascend in each row, so that the lower column is the lower position.
    """

    cosines: Tensor
    positions: Tensor

    @classmethod
    def of_nothing(cls, count: int, device: torch.device) -> _Best:
        empty = torch.empty(count, 0, device=device)
        return cls(empty, empty.long())

    def joined_by(self, cosines: Tensor, positions: Tensor, k: int) -> _Best:
        """Return the k largest when cosines [n, C] with higher positions [C] are met."""
        chosen = largest_columns(cosines, k)
        cosines = torch.cat([self.cosines, cosines.gather(1, chosen)], dim=1)
        joined = torch.cat([self.positions, positions[chosen]], dim=1)
        chosen = largest_columns(cosines, k)
        return _Best(cosines.gather(1, chosen), joined.gather(1, chosen))


def largest_columns(values: Tensor, k: int) -> Tensor:
    """Return the columns of the k largest values of each row; among equals the lower column.

    Args:
        values: [n, C].

    Returns:
        Columns [n, min(k, C)], ascending in each row.
    """
    n, width = values.shape
    if k >= width:
        return torch.arange(width, device=values.device).expand(n, width)
    best = torch.topk(values, k + 1, dim=1)
    columns = best.indices[:, :k]
    # Which of several equal values torch takes is not defined; it matters where the last value
    # that is in equals the first that is out.
    smallest = best.values[:, k - 1]
    tied = torch.nonzero(smallest == best.values[:, k]).squeeze(1)
    if len(tied):
        rows, limit = values[tied], smallest[tied].unsqueeze(1)
        order = -torch.arange(1.0, width + 1, device=values.device)
        rank = torch.where(rows > limit, 1.0, torch.where(rows == limit, order, -torch.inf))
        columns = columns.index_copy(0, tied, torch.topk(rank, k, dim=1).indices)
    return columns.sort(dim=1).values
