"""Cold items: nothing of a run knows them, and their metrics are those of a naive ranking."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_margo import Recommender
from recbole_margo.config import Config
from recbole_margo.data.protocol import cold_items_of
from recbole_margo.errors import ConfigError, DatasetError
from recbole_margo.evaluation.cold_items import ColdTest, cold_baselines
from recbole_margo.evaluation.score_tables import score_tables
from recbole_margo.run import load_split, run_recbole_margo
from recbole_margo.serving.bundling import bundle_of_run
from recbole_margo.studies.runs.trained_run import find_runs
from recbole_margo.testing import NAME, SETTINGS, World, random_world, small_settings

SHARE = 0.2


@pytest.fixture(scope="module")
def world() -> World:
    return random_world()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, world: World) -> Path:
    root = tmp_path_factory.mktemp("cold")
    world.write(root / "data")
    return root


def settings(root: Path, model: str, **more: Any) -> dict[str, Any]:
    try:
        small = small_settings(model)
    except Exception:
        small = {}
    values = {**SETTINGS, **small, "data_path": str(root / "data"), "epochs": 2}
    return {**values, "cold_items": SHARE, **more}


def trained(root: Path, model: str, **more: Any) -> Path:
    folder = root / "runs" / "-".join([model, *map(str, more.values())])
    if not folder.exists():
        run_recbole_margo(model, NAME, None, settings(root, model, **more), folder)
    return folder / model


@pytest.mark.parametrize("files", [True, False])
def test_cold_items_are_nowhere_in_the_split(root: Path, world: World, files: bool) -> None:
    more: dict[str, Any] = {}
    if not files:
        more = {"benchmark_filename": None, "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}}}
        folder = root / "data" / NAME
        pairs = [pair for part in world.splits.values() for pair in part]
        lines = "".join(f"{user}\t{item}\n" for user, item in pairs)
        (folder / f"{NAME}.inter").write_text(f"user_id:token\titem_id:token\n{lines}")
    drawn = []
    for model in ("VBPR", "BPR"):
        config = Config(model, NAME, None, settings(root, model, split_seed=3, **more))
        loaders = load_split(config)
        train = loaders[0]._dataset
        cold = cold_items_of(train)
        assert cold is not None and len(cold.tokens) == 3
        drawn.append(cold.tokens)
        assert train.item_num == 13
        assert not set(cold.tokens) & set(train.field2id_token["item_id"])
        expected = {pair for part in world.splits.values() for pair in part}
        warm = set()
        for loader, part in zip(loaders, world.splits.values(), strict=True):
            frame = loader._dataset.inter_feat
            pairs = {
                (train.id2token("user_id", int(user)), train.id2token("item_id", int(item)))
                for user, item in zip(frame["user_id"], frame["item_id"], strict=True)
            }
            if files:
                assert pairs == {pair for pair in part if pair[1] not in cold.tokens}
            warm |= pairs
        users = train.field2id_token["user_id"][cold.users]
        found = {(user, cold.tokens[item]) for user, item in zip(users, cold.items, strict=True)}
        assert found == {pair for pair in expected if pair[1] in cold.tokens}
        assert warm == expected - found
    assert drawn[0] == drawn[1]
    other = Config("VBPR", NAME, None, settings(root, "VBPR", split_seed=4, **more))
    again = cold_items_of(load_split(other)[0]._dataset)
    assert again is not None and set(again.tokens) != set(drawn[0])


@pytest.mark.parametrize("protocol", ["recbole", "mmrec"])
@pytest.mark.parametrize("model", ["VBPR", "MARGO"])
def test_metrics_are_those_of_a_naive_ranking(
    root: Path, world: World, model: str, protocol: str
) -> None:
    (run,) = find_runs(trained(root, model, eval_protocol=protocol))
    result = run.result.cold
    assert result is not None and result["scored_by"] == "contents"
    cold = cold_items_of(run.dataset)
    assert cold is not None
    # Through the door that users take.
    recommender = Recommender(bundle_of_run(run.folder, evidence=False)).add_items(
        {token: {m: rows[token] for m, rows in world.features.items()} for token in cold.tokens}
    )
    recalls: dict[str, list[float]] = {"among_cold": [], "among_all": []}
    gains: dict[str, list[float]] = {"among_cold": [], "among_all": []}
    for user in recommender.bundle.user_ids:
        known = {item for part in world.splits.values() for who, item in part if who == user}
        wanted = known & set(cold.tokens)
        if not wanted or not world.items_of(user, "train") - set(cold.tokens):
            continue
        for name, allow in (
            ("among_cold", set(cold.tokens)),
            ("among_all", set(recommender.bundle.item_ids) - (known - wanted)),
        ):
            (one,) = recommender.recommend([user], 5, exclude_seen=False, allow=allow)
            hits = [ranked.item in wanted for ranked in one.items]
            recalls[name].append(sum(hits) / len(wanted))
            ideal = sum(1 / math.log2(rank + 2) for rank in range(min(len(wanted), 5)))
            gains[name].append(
                sum(hit / math.log2(rank + 2) for rank, hit in enumerate(hits)) / ideal
            )
    assert result["users"] == len(recalls["among_cold"]) > 5
    for name in recalls:
        assert result[name]["recall@5"] == pytest.approx(np.mean(recalls[name]))
        assert result[name]["ndcg@5"] == pytest.approx(np.mean(gains[name]))


@pytest.mark.parametrize("protocol", ["recbole", "mmrec"])
def test_warm_metrics_are_those_of_the_test(root: Path, protocol: str) -> None:
    (run,) = find_runs(trained(root, "VBPR", eval_protocol=protocol))
    test, model = ColdTest.of_loaders(run.config, run.loaders), run.load_model()
    assert test is not None
    tables = score_tables(model, run.dataset)
    assert tables is not None
    users, items = (table.detach().numpy() for table in tables)
    assert test.warm(lambda block: users[block] @ items[1:].T) == pytest.approx(
        {name: run.result.test[name] for name in ("recall@5", "ndcg@5")}
    )


@pytest.mark.parametrize(
    ("model", "scored_by"),
    [("BM3", "the mean item"), ("BPR", "the mean item"), ("ItemKNN", "nothing")],
)
def test_models_without_a_path_from_contents_say_so(root: Path, model: str, scored_by: str) -> None:
    (run,) = find_runs(trained(root, model))
    assert run.result.cold is not None
    assert run.result.cold["scored_by"] == scored_by
    assert bool(run.result.cold["among_cold"]) == (scored_by != "nothing")


def test_baselines_rank_by_counts_and_by_the_mean_cosine(root: Path, world: World) -> None:
    config = Config("VBPR", NAME, None, settings(root, "VBPR"))
    loaders = load_split(config)
    found = cold_baselines(config, loaders)
    assert list(found) == ["popularity", "content kNN"]
    cold = cold_items_of(loaders[0]._dataset)
    assert cold is not None
    unit = {
        (m, item): row / np.linalg.norm(row)
        for m, rows in world.features.items()
        for item, row in rows.items()
    }
    recalls = []
    for user in dict.fromkeys(user for user, _ in world.splits["train"]):
        history = world.items_of(user, "train") - set(cold.tokens)
        wanted = world.items_of(user, "train", "valid", "test") & set(cold.tokens)
        if not history or not wanted:
            continue
        scores = {
            item: sum(
                float(np.mean([unit[m, item] @ unit[m, known] for known in history]))
                for m in world.features
            )
            for item in cold.tokens
        }
        best = sorted(cold.tokens, key=lambda item: -scores[item])[:1]
        recalls.append(len(wanted & set(best)) / len(wanted))
    test = ColdTest.of_loaders(config, loaders)
    assert test is not None
    one = cold_baselines(Config("VBPR", NAME, None, settings(root, "VBPR", topk=[1, 5])), loaders)
    assert one["content kNN"].among_cold["recall@1"] == pytest.approx(np.mean(recalls))
    assert found["popularity"].among_all["recall@5"] <= found["popularity"].among_cold["recall@5"]


@pytest.mark.parametrize("share", [0, 1.0, -0.1, 1, "x", True])
def test_a_share_is_between_0_and_1(root: Path, share: Any) -> None:
    with pytest.raises(ConfigError, match="`cold_items`"):
        Config("VBPR", NAME, None, settings(root, "VBPR", cold_items=share))


def test_items_must_be_left_and_the_model_general(root: Path) -> None:
    with pytest.raises(DatasetError, match="smaller share"):
        load_split(Config("VBPR", NAME, None, settings(root, "VBPR", cold_items=0.95)))
