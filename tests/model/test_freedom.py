from __future__ import annotations

from fractions import Fraction

import dense_collaborative as dense
import dense_formulas
import numpy as np
import pytest
import torch
from dense_inputs import dense_inputs
from dense_models import GRAPH_WEIGHTS
from numpy.testing import assert_allclose, assert_array_equal

from recbole_margo.testing import MISSING, SMALL, Experiment, prepare, random_world

WEIGHT = 0.6


def build(tmp_path, modalities=2, missing="nothing missing", **settings):
    """Return the dense inputs of a world and FREEDOM on it, every parameter drawn anew."""
    world = random_world(modalities).without(MISSING[missing])
    settings = {"reg_weight": WEIGHT, "dropped_interactions": 0.5, **settings}
    experiment = prepare(world.write(tmp_path), "FREEDOM", **settings)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in experiment.model.parameters():
            parameter.normal_(generator=generator)
    experiment.model.train()
    return dense_inputs(experiment, world), experiment


def training_adjacency(experiment: Experiment) -> np.ndarray:
    """Return the matrix [U + I, U + I] that the model trains on now."""
    users, items = experiment.dataset.user_num, experiment.dataset.item_num
    nodes = torch.eye(users + items)
    # The sum of the first two layers without the first.
    joined = torch.cat(
        experiment.model.training_graph.sum_of_layers(nodes[:users], nodes[users:], 1)
    )
    return (joined - nodes).numpy()


def kept_interactions(experiment: Experiment) -> np.ndarray:
    """Return the sample [U, I] that the model trains on now."""
    users = experiment.dataset.user_num
    return (training_adjacency(experiment)[:users, users:] > 0).astype(float)


def tables(inputs, experiment: Experiment, kept: np.ndarray, layers=2, item_layers=1):
    weights = GRAPH_WEIGHTS[len(inputs.features)]
    parameters = experiment.parameters()
    return dense.freedom(
        inputs, parameters, kept, layers, item_layers, weights, SMALL["item_neighbors"]
    )


def losses(experiment: Experiment, triplets) -> list[float]:
    return [term.item() for term in experiment.model.calculate_loss(experiment.batch(triplets))]


def assert_equals_dense(inputs, experiment: Experiment, layers=2, item_layers=1) -> None:
    triplets = experiment.random_triplets()
    of_sample = tables(inputs, experiment, kept_interactions(experiment), layers, item_layers)
    parameters = experiment.parameters()
    expected = dense.freedom_terms(inputs, parameters, of_sample, triplets, WEIGHT)
    assert losses(experiment, triplets) == pytest.approx(expected, rel=1e-5)
    users, items = tables(inputs, experiment, inputs.R, layers, item_layers)
    assert_allclose(experiment.all_scores(), users @ items.T, rtol=1e-5, atol=1e-5)


# --- formulas -------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_scores_and_losses_equal_the_dense_formula(tmp_path, modalities, missing):
    assert_equals_dense(*build(tmp_path, modalities, missing))


@pytest.mark.parametrize("train_features", [True, False])
@pytest.mark.parametrize(("layers", "item_layers"), [(0, 1), (3, 0), (1, 2)])
def test_depths_of_both_graphs_are_free(tmp_path, layers, item_layers, train_features):
    inputs, experiment = build(
        tmp_path,
        missing="some items miss one",
        interaction_layers=layers,
        item_graph_layers=item_layers,
        train_features=train_features,
    )
    assert_equals_dense(inputs, experiment, layers, item_layers)


def test_item_graph_does_not_follow_trained_features(tmp_path):
    inputs, experiment = build(tmp_path, train_features=True)
    items = torch.eye(experiment.dataset.item_num)
    weights, k = GRAPH_WEIGHTS[2], SMALL["item_neighbors"]
    expected = dense_formulas.item_graph(inputs.features, inputs.mask, weights, k)
    fit_one_epoch(experiment)
    assert_allclose(experiment.model.item_graph(items).numpy(), expected, atol=1e-7)
    assert (experiment.model.features[0].detach().numpy() != inputs.features[0]).any()


def test_start_is_xavier_uniform_with_projections_without_bias(tmp_path):
    world = random_world(2, users=300, items=200)
    parameters = prepare(
        world.write(tmp_path), "FREEDOM", embedding_size=32, train_features=False
    ).parameters()
    assert set(parameters) == {
        "user_embedding",
        "item_embedding",
        "projections.0.weight",
        "projections.1.weight",
    }
    for name in ("user_embedding", "item_embedding"):
        bound = np.sqrt(6 / sum(parameters[name].shape))
        assert 0.99 * bound < abs(parameters[name]).max() <= bound
        assert parameters[name].std() == pytest.approx(bound / np.sqrt(3), rel=0.03)


# --- the sample of an epoch -----------------------------------------------------------------------


def fit_one_epoch(experiment: Experiment) -> None:
    trainer = experiment.trainer()
    trainer.epochs = 1
    trainer.fit(*experiment.loaders[:2], verbose=False, saved=False)


@pytest.mark.parametrize("rho", [0.0, 0.33, 0.8, 0.9])
def test_an_epoch_keeps_the_floor_of_the_share_and_normalises_by_its_own_degrees(tmp_path, rho):
    inputs, experiment = build(tmp_path, dropped_interactions=rho)
    kept = kept_interactions(experiment)
    assert kept.sum() == int(80 * (1 - Fraction(str(rho))))
    assert (kept <= inputs.R).all()
    expected = dense_formulas.symmetric_adjacency(kept)
    assert_allclose(training_adjacency(experiment), expected, rtol=1e-6)


def test_the_seed_and_the_epoch_decide_the_sample(tmp_path):
    samples = {}
    for seed in (3, 4):
        _, experiment = build(tmp_path / str(seed), seed=seed)
        for epoch in (0, 1, 2):
            torch.manual_seed(epoch)
            np.random.seed(epoch)
            experiment.model.begin_epoch(epoch)
            samples[seed, epoch] = kept_interactions(experiment)
    _, again = build(tmp_path / "again", seed=3)
    for epoch in (2, 0, 1):
        again.model.begin_epoch(epoch)
        assert_array_equal(kept_interactions(again), samples[3, epoch])
    different = {sample.tobytes() for sample in samples.values()}
    assert len(different) == len(samples)


def test_drawing_leaves_the_global_random_numbers_alone(tmp_path):
    _, experiment = build(tmp_path)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    experiment.model.begin_epoch(5)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert_array_equal(np.random.get_state()[1], numpy_state)


def test_scores_use_all_interactions_even_in_training_mode(tmp_path):
    inputs, experiment = build(tmp_path, dropped_interactions=0.9)
    users, items = tables(inputs, experiment, inputs.R)
    assert experiment.model.training
    assert_allclose(experiment.scores_now(), users @ items.T, rtol=1e-5, atol=1e-5)
    assert_array_equal(experiment.all_scores(), experiment.all_scores())


def recording(experiment: Experiment, monkeypatch, stop_after: int | None = None):
    """Record the sample behind every batch; optionally interrupt after some batches."""
    seen, original = [], experiment.model.calculate_loss

    def calculate_loss(interaction):
        if len(seen) == stop_after:
            raise KeyboardInterrupt
        seen.append(kept_interactions(experiment).tobytes())
        return original(interaction)

    monkeypatch.setattr(experiment.model, "calculate_loss", calculate_loss)
    return seen


def test_a_resumed_run_trains_on_the_samples_of_its_epochs(tmp_path, monkeypatch):
    root = random_world().write(tmp_path)
    batches = 5  # 80 training rows in batches of 16
    expected = []
    straight = prepare(root, "FREEDOM")
    for epoch in range(3):
        straight.model.begin_epoch(epoch)
        expected += [kept_interactions(straight).tobytes()] * batches

    first = prepare(root, "FREEDOM")
    trainer = first.trainer()
    seen = recording(first, monkeypatch, stop_after=batches + 2)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(*first.loaders[:2], verbose=False)
    assert seen == expected[: batches + 2]

    second = prepare(root, "FREEDOM")
    resumed = second.trainer()
    resumed.resume_checkpoint(trainer.last_model_file)
    seen = recording(second, monkeypatch)
    resumed.fit(*second.loaders[:2], verbose=False)
    assert seen == expected[batches:]
    assert len(set(expected)) == 3


def test_without_announced_epochs_each_switch_to_training_is_one(tmp_path):
    _, experiment = build(tmp_path)
    experiment = prepare(tmp_path, "FREEDOM", dropped_interactions=0.5)
    samples = []
    for _ in range(3):
        experiment.model.train()
        samples.append(kept_interactions(experiment))
        experiment.model.eval()
        assert_array_equal(kept_interactions(experiment), samples[-1])
    for epoch, sample in enumerate(samples):
        experiment.model.begin_epoch(epoch)
        assert_array_equal(kept_interactions(experiment), sample)
