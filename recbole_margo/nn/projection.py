"""Projections of raw modality features to the embedding size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbole_margo.resources import onednn_linear

# From so many columns on, oneDNN's product is faster than the BLAS that torch uses (on AMD).
MANY_COLUMNS = 256
# The same for the gradient of the weight, for which oneDNN has to reorder the features.
MANY_COLUMNS_BACKWARD = 1024


class FeatureLinear(nn.Linear):
    """`nn.Linear` in the precision of its input; see `feature_product`."""

    def forward(self, features: Tensor) -> Tensor:
        """Return F W^T + b [I, d] of features [I, D]."""
        return feature_product(features, self.weight, self.bias)


def feature_product(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return F W^T + b in the precision of F, by the fastest product that the processor has.

    Most of a training step is this product and the gradient of its weight (docs/performance.md).

    Args:
        features: F [I, D], float32 or bfloat16.
        weight: W [d, D], float32.
        bias: b [d].

    Returns:
        [I, d].
    """
    if features.dtype == torch.bfloat16:
        weight, bias = weight.to(features), bias if bias is None else bias.to(features)
        return functional.linear(features, weight, bias)
    product = onednn_linear()
    constant = features.device.type == "cpu" and not features.requires_grad
    if (
        product is None
        or not constant
        or features.shape[1] < MANY_COLUMNS
        or features.dtype != torch.float32
        or torch.is_autocast_enabled("cpu")
        or torch.compiler.is_compiling()
    ):
        return functional.linear(features, weight, bias)
    projected: Tensor = _ConstantTimesWeight.apply(  # type: ignore[no-untyped-call]
        features, weight, bias, product
    )
    return projected


class _ConstantTimesWeight(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        product: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    ) -> Tensor:
        ctx.save_for_backward(features)
        ctx.product, ctx.biased = product, bias is not None
        return product(features, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor | None, None]:
        (features,) = ctx.saved_tensors
        if features.shape[1] < MANY_COLUMNS_BACKWARD:
            of_weight = gradients[0].T @ features
        else:
            of_weight = ctx.product(gradients[0].T, features.T, None)
        return None, of_weight, gradients[0].sum(dim=0) if ctx.biased else None, None


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
    layer = FeatureLinear(feature_size, embedding_size, bias=bias)
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
    """
    return nn.Parameter(initialize(torch.empty(rows, embedding_size)))


def mlp_projection(feature_size: int, hidden_size: int, embedding_size: int) -> nn.Module:
    """Return two linear layers with a LeakyReLU between them.

    Args:
        feature_size: number of columns D of the features.
        embedding_size: width d of the result.

    Returns:
        A module [I, D] -> [I, d].

    Source: DRAGON (Zhou et al., ECAI 2023), section 3.2; MMGCN (Wei et al., MM 2019).
    """
    return nn.Sequential(
        FeatureLinear(feature_size, hidden_size),
        nn.LeakyReLU(0.01, inplace=True),
        FeatureLinear(hidden_size, embedding_size),
    )
