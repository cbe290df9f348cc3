from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_margo.data.protocol import load_dataset, split_fingerprint
from recbole_margo.errors import DatasetNotFoundError
from recbole_margo.testing import World, make_config, prepare, random_world

ITEMS = "abcdef"
TOY = World(
    {
        "train": [*(("u0", i) for i in "ab"), ("u1", "c"), *(("u2", i) for i in "def")],
        "valid": [("u0", "c"), ("u1", "d"), ("u2", "a")],
        "test": [("u0", "d"), ("u1", "e"), ("u1", "f"), ("u2", "b")],
    },
    {"text": {item: np.eye(6)[number] for number, item in enumerate(ITEMS)}},
)
# u0: a and b are known, the item to validate, c, comes before the item to test, d.
# u1: c is known, d (validation) before e (test), a (nobody's), f (test).
# u2: d, e, f are known, b (test) before a (validation).
SCORES = {
    "u0": {"a": 99, "b": 98, "c": 9, "d": 8, "e": 7, "f": 6},
    "u1": {"c": 99, "d": 9, "e": 8, "a": 7, "f": 6, "b": 5},
    "u2": {"d": 99, "e": 98, "f": 97, "b": 8, "a": 7, "c": 6},
}
SECOND = 1 / np.log2(3)  # what a hit at rank 2 adds to DCG
VALIDATION = {
    "recall@1": 2 / 3,
    "recall@2": 1.0,
    "ndcg@1": 2 / 3,
    "ndcg@2": (1 + 1 + SECOND) / 3,
}
TEST = {
    "recbole": {
        "recall@1": (1 + 1 / 2 + 1) / 3,
        "recall@2": (1 + 1 / 2 + 1) / 3,
        "ndcg@1": 1.0,
        "ndcg@2": (1 + 1 / (1 + SECOND) + 1) / 3,
    },
    "mmrec": {
        "recall@1": (0 + 0 + 1) / 3,
        "recall@2": (1 + 1 / 2 + 1) / 3,
        "ndcg@1": 1 / 3,
        "ndcg@2": (SECOND + SECOND / (1 + SECOND) + 1) / 3,
    },
}


@pytest.mark.parametrize("users_a_batch", [1, 2, 100])
@pytest.mark.parametrize("protocol", ["recbole", "mmrec"])
def test_masking_on_a_toy_split_by_hand(tmp_path, monkeypatch, protocol, users_a_batch):
    monkeypatch.chdir(tmp_path)
    experiment = prepare(
        TOY.write(tmp_path),
        "DRAGON",
        eval_protocol=protocol,
        topk=[1, 2],
        valid_metric="Recall@1",
        eval_batch_size=users_a_batch * 7,
    )
    table = torch.full((4, 7), 1000.0)  # PAD would come first everywhere
    for user, scores in SCORES.items():
        for item, score in scores.items():
            table[experiment.user_ids([user])[0], experiment.item_ids([item])[0]] = score
    monkeypatch.setattr(experiment.model, "scoring_tables", lambda: (table, torch.eye(7)))
    trainer = experiment.trainer()
    _, valid, test = experiment.loaders
    assert trainer.evaluate_unrounded(valid) == pytest.approx(VALIDATION)
    assert trainer.evaluate_unrounded(test) == pytest.approx(TEST[protocol])


@pytest.mark.parametrize("model", ["MARGO", "LightGCN"])
@pytest.mark.parametrize("protocol", ["recbole", "mmrec"])
def test_a_batch_of_evaluation_holds_1024_users_by_default(tmp_path, model, protocol):
    experiment = prepare(random_world().write(tmp_path), model, eval_protocol=protocol)
    for loader in experiment.loaders[1:]:
        assert loader.step >= 1024
        assert len(loader) == 1


def test_a_given_batch_size_keeps_the_meaning_it_has_in_recbole(tmp_path):
    experiment = prepare(random_world().write(tmp_path), "MARGO", eval_batch_size=5 * 16 + 3)
    assert experiment.loaders[1].step == 5  # users, of 16 items each with PAD
    assert len(experiment.loaders[1]) == 4


def test_a_model_that_scores_pairs_only_keeps_recboles_batch_size(tmp_path):
    experiment = prepare(random_world().write(tmp_path), "NeuMF")
    assert experiment.config["eval_batch_size"] == 4096


def test_the_split_is_that_of_the_files(tmp_path):
    world = random_world()
    experiment = prepare(world.write(tmp_path), "MARGO")
    for split, loader in zip(world.splits, experiment.loaders, strict=True):
        part = loader._dataset.inter_feat
        users = [experiment.user_tokens[i] for i in part[experiment.dataset.uid_field]]
        items = [experiment.item_tokens[i] for i in part[experiment.dataset.iid_field]]
        assert sorted(zip(users, items, strict=True)) == sorted(world.splits[split])


def fingerprint(world: World, root, model: str = "MARGO", **settings) -> str:
    return split_fingerprint(*prepare(world.write(root), model, **settings).loaders)


def test_models_protocols_and_the_order_of_rows_share_a_fingerprint(tmp_path):
    world = random_world()
    expected = fingerprint(world, tmp_path)
    assert len(expected) == 16
    assert fingerprint(world, tmp_path, "LightGCN") == expected
    assert fingerprint(world, tmp_path, "BPR", seed=7) == expected
    assert fingerprint(world, tmp_path, eval_protocol="mmrec") == expected
    assert fingerprint(world.with_items_reordered(1), tmp_path / "other") == expected


def test_another_split_has_another_fingerprint(tmp_path):
    world = random_world()
    train, valid, test = world.splits.values()
    swapped = World({"train": train, "valid": test, "test": valid}, world.features)
    less = World({"train": train[:-1], "valid": valid, "test": test}, world.features)
    found = {
        fingerprint(each, tmp_path / str(number))
        for number, each in enumerate((world, swapped, less, random_world(seed=1)))
    }
    assert len(found) == 4


def test_missing_files_are_named(tmp_path):
    root = random_world().write(tmp_path)
    (root / "tiny" / "tiny.valid.inter").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"tiny\.valid\.inter") as caught:
        load_dataset(make_config(root, "MARGO"))
    assert "tiny.train.inter" not in str(caught.value)
    assert str(root) in str(caught.value)
