from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from recbole_margo.data.feature_transforms import ReducedFeatures, normalize_features
from recbole_margo.data.row_norms import RowNorms, normalized_rows, rescaled_rows, row_powers
from recbole_margo.inspection.statistics import DuplicateItems, row_norms

# Squares of the first overflow in float32, those of the others vanish; the last has few digits.
SCALES = [3e38 / 64, 1e25, 1e19, 1e-22, 1e-30, 1e-37]


def ordinary(rows: int = 40, columns: int = 6) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).normal(size=(rows, columns)).astype("f4"))


def extreme(scale: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return rows of which every second is extreme, and one is zero."""
    rows = ordinary()
    rows[::2] *= scale
    rows[5] = 0.0
    return rows.to(dtype)


def directions_in_float64(rows: torch.Tensor) -> torch.Tensor:
    rows = rows.double()
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / torch.where(norm > 0, norm, 1.0)


@pytest.mark.parametrize("scale", SCALES)
def test_directions_of_extreme_rows_are_those_in_float64(scale: float) -> None:
    rows = extreme(scale)
    found = RowNorms.of(rows).divide_(rows.clone())
    torch.testing.assert_close(found.double(), directions_in_float64(rows), rtol=1e-5, atol=1e-7)
    lengths = torch.linalg.vector_norm(rows.double(), dim=1).numpy()
    np.testing.assert_allclose(row_norms(rows), lengths, rtol=1e-5)


def test_small_numbers_of_half_precision() -> None:
    rows = extreme(6e-7, torch.float16)  # float16 has three digits fewer below 6e-5
    found = RowNorms.of(rows).divide_(rows.float())
    torch.testing.assert_close(found.double(), directions_in_float64(rows), rtol=1e-5, atol=1e-7)
    assert (row_powers(rows) * 2 > rows.abs().amax(dim=1, keepdim=True)).all()


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = RowNorms.of(extreme(1e25))
    monkeypatch.setattr("recbole_margo.data.row_norms.BLOCK_CELLS", 13)
    blocks = RowNorms.of(extreme(1e25))
    assert torch.equal(whole.norm, blocks.norm) and torch.equal(whole.power, blocks.power)


def test_ordinary_rows_keep_their_bits() -> None:
    rows = ordinary(300, 37)
    plain = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    assert torch.equal(RowNorms.of(rows).divide_(rows.clone()), plain)
    assert torch.equal(functional.normalize(rescaled_rows(rows), dim=1), plain)


@pytest.mark.parametrize("scale", SCALES)
def test_powers_of_two_leave_numbers_from_one_to_two(scale: float) -> None:
    evened = rescaled_rows(extreme(scale)).abs().amax(dim=1)
    evened = evened[torch.arange(len(evened)) != 5]
    assert ((evened >= 1) & (evened < 2)).all()
    assert torch.equal(torch.frexp(row_powers(extreme(scale)))[0].unique(), torch.tensor([0.5]))


@pytest.mark.parametrize("scale", SCALES)
def test_l2_normalisation_of_extreme_features(scale: float) -> None:
    rows = extreme(scale)
    expected = directions_in_float64(rows)
    normalize_features(rows, rows.any(dim=1), "l2")
    torch.testing.assert_close(rows.double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("scale", [1e25, 1e-30])
def test_a_reduction_keeps_the_scale(scale: float) -> None:
    matrix = ordinary().numpy()
    matrix[0, 0] = 4.0
    expected = ReducedFeatures.of_matrix(matrix, 3)
    # A power of two, so that the digits are the same.
    power = np.float32(2.0 ** np.round(np.log2(scale)))
    found = ReducedFeatures.of_matrix(matrix * power, 3)
    np.testing.assert_allclose(found.matrix / power, expected.matrix, rtol=1e-4, atol=1e-5)
    assert found.explained == pytest.approx(expected.explained, rel=1e-5)


@pytest.mark.parametrize("scale", [1e25, 1e-30])
def test_near_duplicates_are_found_at_any_scale(scale: float) -> None:
    rows = ordinary(4, 6)
    rows[3] = rows[1] * 1.5
    tokens = np.array(["a", "b", "c", "d"])
    assert DuplicateItems.of(rows * scale, tokens).examples == [("b", "d")]


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
