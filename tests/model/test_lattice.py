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
BATCHES = 5  # 80 training rows in batches of 16


def build(root: Path, world: World, **settings: Any) -> Experiment:
    """Return a small LATTICE whose parameters, trained features among them, are all random."""
    experiment = prepare(world.write(root), "LATTICE", **settings)
    experiment.randomize()
    return experiment


def of_the_graph(model: Any) -> list[str]:
    """Return the names of the parameters that build the item graph."""
    parts = ("feature_matrix_", "item_graphs.projections.", "modality_logits")
    return [name for name, _ in model.named_parameters() if name.startswith(parts)]


def scores(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    return users @ items.T


def gradients(experiment: Experiment, triplets) -> dict[str, torch.Tensor | None]:
    experiment.model.zero_grad()
    torch.stack(experiment.model.calculate_loss(experiment.batch(triplets))).sum().backward()
    return {name: value.grad for name, value in experiment.model.named_parameters()}


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_scores_and_every_loss_term_equal_the_dense_formula(tmp_path, modalities, missing):
    world = random_world(modalities).without(MISSING[missing])
    experiment = build(tmp_path, world, reg_weight=0.3)
    inputs, parameters = dense_inputs(experiment, world), experiment.parameters()
    users, items = latent.lattice(inputs, parameters, SIZES)
    triplets = experiment.random_triplets()

    assert_allclose(experiment.all_scores(), scores(users, items), rtol=1e-5, atol=2e-5)
    experiment.model.train()
    ranking, penalty = experiment.model.calculate_loss(experiment.batch(triplets))

    assert ranking.item() == pytest.approx(latent.ranking(users, items, triplets), rel=1e-5)
    assert penalty.item() == pytest.approx(0.3 * latent.penalty(users, items, triplets), rel=1e-5)


@pytest.mark.parametrize(
    ("setting", "of_sizes"),
    [
        ({"fixed_graph_share": 0.0}, {"fixed_share": 0.0}),
        ({"fixed_graph_share": 1.0}, {"fixed_share": 1.0}),
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
    users, items = latent.lattice(dense_inputs(experiment, world), experiment.parameters(), sizes)
    assert_allclose(experiment.all_scores(), scores(users, items), rtol=1e-5, atol=2e-5)


# The smallest gap between the cosines of two neighbours is far wider than the step.
@pytest.mark.parametrize("missing", ["some items miss one", "no item has two"])
def test_every_gradient_equals_the_differences_of_the_dense_loss(tmp_path, missing):
    world = random_world(2).without(MISSING[missing])
    experiment = build(tmp_path, world, reg_weight=0.3, fixed_graph_share=0.4)
    inputs, triplets = dense_inputs(experiment, world), experiment.random_triplets()
    sizes = dataclasses.replace(SIZES, fixed_share=0.4)

    def loss(parameters):
        users, items = latent.lattice(inputs, parameters, sizes)
        penalty = latent.penalty(users, items, triplets)
        return latent.ranking(users, items, triplets) + 0.3 * penalty

    experiment.model.train()
    found = gradients(experiment, triplets)
    parameters = experiment.parameters()
    for name in [*of_the_graph(experiment.model), "item_embedding", "user_embedding"]:
        expected = latent.numeric_gradient(loss, parameters, name)
        assert np.abs(expected).max() > 1e-4
        assert_allclose(found[name], expected, rtol=1e-3, atol=2e-6, err_msg=name)


# --- the schedule of the graph --------------------------------------------------------------------


@pytest.mark.parametrize("refresh", ["epoch", "batch"])
def test_which_batches_train_the_graph(tmp_path, refresh):
    experiment = build(tmp_path, random_world(2), graph_refresh=refresh)
    names = of_the_graph(experiment.model)
    assert len(names) == 2 + 4 + 1
    others = {name for name, _ in experiment.model.named_parameters()} - set(names)
    assert others == {"user_embedding", "item_embedding"}
    experiment.model.trainer_announces_epochs = True
    for epoch in range(3):
        experiment.model.begin_epoch(epoch)
        experiment.model.train()
        for batch in range(4):
            found = gradients(experiment, experiment.random_triplets(seed=batch))
            reached = batch == 0 or refresh == "batch"
            for name in names:
                has_gradient = found[name] is not None and bool(found[name].any())
                assert has_gradient is reached, (epoch, batch, name)
            assert all(found[name].any() for name in others)


@pytest.mark.parametrize("refresh", ["epoch", "batch"])
def test_training_uses_the_graph_of_the_refresh_and_evaluation_that_of_now(tmp_path, refresh):
    world = random_world(2)
    experiment = build(tmp_path, world, graph_refresh=refresh)
    inputs, model = dense_inputs(experiment, world), experiment.model
    triplets = experiment.random_triplets()
    model.trainer_announces_epochs = True
    model.begin_epoch(0)
    model.train()
    at_refresh = latent.lattice_graph(inputs, experiment.parameters(), SIZES)
    model.calculate_loss(experiment.batch(triplets))
    experiment.randomize()
    parameters = experiment.parameters()
    now = latent.lattice_graph(inputs, parameters, SIZES)
    assert np.abs(now - at_refresh).max() > 0.05

    used = now if refresh == "batch" else at_refresh
    expected = latent.ranking(*latent.lattice(inputs, parameters, SIZES, used), triplets)
    for _ in range(2):
        assert model.calculate_loss(experiment.batch(triplets))[0].item() == pytest.approx(
            expected, rel=1e-5
        )
        of_now = scores(*latent.lattice(inputs, parameters, SIZES, now))
        assert_allclose(experiment.all_scores(), of_now, rtol=1e-5, atol=2e-5)
        model.train()


def test_graphs_that_are_kept_have_the_same_value_as_new_ones(tmp_path):
    experiment = build(tmp_path, random_world(2))
    batch = experiment.batch(experiment.random_triplets())
    experiment.model.train()
    first, second = (experiment.model.calculate_loss(batch) for _ in range(2))
    assert_array_equal(torch.stack(first).detach(), torch.stack(second).detach())


def test_the_raw_features_graph_stays_that_of_the_start(tmp_path):
    """With the raw features' graph alone, what the features become has no effect."""
    world = random_world(2)
    experiment = build(tmp_path, world, fixed_graph_share=1.0)
    before = experiment.all_scores()
    with torch.no_grad():
        for matrix in experiment.model.features:
            matrix.normal_()
    assert_array_equal(experiment.all_scores(), before)


def moved_by_step(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> dict[str, list[list[bool]]]:
    """Fit, and return for each parameter [epochs, batches] whether the optimiser moved it."""
    moved: dict[str, list[bool]] = {name: [] for name, _ in experiment.model.named_parameters()}
    step = torch.optim.Adam.step

    def watching(optimizer: Any, *arguments: Any, **others: Any) -> Any:
        before = experiment.parameters()
        result = step(optimizer, *arguments, **others)
        for name, value in experiment.parameters().items():
            moved[name].append(bool((value != before[name]).any()))
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", watching)
    experiment.trainer().fit(*experiment.loaders[:2], verbose=False, saved=False)
    return {name: np.reshape(each, (-1, BATCHES)).tolist() for name, each in moved.items()}


@pytest.mark.parametrize("model", ["LATTICE", "MICRO"])
@pytest.mark.parametrize(
    ("settings", "of_an_epoch"),
    [
        ({"momentum_between_refreshes": True}, [True] * BATCHES),
        ({"momentum_between_refreshes": False}, [True] + [False] * (BATCHES - 1)),
        ({"momentum_between_refreshes": False, "graph_refresh": "batch"}, [True] * BATCHES),
        ({"momentum_between_refreshes": True, "graph_refresh": "batch"}, [True] * BATCHES),
    ],
    ids=str,
)
def test_which_steps_move_what_builds_the_graph(
    tmp_path, monkeypatch, model, settings, of_an_epoch
):
    experiment = prepare(random_world(2).write(tmp_path), model, epochs=3, **settings)
    names = of_the_graph(experiment.model)
    moved = moved_by_step(experiment, monkeypatch)
    for name, steps in moved.items():
        expected = of_an_epoch if name in names else [True] * BATCHES
        assert steps == [expected] * 3, name


def test_momentum_moves_as_adam_does_with_a_gradient_of_zero(tmp_path, monkeypatch):
    """Two steps by hand from m_1 = 0.1 g, v_1 = 0.001 g^2, without another gradient."""
    experiment = prepare(random_world(2).write(tmp_path), "LATTICE", epochs=1)
    values = [experiment.parameters()["feature_matrix_0"]]
    step = torch.optim.Adam.step
    seen = []

    def watching(optimizer: Any, *arguments: Any, **others: Any) -> Any:
        seen.append(experiment.model.feature_matrix_0.grad.clone())
        result = step(optimizer, *arguments, **others)
        values.append(experiment.parameters()["feature_matrix_0"])
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", watching)
    experiment.trainer().fit(*experiment.loaders[:2], verbose=False, saved=False)
    g = seen[0].double().numpy()
    assert not torch.stack(seen[1:]).any()
    expected, m, v = values[0], np.zeros_like(g), np.zeros_like(g)
    for number in range(1, BATCHES + 1):
        gradient = g if number == 1 else 0
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        unbiased = np.sqrt(v / (1 - 0.999**number)) + 1e-8
        expected = expected - 0.01 * m / (1 - 0.9**number) / unbiased
        assert_allclose(values[number], expected, rtol=1e-5, atol=1e-6)


# --- the start ------------------------------------------------------------------------------------


def test_tables_start_xavier_uniform_and_projections_as_torch_draws_them(tmp_path):
    world = random_world(2, users=300, items=250)
    parameters = prepare(world.write(tmp_path), "LATTICE", embedding_size=64).parameters()
    for name, rows in (("user_embedding", 301), ("item_embedding", 251)):
        bound = np.sqrt(6 / (rows + 64))
        assert parameters[name].shape == (rows, 64)
        assert 0.999 * bound < np.abs(parameters[name]).max() <= bound * (1 + 1e-6)
        assert parameters[name].std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    for m, width in enumerate((4, 5)):
        for part in ("weight", "bias"):
            values = parameters[f"item_graphs.projections.{m}.{part}"]
            assert 0.9 / np.sqrt(width) < np.abs(values).max() <= 1 / np.sqrt(width) * (1 + 1e-6)


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_modalities_start_with_equal_weights_and_features_as_they_are(tmp_path, modalities):
    world = random_world(modalities)
    experiment = prepare(world.write(tmp_path), "LATTICE")
    parameters, inputs = experiment.parameters(), dense_inputs(experiment, world)
    assert len(set(parameters["modality_logits"])) == 1
    for m, F in enumerate(inputs.features):
        assert_array_equal(parameters[f"feature_matrix_{m}"], F)


def test_features_that_are_not_trained_are_no_parameters(tmp_path):
    experiment = prepare(random_world(2).write(tmp_path), "LATTICE", train_features=False)
    assert not any(name.startswith("feature_") for name in experiment.parameters())


def test_evaluation_is_deterministic(tmp_path):
    experiment = build(tmp_path, random_world(2))
    first = experiment.all_scores()
    experiment.model.train()
    assert_array_equal(experiment.all_scores(), first)
