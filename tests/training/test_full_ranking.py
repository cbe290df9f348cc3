"""Our ranking gives RecBole's metrics what RecBole's own evaluation gives them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.evaluator.collector import DataStruct
from recbole.trainer import Trainer

from recbole_margo.errors import ConfigError
from recbole_margo.testing import MISSING, Experiment, World, prepare, random_world
from recbole_margo.training import ranking_trainer as module
from recbole_margo.training.ranking_trainer import (
    UNROUNDED,
    ZERO_WITHOUT_HITS,
    FullRanking,
    averaging_hits_alone,
)

METRICS = ["Recall", "NDCG", "MRR", "MAP", "Hit", "Precision"]


def many_positives(missing: str = "nothing missing") -> World:
    """Return a world of users with several positives, without a test item and without history."""
    world = random_world(modalities=3).with_several_positives()
    test = [*world.splits["test"], ("new", "i2"), ("new", "i5")]
    # A user who has interacted with an item in more than one part.
    test.append(("u4", sorted(world.items_of("u4", "train"))[0]))
    return dataclasses.replace(world, splits={**world.splits, "test": test}).without(
        MISSING[missing]
    )


def build(root: Path, model: str = "MARGO", world: World | None = None, **settings: Any):
    """Return an experiment whose scores differ, our trainer and RecBole's, both unrounded."""
    values = {"metrics": METRICS, "topk": [2, 5], "valid_metric": "NDCG@5", **settings}
    experiment = prepare((world or many_positives()).write(root), model, **values)
    experiment.randomize()
    recboles = Trainer(experiment.config, experiment.model)
    for metric in recboles.evaluator.metric_class.values():
        metric.decimal_place = UNROUNDED
    return experiment, experiment.trainer(), recboles


def collected(trainer: Any, loader: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Evaluate; return the metrics and what they were computed from."""
    seen = []
    evaluate = trainer.evaluator.evaluate
    with monkeypatch.context() as patch:
        patch.setattr(trainer.evaluator, "evaluate", lambda s: [seen.append(s), evaluate(s)][1])
        result = trainer.evaluate(loader, load_best_model=False)
    (struct,) = seen
    return result, struct


def forbid_recboles_path(experiment: Experiment, trainer: Any, patch: Any) -> None:
    def refuse(batch: Any) -> None:
        raise AssertionError("RecBole's evaluation was asked")

    patch.setattr(trainer, "_full_sort_batch_eval", refuse)


@pytest.mark.parametrize("missing", ["nothing missing", "an item misses all", "no item has two"])
@pytest.mark.parametrize("protocol", ["recbole", "mmrec"])
@pytest.mark.parametrize("users_at_once", [1, 7, 1000])
@pytest.mark.parametrize("model", ["MARGO", "VBPR"])
def test_metrics_and_what_they_are_computed_from_are_recboles(
    tmp_path, monkeypatch, model, users_at_once, protocol, missing
):
    monkeypatch.setattr(module, "CELLS", 1)
    monkeypatch.setattr(module, "USERS", users_at_once)
    experiment, ours, recboles = build(
        tmp_path, model, many_positives(missing), eval_protocol=protocol
    )
    forbid_recboles_path(experiment, ours, monkeypatch)
    for loader in experiment.loaders[1:]:
        found, struct = collected(ours, loader, monkeypatch)
        expected, recboles_struct = collected(recboles, loader, monkeypatch)
        hits, recboles_hits = struct.get("rec.topk"), recboles_struct.get("rec.topk")
        assert torch.equal(hits, recboles_hits) and hits.dtype == recboles_hits.dtype
        assert found == {name: round(float(value), 4) for name, value in expected.items()}
        unrounded = ours.evaluate_unrounded(loader)
        assert unrounded == {name: float(value) for name, value in expected.items()}


@pytest.mark.parametrize("missing", MISSING)
def test_the_items_ranked_first_are_recboles(tmp_path, monkeypatch, missing):
    experiment, ours, recboles = build(
        tmp_path,
        "VBPR",
        many_positives(missing),
        metrics=["Recall", "ShannonEntropy"],
        valid_metric="Recall@5",
    )
    forbid_recboles_path(experiment, ours, monkeypatch)
    for loader in experiment.loaders[1:]:
        found, struct = collected(ours, loader, monkeypatch)
        expected, recboles_struct = collected(recboles, loader, monkeypatch)
        assert torch.equal(struct.get("rec.items"), recboles_struct.get("rec.items"))
        assert struct.get("rec.items").dtype == recboles_struct.get("rec.items").dtype
        assert found == {name: round(float(value), 4) for name, value in expected.items()}


def test_lists_longer_than_the_candidates_are_filled_as_recboles(tmp_path, monkeypatch):
    # 15 items and PAD; users have 4 or 5 items in their history.
    experiment, ours, recboles = build(
        tmp_path, topk=[12, 16], valid_metric="NDCG@12", metrics=["NDCG", "MAP", "ShannonEntropy"]
    )
    for loader in experiment.loaders[1:]:
        found, struct = collected(ours, loader, monkeypatch)
        expected, recboles_struct = collected(recboles, loader, monkeypatch)
        for name in ("rec.items", "rec.topk"):
            assert torch.equal(struct.get(name), recboles_struct.get(name))
        assert found == {name: round(float(value), 4) for name, value in expected.items()}


def test_more_items_than_there_are_cannot_be_ranked(tmp_path):
    experiment, ours, _ = build(tmp_path, topk=[17], valid_metric="NDCG@17")
    with pytest.raises(ConfigError, match=r"`topk` asks for the first 17 items.*dataset has 15"):
        ours.evaluate_unrounded(experiment.loaders[1])


@pytest.mark.parametrize("protocol", ["recbole", "mmrec"])
def test_neither_pad_nor_the_history_is_ranked_while_others_are_left(tmp_path, protocol):
    world = many_positives()
    experiment, ours, _ = build(tmp_path, "DRAGON", world, eval_protocol=protocol)
    test = experiment.loaders[2]
    top = ours.full_ranking(test).top_items(experiment.model.eval(), 5)
    assert top.shape == (20, 5) and (top > 0).all()
    masked = ("train",) if protocol == "mmrec" else ("train", "valid")
    for user, row in zip(test.uid_list, top, strict=True):
        token = experiment.user_tokens[user]
        history = world.items_of(token, *masked) - world.items_of(token, "test")
        assert history.isdisjoint(experiment.item_tokens[item] for item in row)


@pytest.mark.parametrize("levels", [1, 3])
def test_equal_scores_fall_as_recboles(tmp_path, monkeypatch, levels):
    experiment, ours, recboles = build(
        tmp_path, metrics=["Recall", "ShannonEntropy"], valid_metric="Recall@5"
    )
    field = experiment.dataset.uid_field
    coarse = torch.randint(levels, (experiment.dataset.user_num, 16)).float()
    monkeypatch.setattr(
        experiment.model, "full_sort_predict", lambda batch: coarse[batch[field]].flatten()
    )
    for loader in experiment.loaders[1:]:
        _, struct = collected(ours, loader, monkeypatch)
        _, recboles_struct = collected(recboles, loader, monkeypatch)
        for name in ("rec.items", "rec.topk"):
            assert torch.equal(struct.get(name), recboles_struct.get(name))


def test_a_model_that_scores_in_its_own_way_is_asked(tmp_path, monkeypatch):
    experiment, ours, recboles = build(tmp_path)
    original = experiment.model.full_sort_predict
    monkeypatch.setattr(experiment.model, "full_sort_predict", lambda batch: -original(batch))
    upside_down = ours.evaluate_unrounded(experiment.loaders[2])
    assert upside_down == recboles.evaluate(experiment.loaders[2], load_best_model=False)
    monkeypatch.undo()
    assert upside_down != ours.evaluate_unrounded(experiment.loaders[2])


def test_what_the_loader_lists_is_prepared_once(tmp_path):
    experiment, ours, _ = build(tmp_path)
    valid, test = experiment.loaders[1:]
    assert ours.full_ranking(test) is ours.full_ranking(test)
    assert ours.full_ranking(test) is not ours.full_ranking(valid)


def test_metrics_over_items_get_what_they_need_of_the_training_data(tmp_path):
    metrics = ["Recall", "ItemCoverage", "GiniIndex", "AveragePopularity", "TailPercentage"]
    experiment, ours, _ = build(tmp_path, metrics=metrics, valid_metric="Recall@5", epochs=1)
    ours.fit(*experiment.loaders[:2], verbose=False)
    test = experiment.loaders[2]
    found = ours.evaluate_unrounded(test)
    top = ours.full_ranking(test).top_items(experiment.model.eval(), 5).numpy()
    counts = np.bincount(experiment.loaders[0]._dataset.inter_feat["item_id"], minlength=16)
    assert found["itemcoverage@5"] == pytest.approx(len(np.unique(top)) / 16)
    assert found["averagepopularity@5"] == pytest.approx(counts[top].mean())


def test_ranks_of_positives_count_from_one_and_are_zero_beyond_the_list(tmp_path):
    experiment, ours, _ = build(tmp_path)
    test = experiment.loaders[2]
    ranking = ours.full_ranking(test)
    assert isinstance(ranking, FullRanking)
    top = ranking.top_items(experiment.model.eval(), 5)
    rows, items, ranks = ranking.positive_ranks(top)
    expected = {
        (row, int(item)): top[row].tolist().index(item) + 1 if item in top[row] else 0
        for row, user in enumerate(test.uid_list)
        for item in test.uid2positive_item[user]
    }
    found = zip(rows.tolist(), items.tolist(), strict=True)
    assert dict(zip(found, ranks.tolist(), strict=True)) == expected
    assert 0 in expected.values() and max(expected.values()) > 1


def test_a_progress_bar_is_shown_on_request(tmp_path, capsys):
    experiment, ours, _ = build(tmp_path)
    ours.evaluate_unrounded(experiment.loaders[2])
    assert capsys.readouterr().err == ""
    ours.evaluate_unrounded(experiment.loaders[2], show_progress=True)
    assert "Evaluate" in capsys.readouterr().err


# --- what is left to RecBole ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"metrics": ["Recall", "GAUC"]},
        {"eval_args": {"mode": {"valid": "full", "test": "uni5"}}},
    ],
    ids=["a metric of all ranks", "sampled negatives"],
)
def test_other_evaluations_are_recboles(tmp_path, settings):
    experiment, ours, recboles = build(tmp_path, valid_metric="Recall@5", **settings)
    test = experiment.loaders[2]
    assert ours.full_ranking(test) is None
    np.random.seed(1)  # of the sampled negatives
    expected = recboles.evaluate(test, load_best_model=False)
    np.random.seed(1)
    assert ours.evaluate_unrounded(test) == {name: float(v) for name, v in expected.items()}


def test_a_collector_that_is_listened_to_gets_recboles_batches(tmp_path, monkeypatch):
    experiment, ours, _ = build(tmp_path)
    test, seen = experiment.loaders[2], []
    expected = ours.evaluate_unrounded(test)
    collect = ours.eval_collector.eval_batch_collect
    monkeypatch.setattr(
        ours.eval_collector, "eval_batch_collect", lambda *a: [seen.append(a[0]), collect(*a)][1]
    )
    assert ours.evaluate_unrounded(test) == expected
    assert seen[0].shape == (20, 16)


@pytest.mark.parametrize("topk", [[1], [1, 2], [5, 20]])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
def test_metrics_of_the_users_with_hits_are_those_of_all_to_the_last_bit(share, topk):
    random = np.random.default_rng(3)
    hits = random.random((3001, max(topk))) < share
    counts = hits.sum(axis=1, keepdims=True) + random.integers(1, 9, (3001, 1))
    struct = DataStruct()
    struct.set("rec.topk", torch.from_numpy(np.concatenate([hits, counts], axis=1).astype(int)))
    config = {"topk": topk, "metric_decimal_place": UNROUNDED}
    metrics = [kind(config) for kind in ZERO_WITHOUT_HITS]
    expected = [metric.calculate_metric(struct) for metric in metrics]
    with averaging_hits_alone(metrics, struct):
        found = [metric.calculate_metric(struct) for metric in metrics]
    assert found == expected
    assert all(not {"used_info", "topk_result"} & vars(metric).keys() for metric in metrics)


def test_metrics_that_somebody_listens_to_see_all_users():
    struct = DataStruct()
    struct.set("rec.topk", torch.tensor([[1, 0, 1], [0, 0, 1]]))
    metric = ZERO_WITHOUT_HITS[0]({"topk": [2], "metric_decimal_place": UNROUNDED})
    seen = []
    metric.topk_result = lambda name, values: seen.append(len(values))
    with averaging_hits_alone([metric], struct):
        metric.calculate_metric(struct)
    assert seen == [2]
    assert "topk_result" in vars(metric)
