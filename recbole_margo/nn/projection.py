"""Projections of raw modality features to the embedding size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def linear_projection(
    feature_size: int,
    embedding_size: int,
    initialize: Callable[[Tensor], Tensor] | None = None,
    bias: bool = True,
) -> nn.Linear:
    """Return one linear layer.

    Args:
        feature_size: number of columns D of the features.
        embedding_size: width d of the result.
        initialize: draws the weight in place, for example `nn.init.xavier_normal_`; none: as
            `nn.Linear` does.
        bias: whether to add a trained vector [d].

    Returns:
        A module [I, D] -> [I, d].
    """
    layer = nn.Linear(feature_size, embedding_size, bias=bias)
    if initialize is not None:
        initialize(layer.weight)
    return layer


def xavier_table(
    rows: int,
    embedding_size: int,
    initialize: Callable[[Tensor], Tensor] = nn.init.xavier_uniform_,
) -> nn.Parameter:
    """Return an embedding table [rows, d], drawn from the Xavier uniform distribution.

    Args:
        rows: number of users or items, PAD included.
        embedding_size: width d.
        initialize: draws the table in place.
    """
    return nn.Parameter(initialize(torch.empty(rows, embedding_size)))


def mlp_projection(feature_size: int, hidden_size: int, embedding_size: int) -> nn.Module:
    """Return two linear layers with a LeakyReLU between them.

    Args:
        feature_size: number of columns D of the features.
        hidden_size: width of the hidden layer.
        embedding_size: width d of the result.

    Returns:
        A module [I, D] -> [I, d].

    Source: DRAGON (Zhou et al., ECAI 2023), section 3.2; MMGCN (Wei et al., MM 2019).
    """
    return nn.Sequential(
        nn.Linear(feature_size, hidden_size),
        nn.LeakyReLU(0.01),
        nn.Linear(hidden_size, embedding_size),
    )
