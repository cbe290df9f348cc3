"""A user who knows every item: trained on where that can be, else left out or refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from recbole_margo.errors import DataError
from recbole_margo.recbole_mends import knows_all, refuse_users_who_know_all
from recbole_margo.testing import SPLITS, World, prepare, random_world
from recbole_margo.training.training_batches import TrainingBatches, training_batches

CPU = torch.device("cpu")
ITEMS = [f"i{item}" for item in range(15)]


def world_of(*counts: int) -> World:
    """Return a random world with one more user who has so many items in each part."""
    world = random_world()
    splits, first = {}, 0
    for split, count in zip(SPLITS, counts, strict=True):
        mine = [("full", item) for item in ITEMS[first : first + count]]
        splits[split], first = [*world.splits[split], *mine], first + count
    return World(splits, world.features)


@pytest.mark.parametrize("model", ["VBPR", "BM3", "BPR", "MultiVAE"])
def test_a_user_who_knows_all_with_validation_and_test_is_no_hindrance(tmp_path, model):
    experiment = prepare(world_of(13, 1, 1).write(tmp_path), model, epochs=1)
    experiment.trainer().fit(*experiment.loaders[:2], verbose=False)
    loader = experiment.loaders[0]
    if model == "VBPR":
        batches = training_batches(loader, CPU)
        assert sum(len(batch) for batch in batches) == len(loader._dataset)


def test_interactions_without_a_negative_are_left_out_with_a_warning(tmp_path, caplog):
    experiment = prepare(world_of(15, 0, 0).write(tmp_path), "VBPR", train_batch_size=7)
    loader = experiment.loaders[0]
    dataset = loader._dataset
    batches = training_batches(loader, CPU)
    assert isinstance(batches, TrainingBatches)
    assert "1 users know all items: their 15 training interactions" in caplog.text
    epoch = list(batches)
    assert len(epoch) == len(batches) == 12  # 80 interactions of the others, 7 at a time
    pairs = {}
    for batch in epoch:
        rows = zip(batch["user_id"].tolist(), batch["neg_item_id"].tolist(), strict=True)
        for user, negative in rows:
            pairs.setdefault(user, []).append(negative)
    full = dataset.token2id("user_id", "full")
    known = dataset.inter_matrix("csr").toarray() > 0
    expected = {user: int(row.sum()) for user, row in enumerate(known) if user not in (0, full)}
    assert {user: len(found) for user, found in pairs.items()} == expected
    assert not any(known[user, item] for user, found in pairs.items() for item in found)
    assert known[full, 1:].all()  # the graph has them


def test_models_that_draw_no_negatives_train_on_all(tmp_path):
    loader = prepare(world_of(15, 0, 0).write(tmp_path), "BM3").loaders[0]
    assert sum(len(batch) for batch in training_batches(loader, CPU)) == 95


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_recboles_models_are_told_before_training(tmp_path, distribution):
    root = world_of(15, 0, 0).write(tmp_path)
    negatives = {"train_neg_sample_args": {"distribution": distribution}}
    with pytest.raises(DataError, match=r"1 users know all 15 items .*\(full\).*train.inter"):
        prepare(root, "BPR", **negatives)


def test_what_is_left_to_recboles_loader_is_refused(tmp_path):
    settings: dict[str, Any] = {"train_neg_sample_args": {"distribution": "popularity"}}
    loader = prepare(world_of(15, 0, 0).write(tmp_path), "VBPR", **settings).loaders[0]
    with pytest.raises(DataError, match="1 users know all 15 items"):
        training_batches(loader, CPU)


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_who_knows_all_is_found_by_trying_every_item(tmp_path: Path, distribution: str) -> None:
    settings = {"train_neg_sample_args": {"distribution": distribution}}
    found = []
    for count in (14, 15):
        root = world_of(count, 15 - count, 0).write(tmp_path / str(count))
        sampler = prepare(root, "VBPR", **settings).loaders[0]._sampler
        drawn = set(sampler.prob) if distribution == "popularity" else set(range(1, 16))
        expected = [all(item in items for item in drawn) for items in sampler.used_ids]
        assert np.array_equal(knows_all(sampler), expected)
        found.append(sum(expected))
    assert found == [0, 1]


def test_the_interval_that_is_named_leaves_the_user_out() -> None:
    """Popularity draws only from items that somebody has: 3 of 10 here."""
    dataset = SimpleNamespace(
        benchmark_filename_list=None, uid_field="user_id", id2token=lambda field, user: f"u{user}"
    )
    sampler = SimpleNamespace(
        distribution="popularity",
        prob={1: 0.5, 2: 0.25, 3: 0.25},
        item_num=11,
        phase="test",
        used_ids=np.array([set(), {1, 2, 3}, {1, 2}]),
        datasets=[dataset],
    )
    refuse_users_who_know_all(sampler, [2])
    with pytest.raises(
        DataError, match=r'1 users know all 3 items .*\(u1\).*"\[0,2\]".*mode: full'
    ):
        refuse_users_who_know_all(sampler, [1, 2])
