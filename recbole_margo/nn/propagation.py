"""Propagation of embeddings over a graph without weights or activations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from recbole_margo.graph.bipartite import InteractionGraph
from recbole_margo.graph.sparse import SparseMatrix, horner


def layer_outputs(
    adjacency: Callable[[Tensor], Tensor], nodes: Tensor, layers: int
) -> list[Tensor]:
    r"""Return the embeddings of every layer, :math:`X^{(l)} = \hat A X^{(l-1)}`.

    Args:
        adjacency: the product with the adjacency, [N, d] -> [N, d].
        nodes: X^(0) [N, d].

    Returns:
        `layers + 1` tensors [N, d], X^(0) first.
    """
    outputs = [nodes]
    for _ in range(layers):
        outputs.append(adjacency(outputs[-1]))
    return outputs


def sum_of_layers(adjacency: Callable[[Tensor], Tensor], nodes: Tensor, layers: int) -> Tensor:
    r"""Return :math:`\sum_{l=0}^{L} \hat A^l X` [N, d]; arguments as in `layer_outputs`."""
    if isinstance(adjacency, SparseMatrix):
        return adjacency.sum_of_powers(nodes, layers)
    return horner(lambda total: nodes + adjacency(total), nodes, layers)


def mean_of_layers(adjacency: Callable[[Tensor], Tensor], nodes: Tensor, layers: int) -> Tensor:
    r"""Return :math:`\frac{1}{L+1} \sum_{l=0}^{L} \hat A^l X` [N, d].

    Arguments as in `layer_outputs`.

    Source: LightGCN (He et al., SIGIR 2020), Eq. 8.
    """
    return sum_of_layers(adjacency, nodes, layers) / (layers + 1)


def light_gcn(
    adjacency: InteractionGraph | Callable[[Tensor], Tensor],
    users: Tensor,
    items: Tensor,
    layers: int,
) -> tuple[Tensor, Tensor]:
    """Return users and items after LightGCN over the interactions.

    Args:
        adjacency: the graph, or the product with any bipartite adjacency, users first.
        users: embeddings [U, d].
        items: embeddings [I, d].

    Returns:
        Users [U, d] and items [I, d], the mean of all layers.

    Source: LightGCN (He et al., SIGIR 2020), Eq. 7-8.
    """
    if isinstance(adjacency, InteractionGraph):
        all_users, all_items = adjacency.sum_of_layers(users, items, layers)
        return all_users / (layers + 1), all_items / (layers + 1)
    nodes = mean_of_layers(adjacency, torch.cat([users, items]), layers)
    return nodes[: len(users)], nodes[len(users) :]


def power(adjacency: Callable[[Tensor], Tensor], nodes: Tensor, layers: int) -> Tensor:
    r"""Return :math:`\hat A^L X` [N, d]; arguments as in `layer_outputs`."""
    return layer_outputs(adjacency, nodes, layers)[-1]


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
