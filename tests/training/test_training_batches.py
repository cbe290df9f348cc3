"""Our batches of an epoch hold what RecBole's loader would put into its own."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data.interaction import Interaction
from scipy.stats import chi2_contingency, chisquare

from recbole_margo.testing import SPLITS, World, prepare, random_world
from recbole_margo.training import training_batches as module
from recbole_margo.training.training_batches import TrainingBatches, training_batches

CPU = torch.device("cpu")


def negatives(**changes: Any) -> dict[str, Any]:
    """Return settings of how negatives are sampled."""
    values = {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False}
    return {"train_neg_sample_args": {**values, "candidate_num": 0, **changes}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return random_world().write(tmp_path)


def build(root: Path, model: str = "MARGO", **settings: Any) -> tuple[Any, TrainingBatches]:
    """Return RecBole's loader, whose interactions have a number each, and our batches of it."""
    loader = prepare(root, model, **settings).loaders[0]
    table = loader._dataset.inter_feat
    table["number"] = torch.arange(len(table)).float() / 2
    batches = training_batches(loader, CPU)
    assert isinstance(batches, TrainingBatches)
    return loader, batches


def joined(batches: Any) -> dict[str, np.ndarray]:
    """Return the columns of an epoch."""
    parts = list(batches)
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


CASES = {
    "one negative": {},
    "three negatives": {**negatives(sample_num=3), "train_batch_size": 16},
    "more negatives than fit into a batch": {**negatives(sample_num=9), "train_batch_size": 4},
    "a batch of one": {"train_batch_size": 1},
    "one batch": {"train_batch_size": 1000},
    "in order": {"shuffle": False},
    "no negatives": {"model": "BM3"},
}


@pytest.mark.parametrize("chunk", [1, 40, 2**20])
@pytest.mark.parametrize("case", CASES)
def test_batches_have_the_shape_of_recboles(root, monkeypatch, case, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    loader, batches = build(root, **CASES[case])
    ours, recboles = list(batches), list(loader)
    assert len(batches) == len(loader) == len(ours) == len(recboles)
    for own, other in zip(ours, recboles, strict=True):
        assert type(own) is type(other) is Interaction
        assert own.columns == other.columns
        assert len(own) == len(other)
        for name in other.columns:
            assert own[name].shape == other[name].shape
            assert own[name].dtype == other[name].dtype
        if not loader.shuffle:
            assert torch.equal(own["number"], other["number"])


@pytest.mark.parametrize("chunk", [1, 40, 2**20])
@pytest.mark.parametrize("case", CASES)
def test_an_epoch_has_every_interaction_once_with_items_that_its_user_does_not_know(
    root, monkeypatch, case, chunk
):
    monkeypatch.setattr(module, "CHUNK", chunk)
    loader, batches = build(root, **CASES[case])
    table = loader._dataset.inter_feat
    times = CASES[case].get("train_neg_sample_args", {"sample_num": 1})["sample_num"]
    epochs = [joined(batches) for _ in range(2)]
    for epoch in epochs:
        rows = np.rint(epoch["number"] * 2).astype(int)
        assert sorted(rows) == sorted([*range(80)] * times)
        for name in table.columns:
            np.testing.assert_array_equal(epoch[name], table[name].numpy()[rows])
        if case != "no negatives":
            assert epoch["neg_item_id"].min() >= 1 and epoch["neg_item_id"].max() < 16
            for user, item in zip(epoch["user_id"], epoch["neg_item_id"], strict=True):
                assert item not in loader._sampler.used_ids[user]
    same_order = np.array_equal(epochs[0]["number"], epochs[1]["number"])
    assert same_order == (case == "in order")


def test_the_negatives_of_an_interaction_stand_where_recbole_puts_them(root):
    _, batches = build(root, **negatives(sample_num=3))
    for batch in batches:
        number = batch["number"].view(3, -1)
        assert torch.equal(number[0], number[1]) and torch.equal(number[0], number[2])
        assert len(number[0].unique()) == number.shape[1]


@given(
    known=st.lists(st.sets(st.integers(1, 9)), min_size=1, max_size=6),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=60)
def test_a_negative_is_the_unknown_item_of_the_rank_that_was_drawn(known, seed):
    item_num = 11
    sampler = type("", (), {"used_ids": np.array([*known, None])[:-1], "item_num": item_num})
    users = torch.arange(len(known)).expand(20, -1)
    generator = torch.Generator().manual_seed(seed)
    found = module._UnknownItems(sampler).draw(users, generator)
    draws = torch.randint(2**62, users.shape, generator=generator.manual_seed(seed))
    for row, drawn in zip(found.tolist(), draws.tolist(), strict=True):
        for user, (item, draw) in enumerate(zip(row, drawn, strict=True)):
            unknown = [each for each in range(1, item_num) if each not in known[user]]
            assert item == unknown[draw % len(unknown)]


def test_negatives_are_distributed_as_recboles_sampler_distributes_them(root):
    loader, _ = build(root)
    rounds, user_num = 1500, loader._dataset.user_num
    users = torch.arange(1, user_num).repeat(rounds)
    generator = torch.Generator().manual_seed(3)
    ours = module._UnknownItems(loader._sampler).draw(users, generator)
    np.random.seed(3)
    recboles = loader._sampler.sample_by_user_ids(users.numpy(), None, 1)
    counts = np.zeros((2, user_num, 16), dtype=int)
    for table, items in zip(counts, (ours, recboles), strict=True):
        np.add.at(table, (users.numpy(), items.numpy()), 1)
    for user in range(1, user_num):
        unknown = [i for i in range(1, 16) if i not in loader._sampler.used_ids[user]]
        assert counts[:, user].sum() == counts[:, user][:, unknown].sum() == 2 * rounds
        assert chisquare(counts[0, user, unknown]).pvalue > 1e-4
        assert chi2_contingency(counts[:, user][:, unknown]).pvalue > 1e-4


def test_a_user_who_knows_all_items_but_one_gets_that_one(tmp_path):
    # i0 is everybody's somewhere, so that no user knows all.
    known = [f"i{item}" for item in range(1, 15)]
    splits: dict[str, list[tuple[str, str]]] = {split: [("u1", "i0")] for split in SPLITS}
    splits["train"] += [("u0", item) for item in known] + [("u1", "i3")]
    features = {"text": {f"i{item}": np.ones(3) * item for item in range(15)}}
    loader, batches = build(World(splits, features).write(tmp_path))
    dataset = loader._dataset
    epoch = joined(batches)
    full = epoch["user_id"] == dataset.token2id(dataset.uid_field, "u0")
    assert set(epoch["neg_item_id"][full]) == {dataset.token2id(dataset.iid_field, "i0")}
    assert full.sum() == 14


def test_the_loaders_generator_decides_everything(root):
    loader, batches = build(root)
    next(iter(batches))
    state = loader.generator.get_state()
    global_states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    first, second = joined(batches), joined(batches)
    assert random.getstate() == global_states[0]
    assert np.array_equal(np.random.get_state()[1], global_states[1])
    assert torch.equal(torch.get_rng_state(), global_states[2])
    np.random.seed(11)
    torch.manual_seed(11)
    loader.generator.set_state(state)
    again = joined(batches)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["neg_item_id"], second["neg_item_id"])


def test_a_batch_size_that_is_changed_afterwards_counts(root):
    loader, batches = build(root)
    loader.config["train_batch_size"] = 30
    loader.update_config(loader.config)
    assert [len(batch) for batch in batches] == [30, 30, 20]


# --- what is left to RecBole ----------------------------------------------------------------------


def item_columns(loader: Any) -> None:
    loader._dataset.item_feat = Interaction({"item_id": torch.arange(16)})


def another_sampler(loader: Any) -> None:
    loader._sampler = type("Own", (type(loader._sampler),), {})("train", loader._dataset)


def another_dataset(loader: Any) -> None:
    loader._dataset.__class__ = type("Own", (type(loader._dataset),), {})


@pytest.mark.parametrize(
    "settings",
    [
        negatives(distribution="popularity"),
        negatives(dynamic=True, candidate_num=2),
        {"repeatable": True},
    ],
    ids=["popularity", "dynamic", "repeatable"],
)
def test_what_recboles_loader_alone_can_do_is_left_to_it(root, settings):
    experiment = prepare(root, "VBPR", epochs=1, **settings)
    loader = experiment.loaders[0]
    assert training_batches(loader, CPU) is loader
    score, _ = experiment.trainer().fit(*experiment.loaders[:2], verbose=False)
    assert 0 <= score <= 1


@pytest.mark.parametrize("change", [item_columns, another_sampler, another_dataset])
def test_a_loader_that_was_changed_is_left_to_itself(root, change):
    loader, _ = build(root)
    change(loader)
    assert training_batches(loader, CPU) is loader


@pytest.mark.parametrize("model", ["NeuMF", "LightGCN", "MultiVAE"])
def test_other_loaders_of_recbole_are_left_to_themselves(root, model):
    loader = prepare(root, model).loaders[0]
    plain = model == "LightGCN"  # pairs, as ours; RecBole's trainer takes the loader all the same
    assert (training_batches(loader, CPU) is loader) != plain
