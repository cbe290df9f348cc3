from __future__ import annotations

import dense_formulas as dense
import dense_latent as latent
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from recbole_margo.nn.projection import ModalityAttention, log_modality_weights, modality_scores


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_scores_equal_the_dot_product_of_each_modality(modalities):
    random = np.random.default_rng(0)
    users, items = random.normal(size=(2, 5, modalities, 4))
    expected = [dense.modality_scores(u, i) for u, i in zip(users, items, strict=True)]
    assert_allclose(modality_scores(torch.tensor(users), torch.tensor(items)), expected, rtol=1e-6)


def test_scores_of_half_precision_are_float32():
    users = torch.full((1, 1, 64), 60.0, dtype=torch.float16)
    scores = modality_scores(users, users)  # 230,400 does not fit float16
    assert scores.dtype == torch.float32
    assert scores.item() == 64 * 3600


@st.composite
def logits_and_masks(draw, largest=1e4):
    modalities = draw(st.integers(1, 4))
    row = st.lists(st.floats(-largest, largest, width=32), min_size=modalities, max_size=modalities)
    logits = draw(st.lists(row, min_size=1, max_size=4))
    mask = draw(
        st.lists(
            st.lists(st.booleans(), min_size=modalities, max_size=modalities),
            min_size=len(logits),
            max_size=len(logits),
        )
    )
    return torch.tensor(logits), torch.tensor(mask)


@given(logits_and_masks())
def test_weights_equal_the_softmax_over_present_modalities(drawn):
    logits, mask = drawn
    log_weights = log_modality_weights(logits, mask)
    for row in range(len(logits)):
        expected = dense.item_weights(logits[row].double().numpy(), mask[row].numpy())
        assert_allclose(log_weights[row].exp(), expected, rtol=1e-4, atol=1e-7)


@given(logits_and_masks())
def test_weights_are_finite_and_zero_exactly_where_a_modality_is_missing(drawn):
    logits, mask = drawn
    logits.requires_grad_()
    log_weights = log_modality_weights(logits, mask)
    weights = log_weights.exp()
    some = mask.any(dim=1)
    assert torch.isfinite(log_weights[mask]).all()
    assert (weights[some][~mask[some]] == 0).all()
    assert torch.allclose(weights.sum(dim=1), torch.ones(len(weights)))
    if mask.any():
        (log_weights[mask].sum() + (weights * torch.arange(weights.shape[1])).sum()).backward()
        assert torch.isfinite(logits.grad).all()
        assert (logits.grad[~mask] == 0).all()


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_an_item_without_any_modality_has_uniform_weights_and_no_gradient(modalities):
    logits = torch.randn(2, modalities, requires_grad=True)
    mask = torch.tensor([[False] * modalities, [True] * modalities])
    weights = log_modality_weights(logits, mask).exp()
    assert_allclose(weights[0].detach(), [1 / modalities] * modalities, rtol=1e-6)
    (weights * torch.arange(1.0, modalities + 1)).sum().backward()
    assert (logits.grad[0] == 0).all()


def test_one_modality_has_weight_one():
    weights = log_modality_weights(torch.tensor([[3.0], [-1e4]]), torch.ones(2, 1).bool()).exp()
    assert (weights == 1).all()


def test_weights_are_computed_in_float32():
    weights = log_modality_weights(torch.zeros(1, 2, dtype=torch.float16), torch.ones(1, 2).bool())
    assert weights.dtype == torch.float32


def test_gradients_by_finite_differences(double_precision):
    mask = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])

    def weights(logits):
        return log_modality_weights(logits, mask).exp()

    def log_weights(logits):
        return log_modality_weights(logits, mask)[mask]

    logits = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(weights, logits)
    assert torch.autograd.gradcheck(log_weights, logits)
    users, items = (torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True) for _ in "ui")
    assert torch.autograd.gradcheck(modality_scores, (users, items))


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


def test_gradients_of_the_attention_by_finite_differences(double_precision):
    module, embeddings = attention(torch.float64)
    embeddings.requires_grad_()
    assert torch.autograd.gradcheck(lambda e: module(e, USABLE), embeddings)
