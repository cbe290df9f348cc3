"""Item graphs that are partly learned: the neighbours of trained features mixed with fixed ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from recbole_margo.data.row_norms import evened_rows
from recbole_margo.graph.item_knn import nearest_neighbors
from recbole_margo.graph.sparse import SparseMatrix
from recbole_margo.graph.sparse_pattern import SparsePattern


class MixedItemGraph:
    r"""A learned item graph, normalised by its row sums, and fixed ones in a weighted sum.

    .. math:: G = (1 - \lambda)\, D^{-1/2} \Big(\sum_m S_m\Big) D^{-1/2} + \lambda \sum_m w_m N_m,
        \qquad D = \mathrm{diag}\Big(\sum_m S_m 1\Big)

    Args:
        learned: pattern and values of each S_m [I, I].
        fixed: weight w_m, a scalar, and N_m [I, I].
        fixed_share: lambda in [0, 1].
    """

    def __init__(
        self,
        learned: Sequence[tuple[SparsePattern, Tensor]],
        fixed: Sequence[tuple[Tensor, SparseMatrix]],
        fixed_share: float,
    ) -> None:
        self.learned, self.fixed, self.fixed_share = list(learned), list(fixed), fixed_share
        total = torch.stack([pattern.row_sums(values) for pattern, values in learned]).sum(dim=0)
        # As in `similarity_knn_graph`: a row without a positive sum has no normalisation.
        self._scale = torch.where(total > 0, total.clamp(min=1e-12).rsqrt(), 0.0).unsqueeze(1)

    def __call__(self, items: Tensor) -> Tensor:
        """Return G X [I, d] of X [I, d], with gradients for X, the values and the weights."""
        scaled = items * self._scale
        learned = torch.stack(
            [pattern.multiply(values, scaled) for pattern, values in self.learned]
        ).sum(dim=0)
        fixed = torch.stack([weight * graph(items) for weight, graph in self.fixed]).sum(dim=0)
        return (1 - self.fixed_share) * self._scale * learned + self.fixed_share * fixed

    def detached(self) -> MixedItemGraph:
        """Return the same graph as a constant."""
        return MixedItemGraph(
            [(pattern, values.detach()) for pattern, values in self.learned],
            [(weight.detach(), graph) for weight, graph in self.fixed],
            self.fixed_share,
        )


def neighbor_similarities(
    features: Tensor, present: Tensor, k: int
) -> tuple[SparsePattern, Tensor]:
    """Return who an item's k nearest neighbours are, and how near, with a gradient.

    Args:
        features: trained features [I, d].
        present: which items have them [I], bool.
        k: number of neighbours, the item itself among them.

    Returns:
        The pattern of the neighbours [I, I], found without a gradient, and the cosines [E], through
        which the gradient reaches the features.

    Source: LATTICE (Zhang et al., MM 2021), structure learning on projected features.
    """
    neighbors = nearest_neighbors(features, present, k)
    pattern = SparsePattern.of_matrix(neighbors).to(features.device)
    directions = functional.normalize(evened_rows(features), dim=1)
    return pattern, pattern.inner_products(directions, directions)
