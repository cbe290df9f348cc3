from __future__ import annotations

import dense_formulas as dense
import numpy as np
import pytest
from dense_models import dense_dragon
from numpy.testing import assert_allclose

from recbole_margo.testing import MISSING, Experiment, World, prepare, random_world


def dense_tables(experiment: Experiment, world: World):
    parameters = experiment.parameters()
    return dense_dragon(experiment, world, user_weights=parameters["user_weights"])


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_user_weights_start_near_one_over_the_number_of_modalities(tmp_path, modalities):
    world = random_world(modalities, users=300, items=15)
    weights = prepare(world.write(tmp_path), "DRAGON").parameters()["user_weights"]
    assert weights.shape == (301, modalities)
    assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    if modalities == 1:
        return
    # Two normal draws of std s through a softmax differ from 1/2 by s / (2 sqrt 2); the general
    # slope is s sqrt((M - 1) / M) / M. xavier_normal of [U, M, 1]: fan-in M, fan-out U.
    s = np.sqrt(2 / (301 + modalities))
    expected = s * np.sqrt((modalities - 1) / modalities) / modalities
    assert weights.std() == pytest.approx(expected, rel=0.1)
    assert weights.mean() == pytest.approx(1 / modalities)


def test_user_weights_are_free_after_the_start(tmp_path):
    """No softmax in the forward pass: they may become negative and need not sum to 1."""
    world = random_world(2)
    experiment = prepare(world.write(tmp_path), "DRAGON")
    experiment.model.user_weights.data.normal_()
    users, items = experiment.model.embeddings()
    expected_users, expected_items = dense_tables(experiment, world)
    assert_allclose(users.detach(), expected_users, rtol=1e-5, atol=1e-5)
    assert_allclose(items.detach(), expected_items, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_every_loss_term_equals_the_dense_formula(tmp_path, modalities, missing):
    world = random_world(modalities).without(MISSING[missing])
    experiment = prepare(world.write(tmp_path), "DRAGON", reg_weight=0.3)
    triplets = experiment.random_triplets()
    users, items = dense_tables(experiment, world)
    parameters = experiment.parameters()
    penalty = dense.preference_penalty(
        experiment.parameters("backbone."), np.array([user for user, _, _ in triplets]), modalities
    ) + np.mean(parameters["user_weights"] ** 2)

    ranking, regularization = experiment.model.calculate_loss(experiment.batch(triplets))

    assert ranking.item() == pytest.approx(dense.plain_ranking(users, items, triplets), rel=1e-5)
    assert regularization.item() == pytest.approx(0.3 * penalty, rel=1e-5)


def test_a_scale_multiplies_the_scores_inside_the_ranking_loss(tmp_path):
    world = random_world(2)
    experiment = prepare(world.write(tmp_path), "DRAGON", score_scale=0.25, reg_weight=0.3)
    triplets = experiment.random_triplets()
    users, items = dense_tables(experiment, world)
    ranking, penalty = experiment.losses(experiment.batch(triplets))
    expected = dense.plain_ranking(0.25 * users, items, triplets)
    assert ranking.item() == pytest.approx(expected, rel=1e-5)
    plain = prepare(world.write(tmp_path), "DRAGON", reg_weight=0.3)
    assert penalty.item() == plain.losses(plain.batch(triplets))[1].item()


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_scores_are_the_sum_over_modalities(tmp_path, scale):
    world = random_world(3)
    experiment = prepare(world.write(tmp_path), "DRAGON", score_scale=scale)
    users, items = dense_tables(experiment, world)
    expected = np.einsum("umd,imd->ui", users, items)
    assert_allclose(experiment.all_scores(), expected, rtol=1e-4, atol=1e-5)
