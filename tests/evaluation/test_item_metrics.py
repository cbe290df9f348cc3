"""Metrics of the recommended items, for our models and RecBole's, recomputed in NumPy."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_margo import compare
from recbole_margo.testing import NAME, Experiment, prepare, random_world

ITEM_METRICS = [
    "ItemCoverage",
    "GiniIndex",
    "AveragePopularity",
    "TailPercentage",
    "ShannonEntropy",
]
TOPK = [1, 3]
TAIL = 0.3
WORLD = random_world().with_several_positives()


def settings(mode: str, metrics: list[str]) -> dict[str, Any]:
    return {
        "topk": TOPK,
        "valid_metric": "ItemCoverage@3",
        "metrics": metrics,
        "tail_ratio": TAIL,
        "eval_args": {"mode": mode},
    }


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return WORLD.write(tmp_path / "data")


def lists_by_hand(experiment: Experiment, mode: str) -> np.ndarray:
    """Return the ids of the items ranked first for every user of the test part."""
    scores, test = experiment.all_scores(), experiment.loaders[2]
    allowed: dict[int, set[int]] = {}
    if mode == "full":
        for user in {user for user, _ in WORLD.splits["test"]}:
            seen = WORLD.items_of(user, "train", "valid")
            left = [t for t in experiment.item_tokens[1:] if t not in seen]
            allowed[int(experiment.user_ids([user])[0])] = set(experiment.item_ids(left).tolist())
    else:
        for interaction, _, _, _ in test:
            users, items = interaction[test.uid_field], interaction[test.iid_field]
            for user, item in zip(users.tolist(), items.tolist(), strict=True):
                allowed.setdefault(user, set()).add(item)
    lists = []
    for user, items in allowed.items():
        assert len(items) >= max(TOPK)
        lists.append(sorted(items, key=lambda item: -scores[user, item])[: max(TOPK)])
    return np.array(lists)


def metrics_by_hand(experiment: Experiment, lists: np.ndarray) -> dict[str, float]:
    item_num = experiment.dataset.item_num  # with the padding, as RecBole counts
    trained = Counter(experiment.item_ids([item for _, item in WORLD.splits["train"]]).tolist())
    by_rarity = sorted(trained, key=lambda item: (trained[item], item))
    tail = by_rarity[: max(int(len(by_rarity) * TAIL), 1)]
    expected = {}
    for k in TOPK:
        top = lists[:, :k]
        counts = np.bincount(top.ravel(), minlength=item_num)
        ordered, ranks = np.sort(counts), np.arange(1, item_num + 1)
        shares = counts[counts > 0] / counts.sum()
        popularity = np.vectorize(lambda item: trained[int(item)])(top)
        expected |= {
            f"itemcoverage@{k}": (counts > 0).sum() / item_num,
            f"giniindex@{k}": ((2 * ranks - item_num - 1) * ordered).sum()
            / (item_num * counts.sum()),
            f"averagepopularity@{k}": popularity.mean(),
            f"tailpercentage@{k}": np.isin(top, tail).mean(),
            f"shannonentropy@{k}": -(shares * np.log(shares)).sum() / len(shares),
        }
    return expected


@pytest.mark.parametrize("model", ["VBPR", "BPR", "LightGCN"])
@pytest.mark.parametrize("mode", ["full", "uni6"])
@pytest.mark.parametrize("more", [[], ["GAUC"], ["NDCG"]], ids=["alone", "GAUC", "NDCG"])
def test_item_metrics_are_those_of_the_lists(
    root: Path, model: str, mode: str, more: list[str]
) -> None:
    experiment = prepare(root, model, **settings(mode, ITEM_METRICS + more))
    experiment.randomize()
    trainer = experiment.trainer()
    trainer.eval_collector.data_collect(experiment.loaders[0])
    expected = metrics_by_hand(experiment, lists_by_hand(experiment, mode))
    for _ in range(2):  # the second epoch finds what the first one left
        found = trainer.evaluate(experiment.loaders[2], load_best_model=False)
        assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-4)
        assert len(found) > len(expected) or not more


def test_one_table_holds_ours_and_recboles(root: Path) -> None:
    values = settings("full", [*ITEM_METRICS, "Recall"])
    values |= {"data_path": str(root), "epochs": 1, "use_gpu": False}
    records = compare(["VBPR", "BPR"], NAME, config_dict=values, output_dir="out")
    assert [record["status"] for record in records] == ["finished"] * 2
    assert set(records[0]["test"]) == set(records[1]["test"]) >= {"giniindex@3", "recall@1"}
