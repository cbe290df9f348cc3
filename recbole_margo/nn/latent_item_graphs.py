"""The item graphs of LATTICE and MICRO: learned neighbours mixed with those of raw features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_margo.data.row_norms import rescaled_rows
from recbole_margo.graph.item_knn import nearest_neighbors, similarity_knn_graph
from recbole_margo.graph.neighbor_search import EXACT, NeighborSearch
from recbole_margo.graph.sparse import SparseMatrix
from recbole_margo.graph.sparse_pattern import SparsePattern
from recbole_margo.nn.content_path import degrees, direction_tables, layer_tables
from recbole_margo.nn.projection import linear_projection


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
        self.learned_degrees = total  # the diagonal of D [I]
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
    directions = functional.normalize(rescaled_rows(features), dim=1)
    return pattern, pattern.inner_products(directions, directions)


REFRESHES = ("epoch", "batch")


class LatentItemGraphs(nn.Module):
    """Builds item graphs from raw and projected features and keeps them between refreshes.

    Args:
        features: raw features at the start, one matrix [I, D_m] per modality.
        mask: presence mask [I, M], bool.
        parameters: the hyper-parameters of the model; reads `embedding_size`, `item_neighbors`,
            `fixed_graph_share` (lambda, the share of the graphs of the raw features) and
            `graph_refresh`: `epoch` builds the graphs at the first batch of an epoch, which alone
            carries a gradient into them, `batch` builds them for every batch.
        search: how the neighbours in the fixed graphs are found; learned graphs are always exact.

    Source: LATTICE (Zhang et al., MM 2021) and MICRO (Zhang et al., TKDE 2022), structure learning.
    """

    def __init__(
        self,
        features: Sequence[Tensor],
        mask: Tensor,
        parameters: Any,
        search: NeighborSearch = EXACT,
    ) -> None:
        super().__init__()
        self.neighbors = parameters.item_neighbors
        self.fixed_share = parameters.fixed_graph_share
        self.refresh = parameters.graph_refresh
        self.projections = nn.ModuleList(
            linear_projection(matrix.shape[1], parameters.embedding_size) for matrix in features
        )
        self.fixed = nn.ModuleList(
            SparseMatrix(similarity_knn_graph(matrix, mask[:, m], self.neighbors, search))
            for m, matrix in enumerate(features)
        )
        self._kept: list[MixedItemGraph] | None = None

    def begin_epoch(self) -> None:
        """Let the next batch build the graphs anew."""
        self._kept = None

    def separate(self, projected: Sequence[Tensor], mask: Tensor) -> list[MixedItemGraph]:
        """Return one graph per modality.

        Args:
            projected: projected features [I, d] per modality.
            mask: presence mask [I, M], bool.
        """
        one = projected[0].new_ones(())
        return [
            MixedItemGraph([self._learned(projected, mask, m)], [(one, fixed)], self.fixed_share)
            for m, fixed in enumerate(self._fixed())
        ]

    def combined(
        self, projected: Sequence[Tensor], mask: Tensor, weights: Tensor
    ) -> list[MixedItemGraph]:
        """Return one graph in which the modalities are weighed, in a list.

        Args:
            projected: projected features [I, d] per modality.
            mask: presence mask [I, M], bool.
            weights: weights of the modalities [M], summing to 1.
        """
        learned = []
        for m in range(len(projected)):
            pattern, values = self._learned(projected, mask, m)
            learned.append((pattern, weights[m] * values))
        fixed = list(zip(weights, self._fixed(), strict=True))
        return [MixedItemGraph(learned, fixed, self.fixed_share)]

    def for_training(self, build: Callable[[], list[MixedItemGraph]]) -> list[MixedItemGraph]:
        """Return the graphs for a training batch: new ones, or those kept since the refresh."""
        if self._kept is not None:
            return self._kept
        graphs = build()
        if self.refresh == "epoch":
            self._kept = [graph.detached() for graph in graphs]
        return graphs

    def content_tables(self, projected: Sequence[Tensor], mask: Tensor) -> dict[str, Any]:
        """Return what `ContentPath` needs of the projections and of the fixed graphs.

        Args:
            projected: projected features [I, d] per modality.
            mask: presence mask [I, M], bool.
        """
        tables: dict[str, Any] = direction_tables(projected, mask, "projected")
        for m, (layer, graph) in enumerate(zip(self.projections, self._fixed(), strict=True)):
            tables |= layer_tables("projection", layer, m)
            tables[f"degrees_{m}"] = degrees(graph)
        return tables

    def _learned(
        self, projected: Sequence[Tensor], mask: Tensor, m: int
    ) -> tuple[SparsePattern, Tensor]:
        return neighbor_similarities(projected[m], mask[:, m], self.neighbors)

    def _fixed(self) -> list[SparseMatrix]:
        return [graph for graph in self.fixed if isinstance(graph, SparseMatrix)]
