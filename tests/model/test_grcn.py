from __future__ import annotations

import dense_refined as dense
import numpy as np
import pytest
import torch
from dense_inputs import dense_inputs
from numpy.testing import assert_allclose, assert_array_equal

from recbole_margo.testing import MISSING, SMALL, Experiment, World, prepare, random_world

WIDTH = SMALL["embedding_size"]
ROUTINGS = ("original", "paper")


def build(tmp_path, modalities=2, missing="nothing missing", **settings):
    """Return a world and GRCN on it, with parameters far from where they start."""
    world = random_world(modalities).without(MISSING[missing])
    experiment = prepare(world.write(tmp_path), "GRCN", **{"reg_weight": 0.3, **settings})
    experiment.randomize()
    return world, experiment


def dense_tables(experiment: Experiment, world: World, parameters=None):
    return dense.grcn(
        dense_inputs(experiment, world),
        experiment.parameters() if parameters is None else parameters,
        experiment.config["routing"],
        experiment.config["routing_iterations"],
    )


def dense_terms(experiment: Experiment, world: World, triplets, parameters=None):
    parameters = experiment.parameters() if parameters is None else parameters
    users, items = dense_tables(experiment, world, parameters)
    penalty = dense.grcn_penalty(parameters, triplets, len(world.modalities))
    return dense.ranking(users, items, triplets), 0.3 * penalty


def tables(experiment: Experiment) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        users, items = experiment.model.scoring_tables()
    return users.numpy(), items.numpy()


# --- the whole model ------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("routing", ROUTINGS)
def test_scores_and_every_loss_term_equal_the_dense_formula(tmp_path, routing, modalities, missing):
    world, experiment = build(tmp_path, modalities, missing, routing=routing)
    users, items = dense_tables(experiment, world)
    assert users.shape[1] == (1 + modalities) * WIDTH
    assert_allclose(experiment.all_scores(), users @ items.T, rtol=1e-5, atol=2e-5)

    triplets = experiment.random_triplets()
    experiment.model.train()
    terms = experiment.model.calculate_loss(experiment.batch(triplets))

    assert experiment.model.loss_names == ("recommendation", "regularization")
    expected = dense_terms(experiment, world, triplets)
    assert [term.item() for term in terms] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("routing", ROUTINGS)
def test_gradients_equal_finite_differences_of_the_dense_formula(
    tmp_path, double_precision, routing
):
    world, experiment = build(tmp_path, 3, "some items miss one", routing=routing)
    model = experiment.model.double()
    triplets = experiment.random_triplets(25)
    torch.stack(model.calculate_loss(experiment.batch(triplets))).sum().backward()

    parameters = experiment.parameters()
    random = np.random.default_rng(0)
    for name, parameter in model.named_parameters():
        for _ in range(2):
            # PAD's row gets no gradient and would test nothing.
            place = tuple(random.integers(min(1, size - 1), size) for size in parameter.shape)
            values = []
            for step in (1e-6, -1e-6):
                moved = {key: value.copy() for key, value in parameters.items()}
                moved[name][place] += step
                values.append(sum(dense_terms(experiment, world, triplets, moved)))
            expected = (values[0] - values[1]) / 2e-6
            found = parameter.grad[place].item()
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-8), (name, place)


# --- routing --------------------------------------------------------------------------------------


def test_original_routing_leaves_the_preferences_as_they_are_whatever_its_iterations(tmp_path):
    _, experiment = build(tmp_path / "three", routing_iterations=3)
    _, without = build(tmp_path / "none", routing_iterations=0)
    _, of_the_paper = build(tmp_path / "paper", routing="paper", routing_iterations=0)
    for other in (without, of_the_paper):
        other.model.load_state_dict(experiment.model.state_dict())
        for found, expected in zip(tables(other), tables(experiment), strict=True):
            assert_array_equal(found, expected)


@pytest.mark.parametrize("iterations", [1, 2])
def test_routing_of_the_paper_runs_as_often_as_it_says(tmp_path, iterations):
    world, experiment = build(tmp_path, routing="paper", routing_iterations=iterations)
    for found, expected in zip(tables(experiment), dense_tables(experiment, world), strict=True):
        assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_two_routings_differ(tmp_path):
    _, experiment = build(tmp_path / "one")
    _, of_the_paper = build(tmp_path / "other", routing="paper")
    of_the_paper.model.load_state_dict(experiment.model.state_dict())
    assert np.abs(tables(experiment)[0] - tables(of_the_paper)[0])[1:].max(axis=1).min() > 0.01


# --- what weighs an edge --------------------------------------------------------------------------


def ids_alone(experiment: Experiment) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids' tables as they are where nothing arrives."""
    parameters = experiment.parameters()
    return tuple(
        dense.rows_of_length_one(parameters[name]) for name in ("user_embedding", "item_embedding")
    )


@pytest.mark.parametrize("silent", ["user", "item"])
def test_the_confidence_is_the_senders(tmp_path, silent):
    _, experiment = build(tmp_path)
    heard = "item" if silent == "user" else "user"
    with torch.no_grad():
        getattr(experiment.model, f"{silent}_confidence").fill_(-1)
        getattr(experiment.model, f"{heard}_confidence").fill_(1)
    changes = {
        name: np.abs(found[:, :WIDTH] - expected)[1:].max(axis=1)
        for name, found, expected in zip(
            ("user", "item"), tables(experiment), ids_alone(experiment), strict=True
        )
    }
    # Those who hear only silent senders keep their ids; the others hear one step, and no more.
    assert changes[heard].max() < 1e-6
    assert changes[silent].min() > 1e-3


def test_an_edge_without_confidence_in_any_modality_is_pruned(tmp_path):
    _, experiment = build(tmp_path)
    with torch.no_grad():
        experiment.model.user_confidence.uniform_(-1, 0)
        experiment.model.item_confidence.uniform_(-1, 0)
    for found, expected in zip(tables(experiment), ids_alone(experiment), strict=True):
        assert_allclose(found[:, :WIDTH], expected, atol=1e-6)


def test_one_confident_modality_is_enough_to_keep_an_edge(tmp_path):
    _, experiment = build(tmp_path)
    with torch.no_grad():
        for table in (experiment.model.user_confidence, experiment.model.item_confidence):
            table[:, 0], table[:, 1] = -1, 0.5
    for found, expected in zip(tables(experiment), ids_alone(experiment), strict=True):
        assert np.abs(found[1:, :WIDTH] - expected[1:]).max(axis=1).min() > 1e-3


def test_the_attention_of_every_receiver_sums_to_one(tmp_path):
    """Equal preferences and contents let every message be the same vector."""
    _, experiment = build(tmp_path)
    with torch.no_grad():
        for m in range(2):
            experiment.model.user_preference[m].fill_(1)
            experiment.model.projections[m].weight.zero_()
            experiment.model.projections[m].bias.fill_(1)
    for table in tables(experiment):
        # x + sum_j alpha_j x = 2 x, for everybody who has an edge.
        assert_allclose(table[1:, WIDTH:], 2 / np.sqrt(WIDTH), rtol=1e-5)


# --- beginnings -----------------------------------------------------------------------------------


def test_tables_and_projections_start_as_published(tmp_path):
    world = random_world(2, users=300, items=60)
    model = prepare(world.write(tmp_path), "GRCN", embedding_size=64).model
    users, items = 301, 61

    def std(table):
        return table.detach().double().std().item()

    for table in model.user_preference:
        assert std(table) == pytest.approx(np.sqrt(2 / (users + 64)), rel=0.03)
    # Ids and confidences are one table of users and items each, so the spread is the same in both.
    of_ids, of_confidences = (np.sqrt(2 / (users + items + columns)) for columns in (64, 2))
    for kind in ("user", "item"):
        assert std(getattr(model, f"{kind}_embedding")) == pytest.approx(of_ids, rel=0.05)
        confidence = getattr(model, f"{kind}_confidence")
        assert std(confidence) == pytest.approx(of_confidences, rel=0.2)
    for width, projection in zip((4, 5), model.projections, strict=True):
        assert std(projection.weight) == pytest.approx(np.sqrt(2 / (width + 64)), rel=0.1)
        bound = 1 / np.sqrt(width)
        assert 0.9 * bound < projection.bias.abs().max().item() < bound


def test_normal_draws_are_not_bounded_as_uniform_ones_are(tmp_path):
    world = random_world(2, users=300, items=60)
    model = prepare(world.write(tmp_path), "GRCN", embedding_size=64).model
    for table in (*model.user_preference, model.user_embedding, model.item_embedding):
        assert (table.abs().max() / table.std()).item() > 2.5  # sqrt(3) for a uniform draw


# --- evaluation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("routing", ROUTINGS)
def test_evaluation_is_deterministic_and_sees_the_current_parameters(tmp_path, routing):
    world, experiment = build(tmp_path, routing=routing)
    experiment.model.train()
    experiment.model.calculate_loss(experiment.batch(experiment.random_triplets()))
    before = experiment.all_scores()
    assert_array_equal(experiment.all_scores(), before)
    with torch.no_grad():
        experiment.model.item_embedding.mul_(-1)
    users, items = dense_tables(experiment, world)
    assert_allclose(experiment.all_scores(), users @ items.T, rtol=1e-5, atol=2e-5)
    assert np.abs(experiment.all_scores() - before).max() > 0.1
