"""Graphs that are kept between trainings: never a wrong one, never a torn one, never too many."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_margo.cli import verbs
from recbole_margo.graph import graph_cache, item_knn, user_cooccurrence
from recbole_margo.graph.graph_cache import GraphCache
from recbole_margo.graph.item_knn import nearest_neighbors
from recbole_margo.graph.neighbor_search import EXACT
from recbole_margo.graph.user_cooccurrence import strongest_cooccurrences
from recbole_margo.testing import prepare, random_world


@pytest.fixture(autouse=True)
def _everything_is_worth_a_file(monkeypatch):
    monkeypatch.setattr(graph_cache, "LEAST_SECONDS", 0.0)


@pytest.fixture
def cache(tmp_path):
    return GraphCache(tmp_path / "graphs")


def some_interactions(seed: int = 0) -> sp.csr_matrix:
    return sp.random(30, 12, 0.3, "csr", np.float32, np.random.default_rng(seed), np.ones)


def some_features(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    features = torch.from_numpy(np.random.default_rng(seed).standard_normal((20, 6), np.float32))
    present = torch.ones(20, dtype=torch.bool)
    present[[0, 7]] = False
    return features, present


def same(a: sp.csr_matrix, b: sp.csr_matrix) -> bool:
    """Tell whether two matrices are the same to the last bit and type."""
    parts = ("indptr", "indices", "data")
    return a.shape == b.shape and all(
        getattr(a, part).dtype == getattr(b, part).dtype
        and getattr(a, part).tobytes() == getattr(b, part).tobytes()
        for part in parts
    )


def count_builds(monkeypatch, module, name):
    built = []
    original = getattr(module, name)

    def counted(*arguments):
        built.append(name)
        return original(*arguments)

    monkeypatch.setattr(module, name, counted)
    return built


def test_a_user_graph_is_built_once_and_read_as_it_was(cache, monkeypatch):
    R = some_interactions()
    expected = strongest_cooccurrences(R, 5)
    built = count_builds(monkeypatch, user_cooccurrence, "_strongest_by_sets")
    found = [strongest_cooccurrences(R, 5, cache=cache) for _ in range(3)]
    assert all(same(each, expected) for each in found)
    assert len(built) == 1
    assert [path.suffix for path in cache.folder.glob("[!.]*")] == [".npz"]


def test_item_neighbours_are_found_once_and_read_as_they_were(cache, monkeypatch):
    search = dataclasses.replace(EXACT, cache=cache)
    expected = nearest_neighbors(*some_features(), 4)
    built = count_builds(monkeypatch, item_knn, "exact_neighbors")
    found = [nearest_neighbors(*some_features(), 4, search) for _ in range(3)]
    assert all(same(each, expected) for each in found)
    assert len(built) == 1


def flipped(array: np.ndarray, place: int, bit: int) -> np.ndarray:
    """Return a copy of which one bit is another."""
    copy = array.copy()
    copy.view(np.uint8).reshape(-1)[place] ^= np.uint8(1 << bit)
    return copy


def test_one_other_bit_of_the_features_is_another_graph(cache):
    features, present = some_features()
    search = dataclasses.replace(EXACT, cache=cache)
    nearest_neighbors(features, present, 4, search)
    for place in range(0, features.numel() * 4, 7):
        other = torch.from_numpy(flipped(features.numpy(), place, place % 3))
        assert same(
            nearest_neighbors(other, present, 4, search), nearest_neighbors(other, present, 4)
        )
    assert len(cache.stored()) == 1 + len(range(0, features.numel() * 4, 7))


def test_one_other_item_with_features_k_type_or_number_of_threads_is_another_graph(
    cache, monkeypatch
):
    features, present = some_features()
    search = dataclasses.replace(EXACT, cache=cache)
    lacking = present.clone()
    lacking[3] = False
    for each in ((features, present, 4), (features, lacking, 4), (features, present, 5)):
        assert same(nearest_neighbors(*each, search), nearest_neighbors(*each))
    nearest_neighbors(features.half(), present, 4, search)
    nearest_neighbors(features.bfloat16(), present, 4, search)
    nearest_neighbors(features.reshape(20, 6)[:, :5].contiguous(), present, 4, search)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 17)
    nearest_neighbors(features, present, 4, search)
    assert len(cache.stored()) == 7


def test_one_other_interaction_k_or_size_is_another_graph(cache):
    R = some_interactions()
    strongest_cooccurrences(R, 5, cache=cache)
    for entry in range(R.nnz):
        other = R.copy()
        other.data[entry] = 0
        other.eliminate_zeros()
        assert same(
            strongest_cooccurrences(other, 5, cache=cache), strongest_cooccurrences(other, 5)
        )
    wider = sp.csr_matrix((R.data, R.indices, R.indptr), shape=(30, 13))
    for each, k in ((R, 6), (wider, 5)):
        assert same(strongest_cooccurrences(each, k, cache=cache), strongest_cooccurrences(each, k))
    assert len(cache.stored()) == R.nnz + 3


def test_a_later_version_of_the_code_is_another_graph(cache, monkeypatch):
    R = some_interactions()
    strongest_cooccurrences(R, 5, cache=cache)
    monkeypatch.setattr(graph_cache, "_source_of", lambda module: b"def another(): ...")
    strongest_cooccurrences(R, 5, cache=cache)
    assert len(cache.stored()) == 2


def test_texts_and_numbers_do_not_run_into_each_other(cache):
    graph = sp.identity(2, format="csr", dtype=np.float32)
    for parts in (("a", "b"), ("ab",), ("", "ab"), (1, 1), (11,), ("11",)):
        cache.get("user-graph", "", parts, (), lambda: graph)
    assert len(cache.stored()) == 6


def damage_nothing_at_all(path):
    path.write_bytes(b"")


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def damage_one_value(path):
    content = bytearray(path.read_bytes())
    place = content.index(b"data.npy") + 150
    content[place] ^= 1
    path.write_bytes(bytes(content))


def damage_text(path):
    path.write_text("a graph, honestly")


def damage_another_graph(path):
    stored = dict(np.load(path))
    np.savez(path, **{**stored, "key": np.array("0" * 64)})


def damage_pickle(path):
    stored = dict(np.load(path))
    np.savez(path, **{**stored, "data": np.array([print, 1], dtype=object)})


def damage_column(path):
    stored = dict(np.load(path))
    np.savez(path, **{**stored, "indices": stored["indices"] + 1000})


def damage_pointer(path):
    stored = dict(np.load(path))
    np.savez(path, **{**stored, "indptr": stored["indptr"][::-1].copy()})


def damage_nan(path):
    stored = dict(np.load(path))
    np.savez(path, **{**stored, "data": np.full_like(stored["data"], np.nan)})


def damage_lacking(path):
    stored = dict(np.load(path))
    del stored["shape"]
    np.savez(path, **stored)


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
def test_a_damaged_or_foreign_file_is_built_anew_with_one_warning(cache, damage, caplog):
    R = some_interactions()
    expected = strongest_cooccurrences(R, 5, cache=cache)
    (stored,) = cache.stored()
    damage(stored.path)
    with caplog.at_level(logging.WARNING):
        assert same(strongest_cooccurrences(R, 5, cache=cache), expected)
    messages = {record.getMessage() for record in caplog.records}
    assert len(messages) == 1
    assert f"{stored.path}: expected a graph of the cache" in messages.pop()
    caplog.clear()
    assert same(strongest_cooccurrences(R, 5, cache=cache), expected)
    assert not caplog.records


def graph_of(size: int) -> sp.csr_matrix:
    return sp.csr_matrix(np.ones((size, size), dtype=np.float32))


def test_what_was_used_longest_ago_goes_first(cache):
    small = dataclasses.replace(cache, limit=22_000)
    for number in range(3):
        small.get("user-graph", "", (number,), (), lambda: graph_of(25))
        time.sleep(0.02)
    assert len(small.stored()) == 3
    small.get("user-graph", "", (0,), (), lambda: pytest.fail("it is there"))
    time.sleep(0.02)
    small.get("user-graph", "", (3,), (), lambda: graph_of(25))
    small.get("user-graph", "", (0,), (), lambda: pytest.fail("it is there, used lately"))
    assert len(small.stored()) == 3
    assert sum(each.size for each in small.stored()) <= 22_000
    built = []
    small.get("user-graph", "", (1,), (), lambda: built.append(1) or graph_of(25))
    assert built


def test_a_graph_larger_than_the_limit_drives_nothing_out(cache):
    small = dataclasses.replace(cache, limit=22_000)
    small.get("user-graph", "", (0,), (), lambda: graph_of(25))
    assert small.get("user-graph", "", (1,), (), lambda: graph_of(60)).nnz == 3600
    assert len(small.stored()) == 1


def test_what_is_built_fast_is_not_kept(cache, monkeypatch):
    monkeypatch.setattr(graph_cache, "LEAST_SECONDS", 5.0)
    strongest_cooccurrences(some_interactions(), 5, cache=cache)
    assert cache.stored() == []


def test_of_those_who_ask_at_once_one_builds(cache):
    built, started = [], threading.Barrier(4)

    def build():
        built.append(1)
        time.sleep(0.2)
        return graph_of(9)

    def ask(_):
        started.wait()
        return cache.get("user-graph", "", ("same",), (), build)

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(ask, range(4)))
    assert len(built) == 1
    assert all(same(each, graph_of(9)) for each in found)


PROCESS = """
import sys, numpy as np, scipy.sparse as sp
from pathlib import Path
from recbole_margo.graph import graph_cache
graph_cache.LEAST_SECONDS = 0
cache = graph_cache.GraphCache(Path(sys.argv[1]), limit=60_000)
for number in [0, 1, 2, 3, 4, 5] * 6:
    graph = sp.csr_matrix(np.full((40, 40), number + 1, dtype=np.float32))
    found = cache.get("user-graph", "", (number,), (), lambda: graph)
    assert (found != graph).nnz == 0
"""


def test_processes_that_build_read_and_drive_out_never_read_a_torn_file(cache):
    words = [sys.executable, "-W", "error", "-c", PROCESS, str(cache.folder)]
    children = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [child.communicate(timeout=120)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    assert not any("another file" in text for text in said)
    assert sum(each.size for each in cache.stored()) <= 60_000


def test_a_folder_that_cannot_be_written_costs_a_warning_alone(tmp_path, caplog):
    (tmp_path / "taken").write_text("a file")
    cache = GraphCache(tmp_path / "taken" / "graphs")
    with caplog.at_level(logging.WARNING):
        graph = strongest_cooccurrences(some_interactions(), 5, cache=cache)
    assert same(graph, strongest_cooccurrences(some_interactions(), 5))
    assert any("set `graph_cache`" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("model", ["MARGO", "FREEDOM", "MGCN"])
def test_a_model_scores_the_same_with_graphs_from_the_cache(tmp_path, model):
    root = random_world().write(tmp_path / "data")
    scores = []
    for setting in (False, str(tmp_path / "graphs"), str(tmp_path / "graphs")):
        experiment = prepare(root, model, graph_cache=setting)
        experiment.model.eval()
        with torch.no_grad():
            scores.append([table.clone() for table in experiment.model.scoring_tables()])
    assert (tmp_path / "graphs").is_dir()
    for other in scores[1:]:
        assert all(torch.equal(a, b) for a, b in zip(scores[0], other, strict=True))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("auto", "xdg/recbole-margo/graphs"), (None, "xdg/recbole-margo/graphs"), ("here", "here")],
)
def test_where_the_graphs_lie(tmp_path, monkeypatch, setting, expected):
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    cache = GraphCache.from_settings(setting, None)
    assert cache is not None
    assert cache.folder == tmp_path / expected
    assert GraphCache.from_settings(False, 4) is None


def test_the_verb_lists_and_clears_and_leaves_other_files(cache, capsys):
    strongest_cooccurrences(some_interactions(), 5, cache=cache)
    (cache.folder / "notes.npz").write_text("mine")
    foreign = cache.folder / f"user-graph-{'a' * 64}.npz"
    foreign.write_text("\x1b[31mred")
    where = f"--graph_cache={cache.folder}"
    assert verbs.main(["cache", where]) == 0
    shown = capsys.readouterr().out
    assert "5 strongest co-users of 30 users by 12 items" in shown
    assert "damaged" in shown
    assert "2 graphs" in shown
    assert "\x1b" not in shown
    assert verbs.main(["cache", where, "--clear"]) == 0
    assert cache.stored() == []
    assert (cache.folder / "notes.npz").is_file()
    assert verbs.main(["cache", where]) == 0
    assert "0 graphs" in capsys.readouterr().out
    assert verbs.main(["cache", "--bogus"]) == 2


def test_a_link_is_no_graph_of_the_cache(cache, tmp_path):
    cache.folder.mkdir()
    (tmp_path / "other").write_text("not to be removed")
    (cache.folder / f"user-graph-{'b' * 64}.npz").symlink_to(tmp_path / "other")
    assert cache.clear() == []
    assert (tmp_path / "other").is_file()
