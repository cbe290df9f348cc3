from __future__ import annotations

import dense_latent as latent
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from recbole_margo.nn.modality_attention import ModalityAttention

USABLE = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)


def attention(dtype: torch.dtype = torch.float32) -> tuple[ModalityAttention, torch.Tensor]:
    """Return an attention with random parameters and embeddings [N, M, d]."""
    module = ModalityAttention(5).to(dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module, torch.randn(4, 3, 5, dtype=dtype)


def parameters_of(module: ModalityAttention) -> dict[str, np.ndarray]:
    return {
        f"attention.{name}": value.detach().double().numpy()
        for name, value in module.named_parameters()
    }


def test_weights_equal_the_dense_formula():
    module, embeddings = attention()
    expected = latent.attention(embeddings.double().numpy(), USABLE.numpy(), parameters_of(module))
    assert_allclose(module(embeddings, USABLE).detach(), expected, rtol=1e-5, atol=1e-7)


def test_rows_sum_to_one_or_to_nothing_and_missing_modalities_weigh_exactly_nothing():
    module, embeddings = attention()
    weights = module(embeddings, USABLE).detach()
    assert_allclose(weights.sum(dim=1), [1, 1, 1, 0], rtol=1e-6)
    assert not weights[~USABLE].any()
    assert weights[2, 1] == 1


def test_what_stands_in_a_missing_modality_has_no_effect():
    module, embeddings = attention()
    before = module(embeddings, USABLE)
    changed = torch.where(USABLE.unsqueeze(-1), embeddings, 1e6)
    assert torch.equal(module(changed, USABLE), before)


def test_one_query_serves_every_node_and_modality():
    module, _ = attention()
    equal = torch.randn(5).expand(4, 3, 5)
    assert_allclose(module(equal, torch.ones(4, 3).bool()).detach(), 1 / 3, rtol=1e-6)
    assert {name: tuple(value.shape) for name, value in module.named_parameters()} == {
        "query.0.weight": (5, 5),
        "query.0.bias": (5,),
        "query.2.weight": (1, 5),
    }


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_gradients_are_finite_where_everything_is_missing(scale):
    module, embeddings = attention()
    with torch.no_grad():
        module.query[2].weight.mul_(scale)
    embeddings.requires_grad_()
    (module(embeddings, USABLE) * torch.randn(4, 3)).sum().backward()
    assert torch.isfinite(embeddings.grad).all()
    assert not embeddings.grad[~USABLE].any()
    assert all(torch.isfinite(parameter.grad).all() for parameter in module.parameters())


def test_gradients_by_finite_differences(double_precision):
    module, embeddings = attention(torch.float64)
    embeddings.requires_grad_()
    assert torch.autograd.gradcheck(lambda e: module(e, USABLE), embeddings)
