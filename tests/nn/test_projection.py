from __future__ import annotations

import dense_formulas as dense
import numpy as np
import torch
from numpy.testing import assert_allclose

from recbole_margo.nn.projection import linear_projection, mlp_projection


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
