"""Projections of raw modality features to the embedding size."""

from __future__ import annotations

from torch import nn


def linear_projection(feature_size: int, embedding_size: int) -> nn.Module:
    """Return one linear layer.

    Args:
        feature_size: number of columns D of the features.
        embedding_size: width d of the result.

    Returns:
        A module [I, D] -> [I, d].
    """
    return nn.Linear(feature_size, embedding_size)


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
