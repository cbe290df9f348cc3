"""Vectors as files, and recommendations through an index that never come short."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_bundle import HOSTILE, made_up_bundle
from numpy.typing import NDArray

from recbole_margo.cli import main
from recbole_margo.graph.neighbor_search import NeighborSearch
from recbole_margo.serving.bundle_files import write_bundle
from recbole_margo.serving.recommender import Recommender
from recbole_margo.serving.vector_search import VectorSearch, built_index, measured
from recbole_margo.serving.vectors import write_vectors

METHODS = ("faiss-flat", "faiss-hnsw", "faiss-ivf")


class PoorIndex:
    """Finds only some items, the best of them first, and fills up with -1, as faiss does."""

    def __init__(self, items: NDArray[np.float32], known: Sequence[int]) -> None:
        self.items, self.known = items, np.array(known, dtype=int)

    def search(
        self, users: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        scores = users @ self.items[self.known].T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        rows = np.full((len(users), k), -1)
        values = np.full((len(users), k), -np.inf, np.float32)
        rows[:, : order.shape[1]] = self.known[order]
        values[:, : order.shape[1]] = np.take_along_axis(scores, order, axis=1)
        return values, rows


@given(st.data())
def test_no_list_is_shorter_than_asked_while_there_are_items(data: Any) -> None:
    count = data.draw(st.integers(1, 40))
    everything = st.integers(0, count - 1)
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    items = rng.normal(size=(count, 3)).astype(np.float32)
    excluded = data.draw(st.lists(st.lists(everything, max_size=60), min_size=1, max_size=4))
    users = rng.normal(size=(len(excluded), 3)).astype(np.float32)
    found_by_index = data.draw(st.lists(everything, unique=True))
    n = data.draw(st.integers(1, 50))
    lists = [np.array(rows, dtype=int) for rows in excluded]
    found = VectorSearch(PoorIndex(items, found_by_index), items).rank(users, n, lists)
    exact = VectorSearch(PoorIndex(items, range(count)), items).rank(users, n, lists)
    for user, (rows, scores) in enumerate(found):
        left = sorted(
            set(range(count)) - set(excluded[user]), key=lambda i: -(items @ users[user])[i]
        )
        assert len(rows) == len(set(rows)) == min(n, len(left))
        assert set(rows) <= set(left)
        np.testing.assert_allclose(scores, items[rows] @ users[user], rtol=1e-5, atol=1e-6)
        assert list(scores) == sorted(scores, reverse=True)
        assert list(exact[user][0]) == left[:n]


@pytest.mark.parametrize("method", METHODS)
def test_an_index_is_compared_with_the_exact_lists(method: str) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    bundle = made_up_bundle(users=300, items=400, seed=3)
    recommender = Recommender(bundle)
    search = NeighborSearch.from_setting(method)
    _, quality = measured(bundle, search, 20)
    through = VectorSearch(built_index(bundle.items, search), bundle.items)
    shares = []
    for user in range(300):
        (rows, _), *_ = through.rank(bundle.users[[user]], 20, [recommender.seen(user)])
        (exact, _), *_ = recommender.rank(np.array([user]), 20)
        assert len(rows) == 20 and not set(rows) & set(recommender.seen(user))
        shares.append(len(set(rows) & set(exact)) / 20)
    assert quality.recall == pytest.approx(np.mean(shares), abs=1e-3)
    assert quality.recall == 1 if method == "faiss-flat" else quality.recall > 0.5


def test_inner_products_of_what_is_written_are_the_scores(tmp_path: Path) -> None:
    bundle = made_up_bundle()
    recommender = Recommender(bundle)
    write_vectors(bundle, tmp_path / "npy", "npy")
    items, users, seen = (
        np.load(tmp_path / "npy" / f"{name}.npy") for name in ("items", "users", "seen")
    )
    ids = json.loads((tmp_path / "npy" / "ids.json").read_text(encoding="utf-8"))
    pairs = [(ids["users"][1], ids["items"][0]), (ids["users"][7], ids["items"][9])]
    expected = recommender.score(pairs)
    assert [users[1] @ items[0], users[7] @ items[9]] == pytest.approx(expected.tolist())
    assert {tuple(pair) for pair in seen.tolist()} == {
        (user, int(item)) for user in range(80) for item in recommender.seen(user)
    }
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    write_vectors(bundle, tmp_path / "parquet", "parquet")
    tables = {
        name: pd.read_parquet(tmp_path / "parquet" / f"{name}.parquet")
        for name in ("items", "users", "seen")
    }
    assert tables["items"].item.tolist() == ids["items"]
    assert tables["items"].title[0] == HOSTILE and tables["users"].user[1] == HOSTILE
    np.testing.assert_array_equal(np.stack(tables["items"].vector), items)
    np.testing.assert_array_equal(np.stack(tables["users"].vector), users)
    assert tables["seen"].values.tolist() == [
        [ids["users"][user], ids["items"][item]] for user, item in seen
    ]


def test_the_command_writes_indices_and_their_recall(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    write_bundle(made_up_bundle(), tmp_path / "bundle")
    output = tmp_path / "vectors"
    words = ["vectors", "--bundle", str(tmp_path / "bundle"), "--output_dir", str(output)]
    assert main([*words, "--format", "npy", "--index", "faiss", "--nprobe", "2"]) == 0
    said = capsys.readouterr().out
    assert "recall@12" in said and "faiss-ivf nprobe=2" in said
    facts = json.loads((output / "vectors.json").read_text())
    assert [one["users"] for one in facts["indices"]] == [80] * 3
    assert "recall@12" in (output / "vectors.md").read_text()
    items, users = np.load(output / "items.npy"), np.load(output / "users.npy")
    _, rows = faiss.read_index(str(output / "flat.faiss")).search(users[:5], 3)
    np.testing.assert_array_equal(rows, np.argsort(-users[:5] @ items.T, axis=1)[:, :3])
    assert main(words) == 2
    assert "found something" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--top", "0"], "from 1 to 12"),
        (["--nprobe", "3"], "with --index faiss-ivf"),
        (["--index", "faiss-ivf", "--nprobe", "0"], "a whole number, 1 or more"),
        (["--index", "annoy"], "annoy"),
        (["--format", "csv"], "csv"),
    ],
)
def test_wrong_options_of_vectors_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    write_bundle(made_up_bundle(), tmp_path / "bundle")
    source = ["--bundle", str(tmp_path / "bundle"), "--output_dir", str(tmp_path / "vectors")]
    assert main(["vectors", *source, *words]) == 2
    found = capsys.readouterr().err
    assert said in found and found.count("\n") == 1
    assert not (tmp_path / "vectors").exists()
