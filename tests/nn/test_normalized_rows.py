from __future__ import annotations

import torch
from torch.nn import functional

from recbole_margo.nn.normalized_rows import normalized_rows


def rows_and_gradient(normalize, rows, gradient):
    rows = rows.clone().requires_grad_()
    normalized = normalize(rows)
    normalized.backward(gradient)
    return normalized.detach(), rows.grad


def test_rows_and_gradient_are_those_of_the_composed_function():
    rows, gradient = torch.randn(7, 5), torch.randn(7, 5)
    rows[3] *= 1e6
    found = rows_and_gradient(normalized_rows, rows, gradient)
    expected = rows_and_gradient(functional.normalize, rows, gradient)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


def test_a_row_of_zeros_stays_one_and_its_gradient_is_finite():
    rows, gradient = torch.zeros(2, 3), torch.ones(2, 3)
    found = rows_and_gradient(normalized_rows, rows, gradient)
    expected = rows_and_gradient(functional.normalize, rows, gradient)
    assert torch.equal(found[0], rows)
    torch.testing.assert_close(found[1], expected[1])
    assert found[1].isfinite().all()


def test_the_gradient_by_finite_differences():
    rows = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(normalized_rows, rows)


def test_long_rows_do_not_become_zero():
    rows, gradient = torch.randn(6, 4), torch.randn(6, 4)
    found = rows_and_gradient(normalized_rows, rows * 1e30, gradient)
    expected = rows_and_gradient(functional.normalize, rows.double() * 1e30, gradient.double())
    torch.testing.assert_close(found[0].double(), expected[0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found[1].double(), expected[1], rtol=1e-4, atol=1e-36)
