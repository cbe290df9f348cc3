from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import dense_latent as latent
import numpy as np
import pytest
import torch
from dense_inputs import dense_inputs
from numpy.testing import assert_allclose, assert_array_equal

from recbole_margo.testing import MISSING, Experiment, World, prepare, random_world

SIZES = latent.Sizes()
TAU = 0.2


def build(root: Path, world: World, **settings: Any) -> Experiment:
    """Return a small MGCN whose parameters, trained features among them, are all random."""
    settings = {"temperature": TAU, "contrastive_weight": 0.7, "reg_weight": 0.3, **settings}
    experiment = prepare(world.write(root), "MGCN", **settings)
    experiment.randomize()
    return experiment


def tables(inputs, parameters, sizes=SIZES) -> tuple[np.ndarray, np.ndarray]:
    behaviour, side = latent.mgcn(inputs, parameters, sizes)
    nodes = behaviour + side
    return nodes[: len(inputs.R)], nodes[len(inputs.R) :]


def dense_terms(inputs, parameters, triplets, tau=TAU) -> list[float]:
    """Return ranking, contrast and penalty before their weights."""
    behaviour, side = latent.mgcn(inputs, parameters, SIZES)
    users = np.array([user for user, _, _ in triplets])
    items = len(inputs.R) + np.array([positive for _, positive, _ in triplets])
    both = tables(inputs, parameters)
    return [
        latent.ranking(*both, triplets),
        latent.info_nce(side[items], behaviour[items], tau)
        + latent.info_nce(side[users], behaviour[users], tau),
        latent.penalty(*both, triplets),
    ]


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_scores_and_every_loss_term_equal_the_dense_formula(tmp_path, modalities, missing):
    world = random_world(modalities).without(MISSING[missing])
    experiment = build(tmp_path, world)
    inputs, parameters = dense_inputs(experiment, world), experiment.parameters()
    users, items = tables(inputs, parameters)
    triplets = experiment.random_triplets()

    assert_allclose(experiment.all_scores(), users @ items.T, rtol=1e-5, atol=2e-5)
    weighted = np.array([1, 0.7, 0.3]) * dense_terms(inputs, parameters, triplets)
    assert_allclose(experiment.loss_terms(triplets), weighted, rtol=1e-5)


@pytest.mark.parametrize(
    ("setting", "of_sizes"),
    [
        ({"item_neighbors": 1}, {"neighbors": 1}),
        ({"item_neighbors": 50}, {"neighbors": 50}),
        ({"item_graph_layers": 0}, {"item_layers": 0}),
        ({"item_graph_layers": 2}, {"item_layers": 2}),
        ({"interaction_layers": 0}, {"interaction_layers": 0}),
        ({"interaction_layers": 3}, {"interaction_layers": 3}),
        ({"train_features": False}, {}),
    ],
    ids=str,
)
def test_every_size_has_its_effect(tmp_path, setting, of_sizes):
    world = random_world(2).without(MISSING["some items miss one"])
    experiment = build(tmp_path, world, **setting)
    sizes = dataclasses.replace(SIZES, **of_sizes)
    users, items = tables(dense_inputs(experiment, world), experiment.parameters(), sizes)
    assert_allclose(experiment.all_scores(), users @ items.T, rtol=1e-5, atol=2e-5)


def test_the_side_of_two_modalities_is_a_third_of_common_and_specific_parts(tmp_path):
    """As published, with nothing missing: (s_v + s_t + K) / 3, by hand from the model's parts."""
    world = random_world(2)
    experiment = build(tmp_path, world)
    inputs, parameters = dense_inputs(experiment, world), experiment.parameters()
    E = latent.mgcn_contents(inputs, parameters, SIZES)
    alpha = latent.attention(E, np.ones(E.shape[:2], dtype=bool), parameters)
    K = alpha[:, :1] * E[:, 0] + alpha[:, 1:] * E[:, 1]
    behaviour, side = (part.detach().numpy() for part in experiment.model.behaviour_and_side())
    specific = sum(
        latent.gate(behaviour, parameters, f"preferences.{m}") * (E[:, m] - K) for m in range(2)
    )
    items = slice(22, None)  # users 0-20, then PAD
    assert_allclose(side[items], ((specific + K) / 3)[items], rtol=1e-4, atol=1e-5)
    assert_allclose(side[1:21], ((specific + K) / 3)[1:21], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tau", [0.1, 2.0])
def test_the_temperature_divides_every_cosine(tmp_path, tau):
    world = random_world(2)
    experiment = build(tmp_path, world, temperature=tau)
    triplets = experiment.random_triplets()
    inputs, parameters = dense_inputs(experiment, world), experiment.parameters()
    contrast = dense_terms(inputs, parameters, triplets, tau)[1]
    assert experiment.loss_terms(triplets)[1] == pytest.approx(0.7 * contrast, rel=1e-5)


def test_the_contrast_has_side_as_anchor_and_behaviour_as_candidate(tmp_path):
    """One pair has nothing to be told from; a repeated pair stands twice below the line."""
    experiment = build(tmp_path, random_world(2))
    assert experiment.loss_terms([(1, 2, 3)])[1] == pytest.approx(0, abs=1e-6)
    twice = experiment.loss_terms([(1, 2, 3), (1, 2, 4)])[1]
    assert twice == pytest.approx(0.7 * 2 * np.log(2), rel=1e-5)


def test_negative_items_take_no_part_in_the_contrast(tmp_path):
    experiment = build(tmp_path, random_world(2))
    one, other = (
        experiment.loss_terms([(1, 2, negative), (3, 4, negative)]) for negative in (5, 6)
    )
    assert one[1] == other[1]
    assert one[0] != other[0]


@pytest.mark.parametrize(
    "missing", ["nothing missing", "some items miss one", "an item misses all"]
)
def test_every_gradient_equals_the_differences_of_the_dense_loss(tmp_path, missing):
    world = random_world(2).without(MISSING[missing])
    experiment = build(tmp_path, world)
    inputs, triplets = dense_inputs(experiment, world), experiment.random_triplets()
    experiment.model.train()
    torch.stack(experiment.model.calculate_loss(experiment.batch(triplets))).sum().backward()
    parameters = experiment.parameters()
    random = np.random.default_rng(0)
    for name, parameter in experiment.model.named_parameters():
        direction = random.normal(size=parameter.shape)

        def along(t, name=name, direction=direction):
            values = {**parameters, name: parameters[name] + t * direction}
            return float(np.array([1, 0.7, 0.3]) @ dense_terms(inputs, values, triplets))

        expected = (along(1e-6) - along(-1e-6)) / 2e-6
        found = (parameter.grad.double().numpy() * direction).sum()
        assert found == pytest.approx(expected, rel=1e-3, abs=2e-5), name


def test_a_missing_item_is_untouched_by_its_features_row(tmp_path):
    """What stands in a row that no file gave reaches neither scores nor gradient."""
    world = random_world(2).without({"image": ("i1", "i4")})
    experiment = build(tmp_path, world)
    rows = [0, *experiment.item_ids(["i1", "i4"])]
    before = experiment.all_scores()
    with torch.no_grad():
        experiment.model.features[0][rows] = 100.0
    assert_array_equal(experiment.all_scores(), before)
    experiment.model.train()
    triplets = experiment.random_triplets()
    torch.stack(experiment.model.calculate_loss(experiment.batch(triplets))).sum().backward()
    assert not experiment.model.features[0].grad[rows].any()


def test_the_item_graphs_stay_those_of_the_features_at_the_start(tmp_path):
    world = random_world(2)
    experiment = build(tmp_path, world)
    inputs = dense_inputs(experiment, world)
    for m, graph in enumerate(experiment.model.item_graphs):
        S = latent.similar_items(inputs.features[m], inputs.mask[:, m], SIZES.neighbors)
        found = graph(torch.eye(len(S)))
        assert_allclose(found, latent.normalized_by_row_sums(S), rtol=1e-5, atol=1e-6)


# --- the start ------------------------------------------------------------------------------------


def test_tables_start_xavier_uniform_and_layers_as_torch_draws_them(tmp_path):
    world = random_world(2, users=300, items=250)
    parameters = prepare(world.write(tmp_path), "MGCN", embedding_size=64).parameters()
    for name, rows in (("user_embedding", 301), ("item_embedding", 251)):
        bound = np.sqrt(6 / (rows + 64))
        assert parameters[name].shape == (rows, 64)
        assert 0.999 * bound < np.abs(parameters[name]).max() <= bound * (1 + 1e-6)
        assert parameters[name].std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    fan_in = {"projections.0": 4, "projections.1": 5, "attention.query.0": 64}
    fan_in |= {f"{gate}.{m}.0": 64 for gate in ("purifiers", "preferences") for m in (0, 1)}
    for layer, width in fan_in.items():
        for part in ("weight", "bias"):
            largest = np.abs(parameters[f"{layer}.{part}"]).max()
            assert 0.9 / np.sqrt(width) < largest <= (1 + 1e-6) / np.sqrt(width)
    assert set(parameters) - {
        f"{name}.{part}" for name in fan_in for part in ("weight", "bias")
    } == {
        "user_embedding",
        "item_embedding",
        "feature_matrix_0",
        "feature_matrix_1",
        "attention.query.2.weight",
    }


def test_the_published_settings_are_the_defaults(tmp_path):
    experiment = prepare(random_world(2).write(tmp_path), "MGCN")
    chosen = experiment.model.hyperparameters
    assert (chosen.temperature, chosen.contrastive_weight, chosen.reg_weight) == (0.2, 0.01, 1e-4)
    assert (chosen.interaction_layers, chosen.item_graph_layers) == (2, 1)


def test_evaluation_is_deterministic(tmp_path):
    experiment = build(tmp_path, random_world(2))
    first = experiment.all_scores()
    experiment.model.train()
    assert_array_equal(experiment.all_scores(), first)
