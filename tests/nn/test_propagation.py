from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from recbole_margo.nn.propagation import mean_of_layers, power, sum_of_layers


@pytest.mark.parametrize("layers", [0, 1, 2, 4])
def test_sums_and_means_of_the_powers(layers):
    random = np.random.default_rng(0)
    A, X = random.normal(size=(5, 5)), random.normal(size=(5, 3))
    powers = [np.linalg.matrix_power(A, layer) @ X for layer in range(layers + 1)]
    adjacency, nodes = torch.tensor(A).matmul, torch.tensor(X)

    assert_allclose(power(adjacency, nodes, layers), powers[-1], rtol=1e-9)
    assert_allclose(sum_of_layers(adjacency, nodes, layers), sum(powers), rtol=1e-9)
    assert_allclose(mean_of_layers(adjacency, nodes, layers), np.mean(powers, axis=0), rtol=1e-9)


def test_the_nodes_are_not_changed():
    nodes = torch.ones(3, 2)
    sum_of_layers(torch.eye(3).mul(2).matmul, nodes, 2)
    assert (nodes == 1).all()
