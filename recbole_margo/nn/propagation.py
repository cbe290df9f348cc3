"""Propagation of embeddings over a graph without weights or activations."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def layer_outputs(
    adjacency: Callable[[Tensor], Tensor], nodes: Tensor, layers: int
) -> list[Tensor]:
    r"""Return the embeddings of every layer, :math:`X^{(l)} = \hat A X^{(l-1)}`.

    Args:
        adjacency: the product with the adjacency, [N, d] -> [N, d].
        nodes: X^(0) [N, d].
        layers: number of products.

    Returns:
        `layers + 1` tensors [N, d], X^(0) first.
    """
    outputs = [nodes]
    for _ in range(layers):
        outputs.append(adjacency(outputs[-1]))
    return outputs


def sum_of_layers(adjacency: Callable[[Tensor], Tensor], nodes: Tensor, layers: int) -> Tensor:
    r"""Return :math:`\sum_{l=0}^{L} \hat A^l X` [N, d]; arguments as in `layer_outputs`."""
    outputs = layer_outputs(adjacency, nodes, layers)
    return sum(outputs[1:], start=outputs[0])


def mean_of_layers(adjacency: Callable[[Tensor], Tensor], nodes: Tensor, layers: int) -> Tensor:
    r"""Return :math:`\frac{1}{L+1} \sum_{l=0}^{L} \hat A^l X` [N, d].

    Arguments as in `layer_outputs`.

    Source: LightGCN (He et al., SIGIR 2020), Eq. 8.
    """
    return sum_of_layers(adjacency, nodes, layers) / (layers + 1)
