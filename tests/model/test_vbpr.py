from __future__ import annotations

import dense_collaborative as dense
import numpy as np
import pytest
import torch
from dense_inputs import dense_inputs
from numpy.testing import assert_allclose, assert_array_equal

from recbole_margo.testing import MISSING, Experiment, prepare, random_world

PENALTIES = ("frobenius", "squared")


def build(tmp_path, modalities=2, missing="nothing missing", seed=1, **settings):
    """Return the dense inputs of a world and VBPR on it, every parameter drawn anew."""
    world = random_world(modalities).without(MISSING[missing])
    experiment = prepare(world.write(tmp_path), "VBPR", **settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in experiment.model.parameters():
            parameter.normal_(generator=generator)
    experiment.model.train()
    return dense_inputs(experiment, world), experiment


def losses(experiment: Experiment, triplets) -> list[float]:
    return [term.item() for term in experiment.model.calculate_loss(experiment.batch(triplets))]


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_scores_and_losses_equal_the_dense_formula(tmp_path, modalities, missing):
    inputs, experiment = build(tmp_path, modalities, missing, reg_weight=0.3)
    users, items = dense.vbpr(inputs, experiment.parameters())
    triplets = experiment.random_triplets()
    expected = dense.vbpr_terms(users, items, triplets, "frobenius", 0.3)
    assert losses(experiment, triplets) == pytest.approx(expected, rel=1e-5)
    assert_allclose(experiment.all_scores(), users @ items.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("train_features", [True, False])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_penalty_takes_the_named_norm_of_the_whole_item(tmp_path, penalty, train_features):
    settings = {"reg_weight": 0.7, "penalty": penalty, "train_features": train_features}
    inputs, experiment = build(tmp_path, 2, "some items miss one", **settings)
    users, items = dense.vbpr(inputs, experiment.parameters())
    # The last batch of an epoch is small: its own size divides.
    for count in (40, 7):
        triplets = experiment.random_triplets(count)
        expected = dense.vbpr_terms(users, items, triplets, penalty, 0.7)
        assert losses(experiment, triplets) == pytest.approx(expected, rel=1e-5)


def test_an_item_without_any_content_is_scored_by_its_own_embedding_alone(tmp_path):
    _, experiment = build(tmp_path, 3, "an item misses all")
    (item,) = experiment.item_ids(["i3"])
    parameters = experiment.parameters()
    width = parameters["item_embedding"].shape[1]
    expected = parameters["user_embedding"][:, :width] @ parameters["item_embedding"][item]
    assert_allclose(experiment.all_scores()[:, item], expected, rtol=1e-5, atol=1e-6)


def test_start_is_xavier_with_zero_bias_and_a_user_twice_as_wide(tmp_path):
    world = random_world(2, users=300, items=200)
    experiment = prepare(world.write(tmp_path), "VBPR", embedding_size=32)
    parameters = experiment.parameters()
    assert parameters["user_embedding"].shape == (301, 64)
    assert parameters["item_embedding"].shape == (201, 32)
    for table in (parameters["user_embedding"], parameters["item_embedding"]):
        bound = np.sqrt(6 / sum(table.shape))  # uniform
        assert 0.99 * bound < abs(table).max() <= bound
        assert table.std() == pytest.approx(bound / np.sqrt(3), rel=0.03)
    weight = parameters["projection.weight"]
    assert weight.shape == (32, 4 + 5)
    assert weight.std() == pytest.approx(np.sqrt(2 / (32 + 9)), rel=0.15)
    assert abs(weight).max() > np.sqrt(6 / (32 + 9))  # normal, not uniform
    assert_array_equal(parameters["projection.bias"], 0)
