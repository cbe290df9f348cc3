from __future__ import annotations

import dense_collaborative as dense
import dense_formulas
import numpy as np
import pytest
import torch
from dense_inputs import dense_inputs
from numpy.testing import assert_allclose, assert_array_equal

from recbole_margo.testing import MISSING, Experiment, prepare, random_world

SETTINGS = {"temperature": 0.4, "ssl_temperature": 2.0, "ssl_weight": 0.7}


def build(tmp_path, modalities=2, missing="nothing missing", **settings):
    """Return the dense inputs of a world and SLMRec on it, every parameter drawn anew."""
    world = random_world(modalities).without(MISSING[missing])
    experiment = prepare(world.write(tmp_path), "SLMRec", **{**SETTINGS, **settings})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in experiment.model.parameters():
            parameter.normal_(std=0.5, generator=generator)
    experiment.model.train()
    return dense_inputs(experiment, world), experiment


def pairs_of(experiment: Experiment, count=40) -> list[tuple[int, int]]:
    return [(user, item) for user, item, _ in experiment.random_triplets(count)]


def terms_of(experiment: Experiment, pairs) -> list[float]:
    users, items = zip(*pairs, strict=True)
    batch = experiment.interaction(user=users, item=items)
    return [term.item() for term in experiment.model.calculate_loss(batch)]


def assert_equals_dense(inputs, experiment: Experiment, layers=3, **settings) -> None:
    values = {**SETTINGS, **settings}.values()
    parameters = experiment.parameters()
    for pairs in (pairs_of(experiment), pairs_of(experiment, 3)):
        expected = dense.slmrec_terms(inputs, parameters, pairs, layers, *values)
        assert terms_of(experiment, pairs) == pytest.approx(expected, rel=1e-5)
    users, items = dense.slmrec(inputs, parameters, layers)
    assert_allclose(experiment.all_scores(), users @ items.T, rtol=1e-5, atol=1e-5)


# --- formulas -------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_scores_and_losses_equal_the_dense_formula(tmp_path, modalities, missing):
    assert_equals_dense(*build(tmp_path, modalities, missing))


@pytest.mark.parametrize("train_features", [True, False])
@pytest.mark.parametrize("layers", [0, 2])
def test_depth_and_features_are_chosen(tmp_path, layers, train_features):
    settings = {"interaction_layers": layers, "train_features": train_features}
    inputs, experiment = build(tmp_path, 2, "some items miss one", **settings)
    assert_equals_dense(inputs, experiment, layers)


@pytest.mark.parametrize("name", ["temperature", "ssl_temperature", "ssl_weight"])
def test_temperatures_and_weight_act_where_they_are_named(tmp_path, name):
    inputs, experiment = build(tmp_path, 3, **{name: 1.3})
    assert_equals_dense(inputs, experiment, **{name: 1.3})


def test_a_batch_without_any_item_of_a_modality_aligns_the_others(tmp_path):
    inputs, experiment = build(tmp_path, 2, "some items miss one")
    (item,) = experiment.item_ids(["i4"])  # misses image and text
    pairs = [(user, int(item)) for user in (1, 2, 3)]
    assert terms_of(experiment, pairs)[1] == 0
    (item,) = experiment.item_ids(["i1"])  # misses image alone
    pairs = [(user, int(item)) for user in (1, 2, 3)]
    expected = dense.slmrec_terms(inputs, experiment.parameters(), pairs, 3, *SETTINGS.values())
    # Three times the same item: every candidate is as good as the own one.
    assert expected[1] == pytest.approx(SETTINGS["ssl_weight"] * np.log(3))
    assert terms_of(experiment, pairs) == pytest.approx(expected, rel=1e-5)


def test_small_temperatures_and_large_products_stay_finite(tmp_path):
    _, experiment = build(tmp_path, 3, temperature=1e-3, ssl_temperature=1e-3)
    with torch.no_grad():
        for parameter in experiment.model.parameters():
            parameter.mul_(5)
    users, items = zip(*pairs_of(experiment), strict=True)
    terms = experiment.model.calculate_loss(experiment.interaction(user=users, item=items))
    torch.stack(terms).sum().backward()
    assert all(torch.isfinite(term) for term in terms)
    for name, parameter in experiment.model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["some items miss one", "only one item has one"])
def test_gradients_equal_finite_differences_of_the_dense_formula(
    tmp_path, double_precision, missing
):
    inputs, experiment = build(tmp_path, 3, missing, train_features=True)
    model = experiment.model.double()
    pairs, parameters = pairs_of(experiment, 12), experiment.parameters()
    users, items = zip(*pairs, strict=True)
    terms = model.calculate_loss(experiment.interaction(user=users, item=items))
    torch.stack(terms).sum().backward()
    random = np.random.default_rng(0)
    for name, parameter in model.named_parameters():
        place = tuple(random.integers(0, size) for size in parameter.shape)
        values = []
        for step in (1e-5, -1e-5):
            moved = {key: value.copy() for key, value in parameters.items()}
            moved[name][place] += step
            values.append(sum(dense.slmrec_terms(inputs, moved, pairs, 3, *SETTINGS.values())))
        expected = (values[0] - values[1]) / 2e-5
        assert parameter.grad[place].item() == pytest.approx(expected, rel=1e-5, abs=1e-8), name


# --- start ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("train_features", [True, False])
def test_features_start_with_length_one_also_where_they_are_trained(tmp_path, train_features):
    world = random_world(3).without(MISSING["some items miss one"])
    experiment = prepare(world.write(tmp_path), "SLMRec", train_features=train_features)
    inputs = dense_inputs(experiment, world)
    for m, matrix in enumerate(experiment.model.features):
        assert isinstance(matrix, torch.nn.Parameter) is train_features
        found = matrix.detach().double().numpy()
        assert_allclose(np.linalg.norm(found, axis=1), inputs.mask[:, m], rtol=1e-6)
        expected = dense_formulas.rows_of_length_one(inputs.features[m])
        assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_start_is_xavier_uniform(tmp_path):
    world = random_world(3, users=300, items=200)
    parameters = prepare(world.write(tmp_path), "SLMRec", embedding_size=32).parameters()
    names = [
        "user_embedding",
        "item_embedding",
        "id_head.weight",
        "first_head.weight",
        *(f"projections.{m}.weight" for m in range(3)),
        *(f"coarse_heads.{k}.{layer}.weight" for k in range(2) for layer in range(2)),
        *(f"later_heads.{k}.weight" for k in range(2)),
    ]
    for name in names:
        bound = np.sqrt(6 / sum(parameters[name].shape))
        assert 0.95 * bound < abs(parameters[name]).max() <= bound, name
        assert parameters[name].std() == pytest.approx(bound / np.sqrt(3), rel=0.15), name
    assert parameters["coarse_heads.0.1.weight"].shape == (16, 32)
    assert parameters["later_heads.1.weight"].shape == (16, 32)
    for name in ("user_fusion", "item_fusion"):
        weight = parameters[f"{name}.weight"]
        assert weight.shape == (32, 4 * 32)
        bound = 1 / np.sqrt(4 * 32)  # torch's own start
        assert 0.99 * bound < abs(weight).max() <= bound


def test_the_optimiser_decays_the_weights(tmp_path):
    experiment = prepare(random_world().write(tmp_path), "SLMRec")
    trainer = experiment.trainer()
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [1e-4]
    trainer.fit(*experiment.loaders[:2], verbose=False, saved=False)
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [1e-4]


def test_evaluation_is_deterministic(tmp_path):
    _, experiment = build(tmp_path)
    first = experiment.all_scores()
    experiment.model.train()
    assert_array_equal(experiment.all_scores(), first)
