from __future__ import annotations

import builtins
import importlib
import logging
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from recbole_margo.errors import ConfigError
from recbole_margo.graph import item_knn
from recbole_margo.graph.exact_knn import ItemDirections, exact_neighbors
from recbole_margo.graph.item_knn import (
    binary_knn_graph,
    nearest_neighbors,
    sampled_recall,
    similarity_knn_graph,
)
from recbole_margo.graph.neighbor_search import EXACT, METHODS, NeighborSearch
from recbole_margo.testing import prepare, random_world

APPROXIMATE = [method for method in METHODS if method != "exact"]


def catalogue(items: int = 400, width: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features around a few centres; PAD and every seventh item miss them."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(8, width))
    features = centres[random.integers(8, size=items)] + 0.5 * random.normal(size=(items, width))
    present = np.arange(items) % 7 > 0
    return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(present)


def generous(method: str) -> NeighborSearch:
    """Return the search with parameters under which it misses nothing of a small catalogue."""
    parameters = {"faiss-ivf": {"nlist": 5, "nprobe": 5}, "faiss-hnsw": {"ef_search": 400}}
    return NeighborSearch.from_setting({"method": method, **parameters.get(method, {})})


# --- the setting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", [None, "exact", {"method": "exact"}])
def test_the_search_is_exact_unless_something_else_is_asked_for(setting):
    assert NeighborSearch.from_setting(setting) == EXACT
    assert EXACT.is_exact and str(EXACT) == "exact"


def test_parameters_that_are_not_given_keep_their_defaults():
    search = NeighborSearch.from_setting({"method": "faiss-hnsw", "ef_search": 128})
    assert (search["m"], search["ef_construction"], search["ef_search"]) == (32, 80, 128)
    assert str(search) == "faiss-hnsw m=32 ef_construction=80 ef_search=128"
    assert str(NeighborSearch.from_setting("faiss-ivf")) == "faiss-ivf nprobe=16"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("annoy", "must be one of exact, faiss-flat, faiss-ivf, faiss-hnsw, .*found 'annoy'"),
        (["exact"], r"must be one of .*found \['exact'\]"),
        (16, "must be one of .*found 16"),
        ({"nprobe": 3}, "must be one of .*found {'nprobe': 3}"),
        ({"method": "faiss-ivf", "m": 3}, ": there are nlist, nprobe"),
        ({"method": "exact", "m": 3}, ": there are none"),
        (
            {"method": "faiss-ivf", "nprobe": 0},
            "nprobe` must be a whole number, 1 or more, found 0",
        ),
        ({"method": "faiss-ivf", "nlist": 2.5}, "nlist` must be .*found 2.5"),
        ({"method": "faiss-ivf", "nlist": True}, "nlist` must be .*found True"),
    ],
)
def test_other_settings_are_refused(setting, message):
    with pytest.raises(ConfigError, match=f"`item_neighbor_search.*{message}"):
        NeighborSearch.from_setting(setting)


def test_without_faiss_the_message_names_the_extra(monkeypatch):
    original = importlib.import_module

    def without_faiss(name, *others):
        if name == "faiss":
            raise ImportError("No module named 'faiss'")
        return original(name, *others)

    monkeypatch.setattr(importlib, "import_module", without_faiss)
    with pytest.raises(ConfigError, match=r"recbole-margo\[faiss\].*item_neighbor_search: exact"):
        nearest_neighbors(*catalogue(), 3, generous("faiss-flat"))


def test_the_exact_search_does_not_import_faiss(monkeypatch):
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    original = builtins.__import__

    def refuse(name, *others, **more):
        assert not name.startswith("faiss")
        return original(name, *others, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    nearest_neighbors(*catalogue(), 3)
    assert "faiss" not in sys.modules


# --- the recall that is logged --------------------------------------------------------------------


def test_the_exact_neighbours_have_recall_one():
    directions = ItemDirections(*catalogue())
    assert sampled_recall(directions, *exact_neighbors(directions, 10)) == 1


@pytest.mark.parametrize("block_cells", [1, 50_000, 2**22])
def test_recall_counts_gaps_and_what_is_farther_than_the_last_exact_neighbour(
    monkeypatch, block_cells
):
    monkeypatch.setattr(item_knn, "BLOCK_CELLS", block_cells)
    directions = ItemDirections(*catalogue())
    positions, cosines = exact_neighbors(directions, 4)
    all_cosines = directions[:] @ directions[:].T
    # A gap in each list, and in half of them the farthest of all items.
    worst = np.argsort(cosines, axis=1)[:, 0]
    rows = np.arange(len(positions))
    positions[rows, worst] = -1
    assert sampled_recall(directions, positions, cosines) == pytest.approx(3 / 4)
    best = np.argsort(cosines, axis=1)[:, -1]
    half = rows[: len(rows) // 2]
    farthest = all_cosines.argmin(dim=1).numpy()
    positions[half, best[half]] = farthest[half]
    cosines[half, best[half]] = all_cosines[half, farthest[half]]
    expected = (2 * len(half) + 3 * (len(rows) - len(half))) / (4 * len(rows))
    assert sampled_recall(directions, positions, cosines) == pytest.approx(expected)


def test_recall_does_not_mind_which_of_equal_items_was_found():
    features = torch.ones(20, 3)
    directions = ItemDirections(features, torch.ones(20, dtype=torch.bool))
    others = np.tile([17, 18, 19], (20, 1))
    assert sampled_recall(directions, others, np.ones((20, 3), dtype=np.float32)) == 1


def test_recall_is_measured_on_a_sample_of_the_items(monkeypatch):
    monkeypatch.setattr(item_knn, "SAMPLED_ITEMS", 7)
    directions = ItemDirections(*catalogue())
    positions, cosines = exact_neighbors(directions, 4)
    asked = np.sort(np.random.default_rng(3).choice(len(positions), 7, replace=False))
    others = np.setdiff1d(np.arange(len(positions)), asked)
    positions[others] = -1
    assert sampled_recall(directions, positions, cosines, seed=3) == 1
    assert sampled_recall(directions, positions, cosines, seed=4) < 0.5


# --- through faiss --------------------------------------------------------------------------------


@pytest.fixture
def faiss():
    return pytest.importorskip("faiss")


@pytest.mark.parametrize("block_cells", [100, 2**22], ids=["blocks", "one block"])
@pytest.mark.parametrize("method", APPROXIMATE)
@pytest.mark.parametrize("k", [1, 10])
def test_a_search_that_misses_nothing_gives_the_exact_graph(
    faiss, monkeypatch, method, k, block_cells
):
    monkeypatch.setattr(item_knn, "BLOCK_CELLS", block_cells)
    features, present = catalogue()
    for graph in (nearest_neighbors, binary_knn_graph, similarity_knn_graph):
        expected = graph(features, present, k)
        found = graph(features, present, k, generous(method))
        assert_array_equal(found.indptr, expected.indptr)
        assert_array_equal(found.indices, expected.indices)
        assert_allclose(found.data, expected.data, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", APPROXIMATE)
def test_missing_items_have_and_are_no_neighbours(faiss, method):
    features, present = catalogue()
    graph = nearest_neighbors(features, present, 5, NeighborSearch.from_setting(method)).toarray()
    assert not graph[~present].any() and not graph[:, ~present].any()
    assert_array_equal(np.diag(graph)[present], 1)


@pytest.mark.parametrize("method", APPROXIMATE)
def test_an_item_among_many_equal_ones_is_in_its_own_list(faiss, method):
    features = torch.tensor([[3.0, 1.0, 2.0]]).repeat(100, 1)
    present = torch.arange(100) > 0
    graph = nearest_neighbors(features, present, 3, NeighborSearch.from_setting(method)).toarray()
    assert_array_equal(np.diag(graph)[1:], 1)
    assert graph.max() == 1


def test_a_list_that_is_not_searched_leaves_gaps_that_are_logged_as_recall(faiss, caplog):
    features, present = catalogue()
    search = NeighborSearch.from_setting({"method": "faiss-ivf", "nlist": 100, "nprobe": 1})
    with caplog.at_level(logging.INFO):
        graph = binary_knn_graph(features, present, 10, search)
    per_row = np.diff(graph.indptr)[present]
    assert 1 <= per_row.min() < 10 and per_row.max() <= 10
    assert_allclose(np.asarray(graph.sum(axis=1)).ravel()[present], 1, rtol=1e-6)
    exact = binary_knn_graph(features, present, 10)
    shared = (graph.astype(bool).multiply(exact.astype(bool))).nnz / exact.nnz
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    assert "by faiss-ivf nlist=100 nprobe=1 in 12 dimensions: recall" in message
    # A neighbour that is farther by less than rounding counts as found.
    assert float(message.split("recall ")[1].split()[0]) == pytest.approx(shared, abs=2e-3)


def test_a_good_recall_is_no_warning(faiss, caplog):
    with caplog.at_level(logging.INFO):
        binary_knn_graph(*catalogue(), 10, generous("faiss-flat"))
    (record,) = caplog.records
    assert record.levelno == logging.INFO and "recall 1.0000" in record.getMessage()


def test_more_lists_than_items_are_refused(faiss):
    search = NeighborSearch.from_setting({"method": "faiss-ivf", "nlist": 1000})
    with pytest.raises(ConfigError, match=r"`nlist` must not be above .*features, 342, found 1000"):
        nearest_neighbors(*catalogue(), 5, search)


@pytest.mark.parametrize("method", APPROXIMATE)
def test_few_items_are_enough(faiss, method):
    features = torch.eye(4)
    present = torch.tensor([False, True, True, False])
    graph = nearest_neighbors(features, present, 10, NeighborSearch.from_setting(method))
    assert_allclose(graph.toarray(), np.diag([0.0, 1, 1, 0]), atol=1e-6)


# --- as part of a model ---------------------------------------------------------------------------

# The models whose item graphs are made of the raw features.
MODELS = ("DRAGON", "FREEDOM", "LATTICE", "MARGO", "MGCN", "MICRO")


@pytest.mark.parametrize("model", MODELS)
def test_a_model_searches_as_its_config_says(tmp_path, monkeypatch, model):
    asked = []

    def remember(directions, k, search):
        asked.append((str(search), k))
        return exact_neighbors(directions, k)

    monkeypatch.setattr(item_knn, "approximate_neighbors", remember)
    root = random_world(2).write(tmp_path)
    exact = prepare(root, model)
    assert asked == []
    other = prepare(root, model, item_neighbor_search={"method": "faiss-ivf", "nprobe": 3})
    assert asked == [("faiss-ivf nprobe=3", 4)] * 2
    for name, expected in exact.model.named_buffers():
        assert torch.equal(other.model.get_buffer(name), expected), name


def test_a_model_refuses_a_search_that_does_not_exist(tmp_path):
    root = random_world(2).write(tmp_path)
    with pytest.raises(ConfigError, match=r"`item_neighbor_search` must be one of .*'fais'"):
        prepare(root, "FREEDOM", item_neighbor_search="fais")
