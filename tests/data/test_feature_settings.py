from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_margo.data.feature_settings import NORMALIZATIONS, normalize_features

PRESENT = np.array([False, True, True, False, True, True, True])


def features(scale: float = 1.0) -> np.ndarray:
    matrix = np.random.default_rng(1).normal(3.0, scale, (len(PRESENT), 5)).astype("float32")
    matrix[:, 2] = 0.1  # a column that is the same for all
    matrix[~PRESENT] = 0.0
    return matrix


def normalized(matrix: np.ndarray, normalization: str) -> np.ndarray:
    result = torch.from_numpy(matrix.copy())
    normalize_features(result, torch.from_numpy(PRESENT), normalization)
    return result.numpy()


def test_none_changes_nothing() -> None:
    assert np.array_equal(normalized(features(), "none"), features())


def test_l2_divides_each_row_by_its_norm() -> None:
    expected = features().astype("float64")
    expected[PRESENT] /= np.linalg.norm(expected[PRESENT], axis=1, keepdims=True)
    np.testing.assert_allclose(normalized(features(), "l2"), expected, rtol=1e-6)


def test_standard_uses_the_items_that_have_the_modality() -> None:
    expected = features().astype("float64")
    having = expected[PRESENT]
    deviation = having.std(axis=0)
    deviation[2] = 1.0
    expected[PRESENT] = (having - having.mean(axis=0)) / deviation
    expected[:, 2] = 0.0
    np.testing.assert_allclose(normalized(features(), "standard"), expected, atol=1e-5)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_numbers_stay_finite_and_missing_rows_zero(normalization: str, scale: float) -> None:
    result = normalized(features(scale), normalization)
    assert np.isfinite(result).all()
    assert not result[~PRESENT].any()
