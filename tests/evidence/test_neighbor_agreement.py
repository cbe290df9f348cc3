"""The neighbour agreement against loops and permutations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from recbole_margo.evidence.neighbor_agreement import neighbor_agreement

RANDOM = np.random.default_rng(0)


def interactions(users: int, items: int, density: float = 0.4) -> np.ndarray:
    return (np.random.default_rng(users * items).random((users, items)) < density).astype(float)


def weights_of_pairs(R: np.ndarray, i: int, others: list[int]) -> np.ndarray:
    """Return w_ij of one item, summing to 1."""
    raw = [
        (R[:, i] * R[:, j]).sum() / np.sqrt(max(R[:, i].sum() * R[:, j].sum(), 1)) for j in others
    ]
    return np.array(raw) / max(sum(raw), 1e-300)


def unit_rows(features: np.ndarray) -> np.ndarray:
    centred = features - features.mean(axis=0)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def test_agreement_is_standardised_by_what_permuted_rows_give() -> None:
    R, features = interactions(8, 7), RANDOM.normal(size=(7, 3))
    found = neighbor_agreement(sp.csr_matrix(R), features, np.ones(7, dtype=bool))
    x = unit_rows(features)
    for i in range(7):
        others = [j for j in range(7) if j != i]
        weights = weights_of_pairs(R, i, others)
        cosines = x[others] @ x[i]
        null = [weights @ np.array(order) for order in itertools.permutations(cosines)]
        expected = (weights @ cosines - np.mean(null)) / np.std(null)
        assert found[i] == pytest.approx(expected, abs=1e-9)


def test_agreement_leaves_out_items_that_miss_the_modality_or_have_the_mean_row() -> None:
    R, features = interactions(9, 10), RANDOM.normal(size=(10, 4))
    present = np.ones(10, dtype=bool)
    present[3] = False
    features[3] = 0
    features[6] = features[np.setdiff1d(np.arange(10), [3, 6])].mean(axis=0)
    found = neighbor_agreement(sp.csr_matrix(R), features.astype(np.float32), present)
    kept = np.setdiff1d(np.arange(10), [3, 6])
    alone = neighbor_agreement(sp.csr_matrix(R[:, kept]), features[kept], present[kept])
    np.testing.assert_allclose(found[kept], alone, rtol=1e-4, atol=1e-5)
    assert found[3] == found[6] == 0


def test_agreement_is_the_same_in_blocks_and_zero_without_co_interacted_items(monkeypatch) -> None:
    R, features = interactions(30, 12), RANDOM.normal(size=(12, 5))
    R[:, 4] = 0
    whole = neighbor_agreement(sp.csr_matrix(R), features, np.ones(12, dtype=bool))
    monkeypatch.setattr("recbole_margo.evidence.neighbor_agreement.BLOCK_CELLS", 30)
    blocks = neighbor_agreement(sp.csr_matrix(R), features, np.ones(12, dtype=bool))
    np.testing.assert_allclose(blocks, whole, atol=1e-12)
    assert whole[4] == 0
    assert np.isfinite(whole).all()


@pytest.mark.parametrize("items", [0, 1, 2])
def test_agreement_of_hardly_any_items_is_zero(items: int) -> None:
    present = np.arange(4) < items
    found = neighbor_agreement(
        sp.csr_matrix(interactions(5, 4)), RANDOM.normal(size=(4, 2)), present
    )
    assert found.tolist() == [0, 0, 0, 0]
