from __future__ import annotations

from fractions import Fraction

import dense_collaborative as dense
import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal
from scipy.stats import chisquare

from recbole_margo.graph.edge_sampling import sample_interactions

# Row and column 0 are PAD. Degrees of the users 3 and 1, of the items 2, 1 and 1.
EDGES = ((1, 1), (1, 2), (1, 3), (2, 1))
DRAWS = 4000


def matrix(edges=EDGES, shape=(3, 4)) -> sp.csr_matrix:
    rows, columns = zip(*edges, strict=True)
    return sp.csr_matrix((np.ones(len(edges), dtype=np.float32), (rows, columns)), shape=shape)


def many_edges(count: int) -> sp.csr_matrix:
    random = np.random.default_rng(count)
    places = random.choice(40 * 30, size=count, replace=False)
    return matrix([(place // 30, place % 30) for place in places], shape=(40, 30))


def edges_of(sample: sp.csr_matrix) -> frozenset[int]:
    rows, columns = sample.nonzero()
    return frozenset(EDGES.index(edge) for edge in zip(rows, columns, strict=True))


def counts_of_draws(kept: int, seed: int) -> dict[frozenset[int], int]:
    random, counts = np.random.default_rng(seed), {}
    for _ in range(DRAWS):
        drawn = edges_of(sample_interactions(matrix(), 1 - kept / 4, random))
        counts[drawn] = counts.get(drawn, 0) + 1
    return counts


def rarity(power: float) -> list[float]:
    R = matrix().toarray()
    return [float((R[u].sum() * R[:, i].sum()) ** -power) for u, i in EDGES]


def p_value(counts: dict[frozenset[int], int], weights: list[float], kept: int) -> float:
    """Return how likely counts at least as uneven are if the weights are those drawn with."""
    probabilities = dense.successive_sampling(weights, kept)
    assert set(counts) <= set(probabilities)
    found = [counts.get(edges, 0) for edges in probabilities]
    return float(chisquare(found, [DRAWS * p for p in probabilities.values()]).pvalue)


def test_successive_sampling_by_hand():
    found = dense.successive_sampling([1.0, 2.0, 3.0], 2)
    assert sum(found.values()) == pytest.approx(1)
    assert found[frozenset({0, 1})] == pytest.approx(1 / 6 * 2 / 5 + 2 / 6 * 1 / 4)


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_sets_are_drawn_as_one_edge_after_another_with_the_inverse_root_of_the_degrees(kept):
    counts = counts_of_draws(kept, seed=kept)
    assert sum(counts.values()) == DRAWS
    assert p_value(counts, rarity(0.5), kept) > 0.05
    # The same draws refute what is easily mistaken for it.
    for power in (0.0, 0.25, 1.0, -0.5):
        assert p_value(counts, rarity(power), kept) < 1e-4


@pytest.mark.parametrize("share", [0.0, 0.1, 0.33, 0.7, 0.8, 0.9, 0.99])
@pytest.mark.parametrize("count", [1, 4, 10, 80, 100, 137])
def test_the_floor_of_the_share_is_kept_whatever_floating_point_makes_of_it(count, share):
    interactions = many_edges(count)
    sample = sample_interactions(interactions, share, np.random.default_rng(0))
    assert sample.nnz == int(count * (1 - Fraction(str(share))))
    assert sample.shape == interactions.shape
    dense_sample = sample.toarray()
    assert set(np.unique(dense_sample)) <= {0, 1}  # no edge twice
    assert (dense_sample <= interactions.toarray()).all()


def test_an_odd_share_takes_a_known_number_of_the_edges_of_baby():
    users, items = np.divmod(np.arange(118_551), 7_050)
    interactions = sp.csr_matrix((np.ones(118_551, dtype=np.float32), (users, items)))
    assert sample_interactions(interactions, 0.8, np.random.default_rng(0)).nnz == 23_710


def test_without_a_share_all_are_kept_and_the_input_is_left_alone():
    interactions = many_edges(50)
    before = interactions.toarray()
    whole = sample_interactions(interactions, 0.0, np.random.default_rng(0))
    sample_interactions(interactions, 0.5, np.random.default_rng(0))
    assert_array_equal(whole.toarray(), before)
    assert_array_equal(interactions.toarray(), before)


def test_the_generator_alone_decides():
    interactions = many_edges(100)
    one, same, other = (
        sample_interactions(interactions, 0.5, np.random.default_rng(seed)).toarray()
        for seed in (1, 1, 2)
    )
    assert_array_equal(one, same)
    assert (one != other).any()
