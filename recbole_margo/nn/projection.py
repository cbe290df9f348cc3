"""Projections of raw features to the embedding size, and the fusion of modalities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from recbole_margo.nn.content_path import array, layer_tables
from recbole_margo.resources import onednn_linear

# From so many columns on, oneDNN's product is faster than the BLAS that torch uses (on AMD).
MANY_COLUMNS = 256
# The same for the gradient of the weight, for which oneDNN has to reorder the features.
MANY_COLUMNS_BACKWARD = 1024
# Random triplets from which the spread of differences is taken, and how many at a time.
TRIPLETS, BLOCK = 2**15, 2**12


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


def modality_scores(users: Tensor, items: Tensor) -> Tensor:
    r"""Return the score of each modality, :math:`r_{ui}^m = \langle e_u^m, e_i^m \rangle`.

    Args:
        users: user embeddings [B, M, d].
        items: item embeddings [B, M, d].

    Returns:
        Scores [B, M] in float32.

    Source: MARGO (arXiv 2504.16524), Eq. 2.
    """
    return (users.float() * items.float()).sum(dim=-1)


def log_modality_weights(logits: Tensor, mask: Tensor) -> Tensor:
    r"""Return the logarithm of the items' modality weights.

    .. math:: \log w_i = \log \mathrm{softmax}_m(W_i), \qquad w_i^m = 0
        \text{ where item i misses m}

    An item that misses every modality has uniform weights, which nothing trains.

    Args:
        logits: W [B, M].
        mask: presence mask [B, M], bool.

    Returns:
        Log-weights [B, M] in float32, minus infinity at missing modalities. Finite for present
        ones, however large the logits.

    Source: MARGO (arXiv 2504.16524), Eq. 3.
    """
    nothing = ~mask.any(dim=-1, keepdim=True)
    usable = logits.float().masked_fill(nothing, 0.0)
    return torch.log_softmax(usable.masked_fill(~(mask | nothing), -torch.inf), dim=-1)


def spread_of_differences(users: Tensor, items: Tensor, mask: Tensor) -> Tensor:
    r"""Return how much the scores of two items differ in each modality.

    .. math:: \sigma_m^2 = \mathrm{mean}_{u, i, j} (r_{ui}^m - r_{uj}^m)^2

    over random users and pairs of items that both have the modality, always the same ones.

    Args:
        users: user embeddings [U, M, d]; row 0 is PAD.
        items: item embeddings [I, M, d]; row 0 is PAD.
        mask: presence mask [I, M], bool.

    Returns:
        sigma [M]; 1 where no pair differs.
    """
    random = torch.Generator().manual_seed(0)
    user = torch.randint(1, len(users), (TRIPLETS,), generator=random).to(users.device)
    pairs = torch.randint(1, len(items), (2, TRIPLETS), generator=random).to(users.device)
    squares, counts = torch.zeros((2, users.shape[1]), dtype=torch.float64, device=users.device)
    for block in range(0, TRIPLETS, BLOCK):
        first, second = pairs[:, block : block + BLOCK]
        usable = mask[first] & mask[second]
        differences = modality_scores(
            users[user[block : block + BLOCK]], items[first] - items[second]
        )
        squares += (differences.double().square() * usable).sum(dim=0)
        counts += usable.sum(dim=0)
    spread = (squares / counts.clamp(min=1)).sqrt().float()
    return torch.where(spread > 0, spread, 1.0)


class ModalityAttention(nn.Module):
    r"""Weighs the modalities of every node by one query that all share.

    .. math:: \alpha_n^m = \mathrm{softmax}_m\left(q^\top \tanh(W e_n^m + b)\right)

    Source: the attention of MICRO (Zhang et al., TKDE 2022) and MGCN (Yu et al., MM 2023).
    """

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        self.query = nn.Sequential(
            nn.Linear(embedding_size, embedding_size),
            nn.Tanh(),
            nn.Linear(embedding_size, 1, bias=False),
        )

    def forward(self, embeddings: Tensor, usable: Tensor) -> Tensor:
        """Return the weights of the modalities.

        Args:
            embeddings: e [N, M, d].
            usable: which modality a node has [N, M], bool.

        Returns:
            Weights [N, M]; 0 where the node misses the modality, rows sum to 1, or to 0 for a node
            that misses all.
        """
        logits = self.query(embeddings).squeeze(-1).float()
        nothing = ~usable.any(dim=1, keepdim=True)
        weights = torch.softmax(logits.masked_fill(~(usable | nothing), -torch.inf), dim=1)
        return weights.masked_fill(~usable, 0.0)

    def tables(self) -> dict[str, NDArray[Any]]:
        """Return the layers as arrays by name, for `ContentPath`."""
        hidden, _, query = self.query
        return {**layer_tables("attention", hidden), "attention_query": array(query.weight).ravel()}
