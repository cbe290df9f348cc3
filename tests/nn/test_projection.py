from __future__ import annotations

import dense_formulas as dense
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from recbole_margo.nn import projection
from recbole_margo.nn.projection import (
    MANY_COLUMNS,
    MANY_COLUMNS_BACKWARD,
    FeatureLinear,
    linear_projection,
    mlp_projection,
)


def parameters_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {f"p.{name}": value.detach().numpy() for name, value in module.named_parameters()}


def test_linear_projection():
    module, X = linear_projection(5, 3), torch.randn(7, 5)
    expected = dense.linear(
        X.numpy(), {f"p.{k[2:]}": v for k, v in parameters_of(module).items()}, "p"
    )
    assert module(X).shape == (7, 3)
    assert_allclose(module(X).detach(), expected, rtol=1e-5, atol=1e-6)


def test_mlp_projection_has_a_leaky_relu_of_slope_one_percent_between_two_layers():
    module, X = mlp_projection(5, 8, 3), torch.randn(7, 5)
    parameters = parameters_of(module)
    hidden = dense.linear(X.numpy(), parameters, "p.0")
    assert hidden.shape == (7, 8) and (hidden < 0).any()
    expected = dense.linear(np.where(hidden > 0, hidden, 0.01 * hidden), parameters, "p.2")
    assert_allclose(module(X).detach(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("columns", [5, MANY_COLUMNS, MANY_COLUMNS_BACKWARD])
@pytest.mark.parametrize("trained_features", [False, True])
def test_a_feature_layer_and_its_gradients_are_those_of_a_linear_layer(
    columns, biased, trained_features
):
    ours = FeatureLinear(columns, 6, bias=biased)
    plain = torch.nn.Linear(columns, 6, bias=biased)
    plain.load_state_dict(ours.state_dict())
    gradient = torch.randn(9, 6)
    results = []
    for layer in (ours, plain):
        torch.manual_seed(0)
        features = torch.randn(9, columns, requires_grad=trained_features)
        projected = layer(features)
        projected.backward(gradient)
        gradients = [parameter.grad for parameter in layer.parameters()]
        results.append([projected.detach(), *gradients, features.grad])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_without_onednn_a_feature_layer_is_a_linear_layer(monkeypatch):
    monkeypatch.setattr(projection, "onednn_linear", lambda: None)
    layer, features = FeatureLinear(MANY_COLUMNS, 2), torch.randn(3, MANY_COLUMNS)
    expected = torch.nn.functional.linear(features, layer.weight, layer.bias)
    assert torch.equal(layer(features), expected)


@pytest.mark.parametrize("biased", [True, False])
def test_features_in_bfloat16_are_projected_in_it_and_the_gradients_are_float32(biased):
    layer, features = FeatureLinear(64, 6, bias=biased), torch.randn(9, 64).bfloat16()
    projected = layer(features)
    assert projected.dtype == torch.bfloat16
    gradient = torch.randn(9, 6).bfloat16()
    projected.backward(gradient)
    # All operands have eight bits; only the sums are rounded once more.
    weight = layer.weight.detach().bfloat16().double()
    expected = features.double() @ weight.T
    if biased:
        expected += layer.bias.detach().bfloat16().double()
        assert_allclose(layer.bias.grad, gradient.double().sum(dim=0), rtol=2**-7, atol=2**-7)
    assert_allclose(projected.detach().float(), expected, rtol=2**-7, atol=2**-7)
    assert layer.weight.grad.dtype == torch.float32
    of_weight = gradient.double().T @ features.double()
    assert_allclose(layer.weight.grad, of_weight, rtol=2**-7, atol=2**-6)
