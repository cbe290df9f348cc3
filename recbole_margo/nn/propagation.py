"""Propagation of embeddings without weights or activations, and the items that a user row sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recbole_margo.graph.bipartite import InteractionGraph
from recbole_margo.graph.sparse import SparseMatrix, horner
from recbole_margo.nn.content_path import array

# Users whose products with the graph of users are held at once.
USERS_AT_ONCE = 4096


def sum_of_layers(adjacency: Callable[[Tensor], Tensor], nodes: Tensor, layers: int) -> Tensor:
    r"""Return :math:`\sum_{l=0}^{L} \hat A^l X` [N, d].

    Args:
        adjacency: the product with the adjacency, [N, d] -> [N, d].
        nodes: X [N, d].
        layers: L.
    """
    if isinstance(adjacency, SparseMatrix):
        return adjacency.sum_of_powers(nodes, layers)
    return horner(lambda total: nodes + adjacency(total), nodes, layers)


def mean_of_layers(adjacency: Callable[[Tensor], Tensor], nodes: Tensor, layers: int) -> Tensor:
    r"""Return :math:`\frac{1}{L+1} \sum_{l=0}^{L} \hat A^l X` [N, d].

    Arguments as in `sum_of_layers`.

    Source: LightGCN (He et al., SIGIR 2020), Eq. 8.
    """
    return sum_of_layers(adjacency, nodes, layers) / (layers + 1)


def light_gcn(
    graph: InteractionGraph, users: Tensor, items: Tensor, layers: int
) -> tuple[Tensor, Tensor]:
    """Return users [U, d] and items [I, d] after LightGCN, the mean of all layers.

    Source: LightGCN (He et al., SIGIR 2020), Eq. 7-8.
    """
    all_users, all_items = graph.sum_of_layers(users, items, layers)
    return all_users / (layers + 1), all_items / (layers + 1)


def power(adjacency: Callable[[Tensor], Tensor], nodes: Tensor, layers: int) -> Tensor:
    r"""Return :math:`\hat A^L X` [N, d]; arguments as in `sum_of_layers`."""
    for _ in range(layers):
        nodes = adjacency(nodes)
    return nodes


def select_rows(table: Tensor, rows: Tensor | None) -> Tensor:
    """Return the rows [*, d] of a table [N, d] by id [*], or the table itself if none are named.

    The gradient of a row that comes several times is a sum: in a fixed order on a processor, and on
    a GPU where torch is told to be deterministic, which sorts the ids for it.
    """
    if rows is None:
        return table
    if table.device.type == "cpu":
        return functional.embedding(rows, table)
    return table.index_select(0, rows.flatten()).view(*rows.shape, *table.shape[1:])


@dataclass(frozen=True)
class LinearHistory:
    r"""User rows as a sum over the items that the user was trained on.

    .. math:: e_u^m = o_u^m + \sum_{j \in N_u} a_{uj}^m s_j^m + \text{rest}_u^m

    Attributes:
        own: o, what comes of the user's own embedding [U, K].
        sources: s [I, K].
        weights: a [U, I] with the pattern of the interactions, per modality or one for all.
    """

    own: NDArray[np.float32]
    sources: NDArray[np.float32]
    weights: tuple[sp.csr_matrix, ...]


def light_gcn_history(
    interactions: sp.csr_matrix, users: Tensor, sources: Tensor, layers: int
) -> LinearHistory:
    r"""Return the parts of users after LightGCN, which leave no rest.

    .. math:: e_u = \frac{1}{L + 1} \Big( p_u + \sum_{j \in N_u} \hat R_{uj}
        \Big(\sum_{l < L} \hat A^l X\Big)_j \Big)

    Args:
        interactions: R-hat [U, I], `normalized_interactions`.
        users: P [U, K].
        sources: the items of the sum of the layers before the last [I, K]; not used without layers.
        layers: L.
    """
    scale = np.float32(1 / (layers + 1))
    factor = scale if layers else np.float32(0)
    return LinearHistory(array(users) * scale, array(sources) * factor, (interactions,))


def shared_weights(
    interactions: sp.csr_matrix, users: sp.csr_matrix, factors: NDArray[Any] | None, modalities: int
) -> tuple[sp.csr_matrix, ...]:
    r"""Return how much of an item of a history arrives, directly and over users alike.

    .. math:: a^m = (I + C)\, \mathrm{diag}(w^m)\, \hat R \quad \text{where } R > 0

    Args:
        interactions: R-hat [U, I].
        users: I + C [U, U].
        factors: w [U, M]; none: 1, and one matrix for all modalities.
        modalities: M.
    """
    if factors is None:
        return (_on_pattern(users, interactions, interactions),)
    columns: Sequence[NDArray[Any]] = [factors[:, m] for m in range(modalities)]
    return tuple(
        _on_pattern(users, sp.csr_matrix(sp.diags(column) @ interactions), interactions)
        for column in columns
    )


def _on_pattern(
    users: sp.csr_matrix, values: sp.csr_matrix, pattern: sp.csr_matrix
) -> sp.csr_matrix:
    """Return the product of two matrices where a third has entries, in its order."""
    parts = []
    for first in range(0, pattern.shape[0], USERS_AT_ONCE):
        rows = slice(first, first + USERS_AT_ONCE)
        ones = pattern[rows].copy()
        ones.data[:] = 1.0
        parts.append(sp.csr_matrix((users[rows] @ values).multiply(ones)))
    found = sp.csr_matrix(sp.vstack(parts))
    found.sort_indices()
    return found
