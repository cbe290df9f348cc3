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

from recbole_margo.nn import losses as contrastive
from recbole_margo.testing import MISSING, Experiment, World, prepare, random_world

SIZES = latent.Sizes()
TAU = 0.5


def build(root: Path, world: World, **settings: Any) -> Experiment:
    """Return a small MICRO whose parameters, trained features among them, are all random."""
    settings = {"temperature": TAU, "contrastive_weight": 0.7, "reg_weight": 0.3, **settings}
    experiment = prepare(world.write(root), "MICRO", **settings)
    experiment.randomize()
    return experiment


def anchors_of(experiment: Experiment, triplets, mode: str) -> list[int]:
    """Return the anchors of the contrast: never PAD."""
    if mode == "batch":
        return [positive for _, positive, _ in triplets]
    return list(range(1, experiment.dataset.item_num))


def dense_terms(inputs, parameters, triplets, anchors, tau=TAU, sizes=SIZES, graphs=None):
    """Return ranking, contrast and penalty before their weights."""
    tables = latent.micro(inputs, parameters, sizes, graphs)
    return (
        latent.ranking(tables.users, tables.items, triplets),
        latent.micro_contrast(tables.E, tables.h, inputs.mask, anchors, tau),
        latent.penalty(tables.users, tables.items, triplets),
    )


@pytest.mark.parametrize("mode", ["all", "batch"])
@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_scores_and_every_loss_term_equal_the_dense_formula(tmp_path, modalities, missing, mode):
    world = random_world(modalities).without(MISSING[missing])
    experiment = build(tmp_path, world, contrastive_items=mode)
    inputs, parameters = dense_inputs(experiment, world), experiment.parameters()
    tables = latent.micro(inputs, parameters, SIZES)
    triplets = experiment.random_triplets()
    terms = dense_terms(inputs, parameters, triplets, anchors_of(experiment, triplets, mode))

    expected = tables.users @ tables.items.T
    assert_allclose(experiment.all_scores(), expected, rtol=1e-5, atol=2e-5)
    weighted = np.array([1, 0.7, 0.3]) * terms
    assert_allclose(experiment.loss_terms(triplets), weighted, rtol=1e-5)


@pytest.mark.parametrize(
    ("setting", "of_sizes"),
    [
        ({"fixed_graph_share": 0.0}, {"fixed_share": 0.0}),
        ({"fixed_graph_share": 1.0}, {"fixed_share": 1.0}),
        ({"item_neighbors": 2}, {"neighbors": 2}),
        ({"item_graph_layers": 0}, {"item_layers": 0}),
        ({"item_graph_layers": 2}, {"item_layers": 2}),
        ({"interaction_layers": 3}, {"interaction_layers": 3}),
        ({"train_features": False}, {}),
    ],
    ids=str,
)
def test_every_size_has_its_effect(tmp_path, setting, of_sizes):
    world = random_world(2).without(MISSING["some items miss one"])
    experiment = build(tmp_path, world, **setting)
    sizes = dataclasses.replace(SIZES, **of_sizes)
    tables = latent.micro(dense_inputs(experiment, world), experiment.parameters(), sizes)
    expected = tables.users @ tables.items.T
    assert_allclose(experiment.all_scores(), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("tau", [0.1, 2.0])
def test_the_temperature_divides_every_cosine(tmp_path, tau):
    world = random_world(2)
    experiment = build(tmp_path, world, temperature=tau)
    triplets = experiment.random_triplets()
    anchors = anchors_of(experiment, triplets, "all")
    inputs, parameters = dense_inputs(experiment, world), experiment.parameters()
    contrast = dense_terms(inputs, parameters, triplets, anchors, tau)[1]
    assert experiment.loss_terms(triplets)[1] == pytest.approx(0.7 * contrast, rel=1e-5)


@pytest.mark.parametrize("mode", ["all", "batch"])
def test_every_gradient_equals_the_differences_of_the_dense_loss(tmp_path, mode):
    world = random_world(2).without(MISSING["some items miss one"])
    experiment = build(tmp_path, world, contrastive_items=mode, fixed_graph_share=0.4)
    inputs, triplets = dense_inputs(experiment, world), experiment.random_triplets()
    anchors = anchors_of(experiment, triplets, mode)
    sizes = dataclasses.replace(SIZES, fixed_share=0.4)

    def loss(parameters):
        terms = dense_terms(inputs, parameters, triplets, anchors, sizes=sizes)
        return float(np.array([1, 0.7, 0.3]) @ terms)

    experiment.model.train()
    torch.stack(experiment.model.calculate_loss(experiment.batch(triplets))).sum().backward()
    parameters = experiment.parameters()
    random = np.random.default_rng(0)
    for name, parameter in experiment.model.named_parameters():
        for _ in range(4):
            direction = random.normal(size=parameter.shape)

            def along(t, name=name, direction=direction):
                return loss({**parameters, name: parameters[name] + t * direction})

            expected = (along(1e-6) - along(-1e-6)) / 2e-6
            found = (parameter.grad.double().numpy() * direction).sum()
            assert found == pytest.approx(expected, rel=1e-3, abs=2e-5), name


def test_the_contrast_alone_has_the_gradient_of_its_dense_form(tmp_path, monkeypatch):
    """In blocks of one anchor, entry by entry."""
    monkeypatch.setattr(contrastive, "BLOCK_CELLS", 1)
    world = random_world(2).without(MISSING["some items miss one"])
    experiment = build(tmp_path, world)
    inputs, triplets = dense_inputs(experiment, world), experiment.random_triplets()
    anchors = anchors_of(experiment, triplets, "all")
    parameters = experiment.parameters()
    graphs = latent.micro_graphs(inputs, parameters, SIZES)

    def contrast(values):
        tables = latent.micro(inputs, values, SIZES, graphs)
        return 0.7 * latent.micro_contrast(tables.E, tables.h, inputs.mask, anchors, TAU)

    experiment.model.train()
    experiment.model.calculate_loss(experiment.batch(triplets))[1].backward()
    for name in ("item_embedding", "attention.query.2.weight"):
        expected = latent.numeric_gradient(contrast, parameters, name)
        found = dict(experiment.model.named_parameters())[name].grad
        assert_allclose(found, expected, rtol=1e-3, atol=2e-6, err_msg=name)


def with_pad_row(model: Any, value: float) -> None:
    """Set whatever the trained tables hold for PAD."""
    with torch.no_grad():
        model.item_embedding[0] = value
        model.user_embedding[0] = value
        for matrix in model.features:
            matrix[0] = value


@pytest.mark.parametrize("mode", ["all", "batch"])
def test_pad_takes_no_part_in_any_term(tmp_path, mode):
    experiment = build(tmp_path, random_world(2), contrastive_items=mode)
    triplets = experiment.random_triplets()
    with_pad_row(experiment.model, 0.0)
    before, scores = experiment.loss_terms(triplets), experiment.all_scores()
    with_pad_row(experiment.model, 100.0)
    assert experiment.loss_terms(triplets) == before
    assert_array_equal(experiment.all_scores()[1:, 1:], scores[1:, 1:])

    experiment.model.train()
    torch.stack(experiment.model.calculate_loss(experiment.batch(triplets))).sum().backward()
    assert not experiment.model.item_embedding.grad[0].any()
    assert not any(matrix.grad[0].any() for matrix in experiment.model.features)


def test_anchors_of_a_batch_count_as_often_as_they_occur_and_all_items_once(tmp_path):
    world = random_world(2)
    triplets = [(1, 3, 2), (2, 3, 4), (5, 7, 8)]
    for mode, anchors in (("batch", [3, 3, 7]), ("all", list(range(1, 16)))):
        experiment = build(tmp_path / mode, world, contrastive_items=mode)
        inputs, parameters = dense_inputs(experiment, world), experiment.parameters()
        expected = dense_terms(inputs, parameters, triplets, anchors)[1]
        assert experiment.loss_terms(triplets)[1] == pytest.approx(0.7 * expected, rel=1e-5)


# --- the schedule of the graphs -------------------------------------------------------------------


@pytest.mark.parametrize("refresh", ["epoch", "batch"])
def test_which_batches_train_the_graphs(tmp_path, refresh):
    experiment = build(tmp_path, random_world(2), graph_refresh=refresh)
    model = experiment.model
    model.trainer_announces_epochs = True
    for epoch in range(2):
        model.begin_epoch(epoch)
        model.train()
        for batch in range(3):
            model.zero_grad()
            triplets = experiment.random_triplets(seed=batch)
            torch.stack(model.calculate_loss(experiment.batch(triplets))).sum().backward()
            for name, parameter in model.named_parameters():
                of_graph = name.startswith(("feature_matrix_", "item_graphs.projections."))
                has_gradient = parameter.grad is not None and bool(parameter.grad.any())
                reached = batch == 0 or refresh == "batch" or not of_graph
                assert has_gradient is reached, (epoch, batch, name)


@pytest.mark.parametrize("refresh", ["epoch", "batch"])
def test_training_uses_the_graphs_of_the_refresh_and_evaluation_those_of_now(tmp_path, refresh):
    world = random_world(2)
    experiment = build(tmp_path, world, graph_refresh=refresh)
    inputs, model = dense_inputs(experiment, world), experiment.model
    triplets = experiment.random_triplets()
    anchors = anchors_of(experiment, triplets, "all")
    model.trainer_announces_epochs = True
    model.begin_epoch(0)
    at_refresh = latent.micro_graphs(inputs, experiment.parameters(), SIZES)
    experiment.loss_terms(triplets)
    experiment.randomize()
    parameters = experiment.parameters()
    used = at_refresh if refresh == "epoch" else latent.micro_graphs(inputs, parameters, SIZES)
    terms = dense_terms(inputs, parameters, triplets, anchors, graphs=used)
    now = latent.micro(inputs, parameters, SIZES)

    for _ in range(2):
        assert_allclose(experiment.loss_terms(triplets), [1, 0.7, 0.3] * np.array(terms), 1e-5)
        expected = now.users @ now.items.T
        assert_allclose(experiment.all_scores(), expected, rtol=1e-5, atol=2e-5)


# --- the start ------------------------------------------------------------------------------------


def test_tables_start_xavier_uniform_and_layers_as_torch_draws_them(tmp_path):
    world = random_world(2, users=300, items=250)
    parameters = prepare(world.write(tmp_path), "MICRO", embedding_size=64).parameters()
    for name, rows in (("user_embedding", 301), ("item_embedding", 251)):
        bound = np.sqrt(6 / (rows + 64))
        assert parameters[name].shape == (rows, 64)
        assert 0.999 * bound < np.abs(parameters[name]).max() <= bound * (1 + 1e-6)
        assert parameters[name].std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    fan_in = {
        "item_graphs.projections.0": 4,
        "item_graphs.projections.1": 5,
        "attention.query.0": 64,
    }
    for layer, width in fan_in.items():
        for part in ("weight", "bias"):
            largest = np.abs(parameters[f"{layer}.{part}"]).max()
            assert 0.9 / np.sqrt(width) < largest <= (1 + 1e-6) / np.sqrt(width)
    assert 0.9 / 8 < np.abs(parameters["attention.query.2.weight"]).max() <= (1 + 1e-6) / 8
    assert "attention.query.2.bias" not in parameters


def test_the_published_settings_are_the_defaults(tmp_path):
    experiment = prepare(random_world(2).write(tmp_path), "MICRO")
    chosen = experiment.model.hyperparameters
    assert (chosen.temperature, chosen.contrastive_weight) == (0.5, 0.03)
    assert (chosen.reg_weight, chosen.fixed_graph_share) == (1e-5, 0.9)
    assert (chosen.contrastive_items, chosen.graph_refresh) == ("all", "epoch")


def test_evaluation_is_deterministic(tmp_path):
    experiment = build(tmp_path, random_world(2))
    first = experiment.all_scores()
    experiment.model.train()
    assert_array_equal(experiment.all_scores(), first)
