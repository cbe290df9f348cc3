from __future__ import annotations

import dense_formulas as dense
import numpy as np
import pytest
import torch
from dense_inputs import dense_inputs
from dense_models import dense_dragon
from numpy.testing import assert_allclose

from recbole_margo.testing import MISSING, prepare, random_world


def backbone_of(experiment, user_weights=None):
    model = experiment.model
    with torch.no_grad():
        users, items = model.backbone(model.backbone_inputs, user_weights)
    return users.numpy(), items.numpy()


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_dragon_equals_the_dense_formula(tmp_path, modalities, missing):
    world = random_world(modalities).without(MISSING[missing])
    experiment = prepare(world.write(tmp_path), "MARGO")
    for found, expected in zip(
        backbone_of(experiment), dense_dragon(experiment, world), strict=True
    ):
        assert found.shape == expected.shape == (len(expected), modalities, 8)
        assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 3])
def test_dragon_with_user_weights_and_more_item_layers(tmp_path, layers):
    world = random_world(2).without(MISSING["some items miss one"])
    experiment = prepare(world.write(tmp_path), "MARGO", item_graph_layers=layers)
    weights = np.random.default_rng(0).normal(size=(21, 2))
    found = backbone_of(experiment, torch.tensor(weights, dtype=torch.float32))
    expected = dense_dragon(experiment, world, user_weights=weights, layers=layers)
    assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)
    assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("modalities", "missing", "layers"),
    [(m, missing, 2) for m in (1, 2, 3) for missing in MISSING]
    + [(2, "some items miss one", layers) for layers in (0, 1, 3)],
)
def test_lightgcn_equals_the_dense_formula(tmp_path, modalities, missing, layers):
    world = random_world(modalities).without(MISSING[missing])
    experiment = prepare(
        world.write(tmp_path), "MARGO", backbone="LightGCN", interaction_layers=layers
    )
    expected = dense.lightgcn(
        dense_inputs(experiment, world), experiment.parameters("backbone."), layers
    )
    for found, wanted in zip(backbone_of(experiment), expected, strict=True):
        assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_lightgcn_with_user_weights(tmp_path):
    world = random_world(2)
    experiment = prepare(world.write(tmp_path), "MARGO", backbone="LightGCN")
    weights = torch.rand(21, 2)
    plain, weighted = backbone_of(experiment), backbone_of(experiment, weights)
    assert_allclose(weighted[0], plain[0] * weights.numpy()[:, :, None], rtol=1e-6)
    assert_allclose(weighted[1], plain[1])


@pytest.mark.parametrize("backbone", ["DRAGON", "LightGCN"])
def test_the_penalty_is_the_mean_square_of_the_batch_users_summed_over_modalities(
    tmp_path, backbone
):
    experiment = prepare(random_world(3).write(tmp_path), "MARGO", backbone=backbone)
    users = np.array([1, 4, 4, 20])
    expected = dense.preference_penalty(experiment.parameters("backbone."), users, 3)
    found = experiment.model.backbone.regularization(torch.tensor(users))
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("backbone", ["DRAGON", "LightGCN"])
def test_a_missing_modality_is_zero_before_propagation_and_may_get_signal_by_it(tmp_path, backbone):
    world = random_world(2).without({"image": ("i1",)})
    experiment = prepare(world.write(tmp_path), "MARGO", backbone=backbone)
    _, items = backbone_of(experiment)
    item = experiment.item_ids(["i1"])[0]
    assert items[item, 0].any()  # by its users


def test_preferences_start_as_xavier_normal(tmp_path):
    world = random_world(1, users=200, items=30)
    experiment = prepare(world.write(tmp_path), "MARGO", embedding_size=64)
    table = experiment.parameters("backbone.")["user_preference.0"]
    assert table.shape == (201, 64)
    assert table.std() == pytest.approx(np.sqrt(2 / (201 + 64)), rel=0.03)


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize(
    "settings",
    [
        {"backbone": "DRAGON"},
        {"backbone": "DRAGON", "item_graph_layers": 2},
        {"backbone": "DRAGON", "user_neighbors": 0},
        {"backbone": "LightGCN"},
    ],
    ids=str,
)
def test_chosen_users_and_items_and_their_gradients_are_those_of_all(tmp_path, settings, missing):
    world = random_world(2).without(MISSING[missing])
    model = prepare(world.write(tmp_path), "MARGO", **settings).model
    user_ids, item_ids = torch.tensor([3, 20, 3, 1]), torch.tensor([15, 2, 7, 7, 1])
    user_weights = torch.rand(21, 2, requires_grad=True)

    def gradients(users, items):
        loss = users.square().mean() + items.square().mean()
        return torch.autograd.grad(
            loss, [user_weights, *model.backbone.parameters()], allow_unused=True
        )

    users, items = model.backbone(model.backbone_inputs, user_weights)
    of_all = users[user_ids], items[item_ids]
    chosen = model.backbone(model.backbone_inputs, user_weights, user_ids, item_ids)
    for found, expected in zip(chosen, of_all, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for found, expected in zip(gradients(*chosen), gradients(*of_all), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
