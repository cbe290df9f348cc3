from __future__ import annotations

import dense_latent as latent
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from torch.utils._python_dispatch import TorchDispatchMode

from recbole_margo.graph import exact_knn
from recbole_margo.graph.exact_knn import largest_columns
from recbole_margo.graph.item_knn import (
    binary_knn_graph,
    combined_graph,
    modality_shares,
    nearest_neighbors,
    similarity_knn_graph,
)

ITEMS = 12


def catalogue(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features [I, D] and presence [I]: PAD and two items are missing, one is all zero."""
    features = np.random.default_rng(seed).normal(size=(ITEMS, 5)).astype(np.float32)
    present = np.ones(ITEMS, dtype=bool)
    present[[0, 3, 8]] = False
    features[[0, 6]] = 0
    return features, present


def brute_force(features: np.ndarray, present: np.ndarray, k: int) -> dict[int, dict[int, float]]:
    """Return item -> neighbour -> cosine, pair by pair in float64.

    The item itself comes first, then higher cosines, then lower ids.
    """
    norms = np.linalg.norm(features.astype(np.float64), axis=1)
    items = [item for item in range(len(features)) if present[item] and norms[item] > 0]
    lists: dict[int, dict[int, float]] = {item: {} for item in range(len(features))}
    for item in items:
        cosine = {
            other: float(features[item].astype(np.float64) @ features[other])
            / (norms[item] * norms[other])
            for other in items
        }
        best = sorted(cosine, key=lambda other: (other != item, -cosine[other], other))[:k]
        lists[item] = {other: cosine[other] for other in best}
    return lists


def as_lists(graph: sp.csr_matrix) -> dict[int, dict[int, float]]:
    lists: dict[int, dict[int, float]] = {item: {} for item in range(graph.shape[0])}
    for row, column, value in zip(*sp.find(graph), strict=True):
        lists[int(row)][int(column)] = float(value)
    return lists


def knn(function, features, present, k):
    return function(torch.from_numpy(features), torch.from_numpy(present), k)


@pytest.mark.parametrize("block_cells", [1, 25, 10**6], ids=["row by row", "blocks", "one block"])
@pytest.mark.parametrize("k", [1, 3, 9, 50])
def test_neighbours_equal_brute_force(monkeypatch, block_cells, k):
    monkeypatch.setattr(exact_knn, "BLOCK_CELLS", block_cells)
    features, present = catalogue()
    expected = brute_force(features, present, k)

    found = as_lists(knn(nearest_neighbors, features, present, k))

    for item in range(ITEMS):
        assert set(found[item]) == set(expected[item])
        for other, cosine in expected[item].items():
            assert found[item][other] == pytest.approx(cosine, abs=1e-6)


def test_an_item_is_its_own_nearest_neighbour():
    features, present = catalogue()
    graph = knn(nearest_neighbors, features, present, 1)
    usable = [1, 2, 4, 5, 7, 9, 10, 11]
    assert_array_equal(graph.toarray().argmax(axis=1)[usable], usable)
    assert_allclose(graph.data, 1, atol=1e-6)


# Vectors of length 1 and 2 whose cosines are multiples of 1/4: nothing is rounded, much is equal.
CROSSES = np.concatenate([np.eye(4), -np.eye(4), [[1, 1, 1, 1], [1, 1, -1, -1], [-1, 1, -1, 1]]])


@given(
    rows=arrays(np.intp, st.integers(1, 30), elements=st.integers(-1, len(CROSSES) - 1)),
    k=st.integers(1, 12),
    block_cells=st.integers(1, 1000),
)
def test_equal_cosines_go_to_the_item_itself_then_to_the_lower_id_in_blocks_of_any_size(
    rows, k, block_cells
):
    features, present = CROSSES[rows].astype(np.float32), rows >= 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_knn, "BLOCK_CELLS", block_cells)
        graph = knn(nearest_neighbors, features, present, k)
    # Cosines of zero are stored too, and columns are sorted.
    found = {
        item: dict(zip(graph.indices[start:end], graph.data[start:end], strict=True))
        for item, (start, end) in enumerate(zip(graph.indptr, graph.indptr[1:], strict=False))
    }
    assert graph.has_sorted_indices and graph.has_canonical_format
    assert found == brute_force(features, present, k)


@given(
    values=arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 20)), elements=(
        st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 1.0, np.inf])
    )),
    k=st.integers(1, 25),
)  # fmt: skip
def test_the_largest_columns_are_those_of_a_stable_sort(values, k):
    found = largest_columns(torch.from_numpy(values), k)
    assert_array_equal(found, np.sort(np.argsort(-values, axis=1, kind="stable")[:, :k], axis=1))


def test_an_item_among_many_equal_ones_is_in_its_own_list():
    features = np.tile(np.array([[3.0, 1.0, 2.0]], dtype=np.float32), (9, 1))
    graph = knn(nearest_neighbors, features, np.arange(9) > 0, 2).toarray()
    assert_array_equal(np.diag(graph)[1:], 1)
    assert_array_equal(np.flatnonzero(graph[7]), [1, 7])
    assert_array_equal(np.flatnonzero(graph[1]), [1, 2])


def test_no_cosine_is_above_one():
    features = np.random.default_rng(0).normal(size=(40, 300)).repeat(2, axis=0).astype(np.float32)
    graph = knn(nearest_neighbors, features, np.ones(80, dtype=bool), 3)
    assert graph.data.max() == 1


@pytest.mark.parametrize("k", [2, 50])
def test_pad_missing_and_zero_items_have_and_are_no_neighbours(k):
    features, present = catalogue()
    features[3] = 100.0  # missing, whatever its row holds
    graph = knn(binary_knn_graph, features, present, k).toarray()
    for outside in (0, 3, 6, 8):
        assert not graph[outside].any()
        assert not graph[:, outside].any()


@pytest.mark.parametrize("k", [1, 4, 50])
def test_binary_rows_hold_k_equal_values_that_sum_to_one(k):
    features, present = catalogue()
    graph = knn(binary_knn_graph, features, present, k)
    kept = min(k, 8)
    assert_allclose(graph.data, 1 / kept, rtol=1e-6)
    row_sums = np.asarray(graph.sum(axis=1)).ravel()
    assert_allclose(row_sums[[1, 2, 4, 5, 7, 9, 10, 11]], 1, rtol=1e-6)
    assert_array_equal(row_sums[[0, 3, 6, 8]], 0)


def test_a_neighbour_with_cosine_zero_stays_in_the_list():
    features = np.array([[0, 0], [1, 0], [0, 2]], dtype=np.float32)
    present = np.array([False, True, True])
    graph = knn(binary_knn_graph, features, present, 2).toarray()
    assert_allclose(graph, [[0, 0, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]])


def test_nothing_present_gives_an_empty_graph():
    graph = knn(binary_knn_graph, np.ones((4, 2), dtype=np.float32), np.zeros(4, dtype=bool), 3)
    assert graph.shape == (4, 4) and graph.nnz == 0


# --- the graph that keeps the cosines -------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 5, 50])
@pytest.mark.parametrize("seed", range(3))
def test_the_similarity_graph_equals_the_dense_formula(k, seed):
    features, present = catalogue(seed)
    S = latent.similar_items(features.astype(np.float64), present, k)
    graph = knn(similarity_knn_graph, features, present, k)
    assert graph.dtype == np.float32
    assert_allclose(graph.toarray(), latent.normalized_by_row_sums(S), rtol=1e-5, atol=1e-6)


def test_the_similarity_graph_by_hand_is_scaled_by_row_sums_on_both_sides():
    """Two of three items are each other's second neighbour; the third is nobody's."""
    features = np.array([[0, 0], [1, 0], [4, 3], [-3, 4]], dtype=np.float32)
    present = np.array([False, True, True, True])
    found = knn(similarity_knn_graph, features, present, 2).toarray()
    # cos(1, 2) = 0.8, cos(2, 3) = 0, cos(1, 3) = -0.6: rows sum to 1.8, 1.8 and 1.
    expected = [[0, 0, 0, 0], [0, 1 / 1.8, 0.8 / 1.8, 0], [0, 0.8 / 1.8, 1 / 1.8, 0], [0, 0, 0, 1]]
    assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_columns_are_scaled_by_the_row_sum_of_the_neighbour_not_by_how_many_have_it():
    features = np.array([[0, 0], [1, 0], [4, 3], [0, 1]], dtype=np.float32)
    present = np.array([False, True, True, True])
    found = knn(similarity_knn_graph, features, present, 2).toarray()
    # The list of 3 holds 2 (0.6), but that of 2 holds 1 (0.8): sums 1.8, 1.8 and 1.6.
    assert found[3, 2] == pytest.approx(0.6 / np.sqrt(1.6 * 1.8))
    assert found[2, 3] == 0
    assert found[3, 3] == pytest.approx(1 / 1.6)


def test_a_row_whose_cosines_do_not_sum_to_something_positive_has_no_weight():
    features = np.array([[0, 0], [1, 0], [-1, 0.2], [-1, -0.2]], dtype=np.float32)
    present = np.array([False, True, True, True])
    found = knn(similarity_knn_graph, features, present, 3).toarray()
    assert not found[1].any() and not found[:, 1].any()
    assert np.isfinite(found).all() and found[2, 3] > 0


@pytest.mark.parametrize("k", [2, 50])
def test_items_without_a_direction_have_no_row_and_no_column_in_the_similarity_graph(k):
    features, present = catalogue()
    features[3] = 100.0  # missing, whatever its row holds
    found = knn(similarity_knn_graph, features, present, k).toarray()
    assert not found[[0, 3, 6, 8]].any() and not found[:, [0, 3, 6, 8]].any()


def test_nothing_present_gives_an_empty_similarity_graph():
    graph = knn(similarity_knn_graph, np.ones((4, 2), dtype=np.float32), np.zeros(4, dtype=bool), 3)
    assert graph.shape == (4, 4) and graph.nnz == 0


class LargestTensor(TorchDispatchMode):
    """Remembers how many cells the largest tensor has that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = 0

    def __torch_dispatch__(self, function, types, arguments=(), others=None):
        result = function(*arguments, **(others or {}))
        parts = result if isinstance(result, (tuple, list)) else [result]
        tensors = [part for part in parts if isinstance(part, torch.Tensor)]
        self.cells = max([self.cells, *(tensor.numel() for tensor in tensors)])
        return result


def test_no_matrix_of_all_pairs_is_held(monkeypatch):
    items, limit = 200, 2000
    monkeypatch.setattr(exact_knn, "BLOCK_CELLS", limit)
    with LargestTensor() as largest:
        nearest_neighbors(torch.randn(items, 4), torch.ones(items).bool(), 3)
    assert 0 < largest.cells <= limit < items**2


def graph_of(lists: dict[int, list[int]], items: int = 5) -> sp.csr_matrix:
    dense = np.zeros((items, items), dtype=np.float32)
    for item, neighbors in lists.items():
        dense[item, neighbors] = 1 / len(neighbors)
    return sp.csr_matrix(dense)


def test_edges_of_two_modalities_weigh_as_published():
    # k = 2, w = 0.1 on the image: w/k image alone, (1-w)/k text alone, 1/k both.
    image = graph_of({1: [1, 2], 2: [2, 3], 3: [3, 4], 4: [4, 1]})
    text = graph_of({1: [1, 3], 2: [2, 1], 3: [3, 4], 4: [4, 2]})
    mask = torch.tensor([False, True, True, True, True]).repeat(2, 1).T

    combined = combined_graph([image, text], [0.1, 0.9], mask)

    expected = np.zeros((5, 5))
    expected[1, [1, 2, 3]] = 0.5, 0.05, 0.45
    expected[2, [1, 2, 3]] = 0.45, 0.5, 0.05
    expected[3, [3, 4]] = 0.5, 0.5
    expected[4, [1, 2, 4]] = 0.05, 0.45, 0.5
    assert combined.dtype == np.float32
    assert_allclose(combined.toarray(), expected, atol=1e-7)


def test_a_missing_modality_gives_its_weight_to_the_others():
    graphs = [graph_of({1: [1], 2: [2]}), graph_of({1: [2], 3: [3]}), graph_of({1: [3], 3: [1]})]
    mask = torch.tensor(
        [
            [False, False, False],
            [True, True, True],
            [True, False, False],
            [False, True, True],
            [False, False, False],
        ]
    )
    combined = combined_graph(graphs, [0.2, 0.3, 0.5], mask).toarray()
    assert_allclose(combined[1], [0, 0.2, 0.3, 0.5, 0], atol=1e-7)
    assert_allclose(combined[2], [0, 0, 1, 0, 0], atol=1e-7)
    assert_allclose(combined[3], [0, 0.5 / 0.8, 0, 0.3 / 0.8, 0], atol=1e-7)
    assert not combined[[0, 4]].any()


def test_rows_sum_to_one_where_an_item_has_only_modalities_of_weight_zero():
    graphs = [graph_of({1: [1]}), graph_of({1: [2], 2: [2]})]
    mask = torch.tensor(
        [[False, False], [True, True], [False, True], [False, False], [False, False]]
    )
    combined = combined_graph(graphs, [1.0, 0.0], mask).toarray()
    assert_allclose(combined[1], [0, 1, 0, 0, 0])
    assert np.isfinite(combined).all()


def test_a_modality_that_gives_no_neighbours_leaves_its_weight_to_the_others():
    """Features may be zero although the item has them: standardised, they may equal the mean."""
    graphs = [graph_of({2: [2]}), graph_of({1: [1, 2], 2: [2]})]
    mask = torch.tensor([False, True, True, False, False]).repeat(2, 1).T
    combined = combined_graph(graphs, [0.1, 0.9], mask).toarray()
    assert_allclose(combined[1], [0, 0.5, 0.5, 0, 0], atol=1e-7)


def test_shares_follow_names_and_other():
    weights = {"text": 0.9, "other": 0.1}
    assert modality_shares(weights, ["image", "text"]) == pytest.approx([0.1, 0.9])
    assert modality_shares(weights, ["text"]) == [1.0]
    assert modality_shares(weights, ["audio", "image", "text"]) == pytest.approx(
        [0.1 / 1.1, 0.1 / 1.1, 0.9 / 1.1]
    )


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"text": 1.0}, "'image'.*name it or give `other`"),
        ({"image": -0.5, "text": 1.0}, "negative.*'image'"),
        ({"other": 0.0}, "all zero"),
    ],
)
def test_shares_refuse_what_cannot_be_a_weight(weights, message):
    with pytest.raises(ValueError, match=message):
        modality_shares(weights, ["image", "text"])


@pytest.mark.parametrize("scale", [1e36, 1e19, 1e-22, 1e-36])
@pytest.mark.parametrize("every", [1, 2])
def test_neighbours_of_extreme_features_are_those_in_float64(scale, every):
    features, present = catalogue()
    features[::every] *= np.float32(scale)
    found = as_lists(knn(nearest_neighbors, features, present, 4))
    expected = brute_force(features, present, 4)
    assert {item: set(near) for item, near in found.items()} == {
        item: set(near) for item, near in expected.items()
    }
    for item, near in expected.items():
        for other, cosine in near.items():
            assert found[item][other] == pytest.approx(cosine, abs=1e-5)


def test_neighbours_of_small_half_precision_features():
    features, present = catalogue()
    features = (features * 1e-6).astype(np.float16)
    graph = nearest_neighbors(torch.from_numpy(features), torch.from_numpy(present), 4)
    expected = brute_force(features.astype(np.float32), present, 4)
    for item, near in as_lists(graph).items():
        assert near == pytest.approx(expected[item], abs=1e-5)
