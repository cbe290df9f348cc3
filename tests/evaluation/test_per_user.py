"""Metrics by user and ranks of positives, against a brute-force ranking."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_margo.errors import CheckpointError
from recbole_margo.evaluation.per_user import PerUserMetrics, evaluate_per_user
from recbole_margo.testing import Experiment, prepare, random_world
from recbole_margo.training.trainer import MultimodalTrainer

METRICS = ["Recall", "NDCG", "MRR", "MAP", "Hit", "Precision"]
TOPK = [2, 5]
MODELS = ["MARGO", "BPR"]


WORLD = random_world().with_several_positives()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # RecBole's trainer writes its TensorBoard files there
    return WORLD.write(tmp_path / "data")


def build(root: Path, model: str, **settings: Any) -> tuple[Experiment, Any]:
    values = {"metrics": METRICS, "topk": TOPK, "valid_metric": "NDCG@5", "epochs": 1, **settings}
    experiment = prepare(root, model, **values)
    trainer = experiment.trainer()
    trainer.saved_model_file = str(root / "checkpoint.pth")
    trainer.fit(*experiment.loaders[:2], verbose=False)
    return experiment, trainer


def ranks_by_hand(experiment: Experiment, protocol: str) -> dict[str, dict[str, int]]:
    """Return user -> test item -> rank among the items that the protocol leaves."""
    scores = experiment.all_scores()
    masked = ("train",) if protocol == "mmrec" else ("train", "valid")
    ranks: dict[str, dict[str, int]] = {}
    for user, item in WORLD.splits["test"]:
        seen = WORLD.items_of(user, *masked) - {item}
        row = scores[experiment.user_ids([user])[0]]
        own = {token: row[i] for i, token in enumerate(experiment.item_tokens) if i > 0}
        better = [t for t, s in own.items() if t not in seen and s > own[item]]
        assert sum(score == own[item] for score in own.values()) == 1, "a tie"
        rank = len(better) + 1
        ranks.setdefault(user, {})[item] = rank if rank <= max(TOPK) else 0
    return ranks


def metric_by_hand(metric: str, ranks: list[int], k: int) -> float:
    hits = sorted(rank for rank in ranks if 1 <= rank <= k)
    ideal = min(len(ranks), k)
    return {
        "recall": len(hits) / len(ranks),
        "precision": len(hits) / k,
        "hit": float(bool(hits)),
        "mrr": 1 / hits[0] if hits else 0.0,
        "map": sum((i + 1) / rank for i, rank in enumerate(hits)) / ideal,
        "ndcg": sum(1 / math.log2(rank + 1) for rank in hits)
        / sum(1 / math.log2(i + 2) for i in range(ideal)),
    }[metric]


def as_ranks(results: PerUserMetrics) -> dict[str, dict[str, int]]:
    ranks: dict[str, dict[str, int]] = {}
    for user, item, rank in zip(
        results.pair_user, results.pair_item, results.pair_rank, strict=True
    ):
        ranks.setdefault(str(results.users[user]), {})[str(item)] = int(rank)
    return ranks


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("protocol", ["recbole", "mmrec"])
@pytest.mark.parametrize("users_at_once", [3, 1000])
def test_ranks_and_metrics_are_those_of_a_brute_force_ranking(root, model, protocol, users_at_once):
    experiment, trainer = build(
        root, model, eval_protocol=protocol, eval_batch_size=users_at_once * 16
    )
    test = experiment.loaders[2]
    assert (len(test) > 5) == (users_at_once == 3)
    values, results = evaluate_per_user(trainer, test)
    assert results is not None
    expected = ranks_by_hand(experiment, protocol)
    assert as_ranks(results) == expected
    assert len(results.users) == 19
    for name, found in results.metrics.items():
        metric, k = name.split("@")
        by_hand = [
            metric_by_hand(metric, list(expected[u].values()), int(k)) for u in results.users
        ]
        np.testing.assert_allclose(found, by_hand, rtol=1e-13, atol=0, err_msg=name)
        assert found.dtype == np.float64
        assert values[name] == pytest.approx(np.mean(by_hand), rel=1e-13)
    assert set(values) == {f"{metric.lower()}@{k}" for metric in METRICS for k in TOPK}
    assert set(results.metrics) == set(values)


@pytest.mark.parametrize("model", MODELS)
def test_users_come_as_the_loader_has_them_and_pairs_by_user_and_token(root, model):
    experiment, trainer = build(root, model)
    test = experiment.loaders[2]
    results = evaluate_per_user(trainer, test)[1]
    assert results is not None
    assert results.users.tolist() == [experiment.user_tokens[uid] for uid in test.uid_list]
    pairs = list(zip(results.pair_user.tolist(), results.pair_item.tolist(), strict=True))
    assert pairs == sorted(pairs)
    assert sorted((str(results.users[u]), i) for u, i in pairs) == sorted(WORLD.splits["test"])


def test_the_values_are_those_of_evaluate_unrounded(root):
    experiment, trainer = build(root, "MARGO")
    assert isinstance(trainer, MultimodalTrainer)
    test = experiment.loaders[2]
    values, results = evaluate_per_user(trainer, test)
    assert values == trainer.evaluate_unrounded(test)
    assert {n: round(v.mean(), 15) for n, v in results.metrics.items()} == pytest.approx(
        values, rel=0, abs=1e-15
    )
    stage1 = str(trainer.stage_model_file("stage1"))
    assert evaluate_per_user(trainer, test, stage1)[0] == trainer.evaluate_unrounded(test, stage1)


def test_recboles_trainer_loads_its_best_checkpoint_and_is_not_rounded(root):
    experiment, trainer = build(root, "BPR")
    test = experiment.loaders[2]
    rounded = trainer.evaluate(test)
    with torch.no_grad():
        for parameter in experiment.model.parameters():
            parameter.normal_()
    values, results = evaluate_per_user(trainer, test)
    assert {name: round(value, 4) for name, value in values.items()} == rounded
    assert any(value != round(value, 4) for value in values.values())
    assert {n: v.mean() for n, v in results.metrics.items()} == pytest.approx(
        values, rel=0, abs=1e-15
    )
    # A named checkpoint is loaded instead.
    torch.save({"state_dict": experiment.model.state_dict(), "other_parameter": None}, "other.pth")
    with torch.no_grad():
        for parameter in experiment.model.parameters():
            parameter.zero_()
    assert evaluate_per_user(trainer, test, "other.pth")[0] == values


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("levels", [1, 3])
def test_ties_fall_as_recboles_do(root, model, levels, monkeypatch):
    experiment, trainer = build(root, model, eval_batch_size=4 * 16)
    user_field, items = experiment.dataset.uid_field, experiment.dataset.item_num
    coarse = torch.randint(levels, (experiment.dataset.user_num, items)).float()
    monkeypatch.setattr(
        experiment.model, "full_sort_predict", lambda batch: coarse[batch[user_field]].flatten()
    )
    results = evaluate_per_user(trainer, experiment.loaders[2])[1]
    assert results is not None
    positives = np.bincount(results.pair_user)
    for k in TOPK:
        hits = (results.pair_rank >= 1) & (results.pair_rank <= k)
        found = np.bincount(results.pair_user, weights=hits) / positives
        np.testing.assert_array_equal(found, results.metrics[f"recall@{k}"])
    first = np.full(len(results.users), np.inf)
    ranked = results.pair_rank > 0
    np.minimum.at(first, results.pair_user[ranked], results.pair_rank[ranked])
    np.testing.assert_allclose(1 / first, results.metrics["mrr@5"], rtol=1e-15)


def test_what_was_overheard_is_as_before_and_was_evaluated_once(root, monkeypatch):
    experiment, trainer = build(root, "BPR", eval_batch_size=4 * 16)
    calls = []
    predict = experiment.model.full_sort_predict
    monkeypatch.setattr(
        experiment.model, "full_sort_predict", lambda batch: calls.append(1) or predict(batch)
    )
    before = trainer.evaluate(experiment.loaders[2])
    once = len(calls)
    evaluate_per_user(trainer, experiment.loaders[2])
    assert len(calls) == 2 * once
    assert trainer.evaluate(experiment.loaders[2]) == before
    assert "eval_batch_collect" not in vars(trainer.eval_collector)
    for metric in trainer.evaluator.metric_class.values():
        assert "topk_result" not in vars(metric)
        assert metric.decimal_place == 4


def test_a_failed_evaluation_leaves_the_trainer_as_it_was(root, monkeypatch):
    experiment, trainer = build(root, "BPR")

    def listen(*_: Any) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(trainer.evaluator, "evaluate", listen)
    collect = trainer.eval_collector.eval_batch_collect
    monkeypatch.setattr(trainer.eval_collector, "eval_batch_collect", collect)
    with pytest.raises(RuntimeError, match="out of luck"):
        evaluate_per_user(trainer, experiment.loaders[2])
    assert trainer.eval_collector.eval_batch_collect == collect
    assert all("topk_result" not in vars(m) for m in trainer.evaluator.metric_class.values())
    assert {m.decimal_place for m in trainer.evaluator.metric_class.values()} == {4}


@pytest.mark.parametrize(
    "settings",
    [
        {"metrics": ["Recall", "GAUC"]},
        {"eval_args": {"mode": {"valid": "full", "test": "uni5"}}},
    ],
)
@pytest.mark.parametrize("model", MODELS)
def test_there_is_nothing_by_user_where_it_means_nothing(root, model, settings):
    experiment, trainer = build(root, model, **{"valid_metric": "Recall@5", **settings})
    np.random.seed(1)  # of the sampled negatives
    values, results = evaluate_per_user(trainer, experiment.loaders[2])
    assert results is None
    np.random.seed(1)
    rounded = trainer.evaluate(experiment.loaders[2])
    found = {name: round(value, 4) for name, value in values.items()}
    # Some of RecBole's other metrics are computed in single precision.
    assert found == pytest.approx(rounded, rel=0, abs=1e-6)


def test_a_user_that_stands_in_several_rows_has_no_value_of_its_own(root):
    # As the loaders of sequential models have it: a row is an interaction.
    experiment, trainer = build(root, "BPR")
    test = experiment.loaders[2]
    test.user_df = test.user_df[torch.arange(len(test.uid_list)).clip(min=1)]
    values, results = evaluate_per_user(trainer, test)
    assert set(values) == {f"{metric.lower()}@{k}" for metric in METRICS for k in TOPK}
    assert results is None


def test_without_test_data_there_is_nothing(root):
    _, trainer = build(root, "BPR")
    assert evaluate_per_user(trainer, None) == ({}, None)


@pytest.mark.parametrize("model", MODELS)
def test_what_is_saved_is_what_is_loaded(root, tmp_path, model):
    experiment, trainer = build(root, model)
    results = evaluate_per_user(trainer, experiment.loaders[2])[1]
    assert results is not None
    results.save(tmp_path / "per_user.npz")
    loaded = PerUserMetrics.load(tmp_path / "per_user.npz")
    assert list(loaded.metrics) == list(results.metrics)
    for name, values in results.metrics.items():
        np.testing.assert_array_equal(loaded.metrics[name], values)
    for field in ("users", "pair_user", "pair_item", "pair_rank"):
        np.testing.assert_array_equal(getattr(loaded, field), getattr(results, field))
        assert getattr(loaded, field).dtype == getattr(results, field).dtype
    assert loaded.pair_rank.dtype == loaded.pair_user.dtype == np.int64
    assert loaded.users.dtype.kind == loaded.pair_item.dtype.kind == "U"
    assert not list(tmp_path.glob(".*"))


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    path = tmp_path / "per_user.npz"
    whole = PerUserMetrics(
        users=np.array(["a"]),
        metrics={"recall@5": np.array([1.0])},
        pair_user=np.array([0]),
        pair_item=np.array(["x"]),
        pair_rank=np.array([2]),
    )
    whole.save(path)
    content = path.read_bytes()
    for damaged in (b"", b"text", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"per_user\.npz does not hold the metrics"):
            PerUserMetrics.load(path)
    np.save(path.open("wb"), np.zeros(3))
    with pytest.raises(CheckpointError, match="does not hold the metrics"):
        PerUserMetrics.load(path)
    with pytest.raises(CheckpointError, match="does not exist"):
        PerUserMetrics.load(tmp_path / "nothing.npz")
