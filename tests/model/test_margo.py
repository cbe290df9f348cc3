from __future__ import annotations

import dense_formulas as dense
import numpy as np
import pytest
import torch
from dense_inputs import dense_inputs
from dense_models import dense_dragon
from numpy.testing import assert_allclose

from recbole_margo.errors import ConfigError
from recbole_margo.testing import MISSING, Experiment, World, prepare, random_world

SETTINGS = {"alpha": 0.7, "tau": 0.5, "beta": 0.3, "reg_weight": 0.2}
BACKBONES = ("DRAGON", "LightGCN")


def build(tmp_path, modalities=2, missing="nothing missing", stage="stage2", **settings):
    """Return a world and MARGO on it, with weights that differ from item to item."""
    world = random_world(modalities).without(MISSING[missing])
    experiment = prepare(world.write(tmp_path), "MARGO", **{**SETTINGS, **settings})
    experiment.model.begin_stage(stage)
    with torch.no_grad():
        experiment.model.weight_logits.normal_()
    return world, experiment


def dense_tables(experiment: Experiment, world: World, parameters=None):
    """Return users [U, M, d] and items [I, M, d] of the backbone that the config names."""
    parameters = experiment.parameters() if parameters is None else parameters
    own = {
        name.removeprefix("backbone."): value
        for name, value in parameters.items()
        if name.startswith("backbone.")
    }
    if experiment.config["backbone"] == "DRAGON":
        return dense_dragon(experiment, world, own)
    layers = experiment.config["interaction_layers"]
    return dense.lightgcn(dense_inputs(experiment, world), own, layers)


def dense_terms(experiment, world, triplets, parameters=None, targets=None):
    """Return ranking, calibration and regularisation of stage 2 as Eq. 10 adds them, and z, c."""
    parameters = experiment.parameters() if parameters is None else parameters
    users, items = dense_tables(experiment, world, parameters)
    logits, mask = parameters["weight_logits"], dense_inputs(experiment, world).mask
    terms = dense.weighted_terms(users, items, logits, mask, triplets, SETTINGS["tau"], targets)
    tables = {name.removeprefix("backbone."): table for name, table in parameters.items()}
    batch_users = np.array([user for user, _, _ in triplets])
    penalty = dense.preference_penalty(tables, batch_users, len(world.modalities))
    return (
        terms.ranking,
        SETTINGS["alpha"] * terms.calibration,
        SETTINGS["reg_weight"] * penalty + SETTINGS["beta"] * np.mean(logits**2),
    ), terms.targets


# --- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_stage_2_equals_the_dense_formula(tmp_path, backbone, modalities, missing):
    world, experiment = build(tmp_path, modalities, missing, backbone=backbone)
    triplets = experiment.random_triplets(150)
    terms = experiment.model.calculate_loss(experiment.batch(triplets))
    expected, targets = dense_terms(experiment, world, triplets)
    assert experiment.model.loss_names == ("recommendation", "calibration", "regularization")
    assert [term.item() for term in terms] == pytest.approx(expected, rel=2e-5, abs=1e-6)
    # The batch holds triplets of every kind.
    assert any(z is None for z, _ in targets)
    assert any(c > 0 for _, c in targets)


@pytest.mark.parametrize("missing", ["nothing missing", "some items miss one"])
@pytest.mark.parametrize("modalities", [1, 2, 3])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_stage_1_equals_the_dense_formula(tmp_path, backbone, modalities, missing):
    world, experiment = build(tmp_path, modalities, missing, "stage1", backbone=backbone)
    triplets = experiment.random_triplets()
    users, items = dense_tables(experiment, world)
    batch_users = np.array([user for user, _, _ in triplets])
    parameters = experiment.parameters("backbone.")
    penalty = 0.2 * dense.preference_penalty(parameters, batch_users, modalities)

    ranking, regularization = experiment.model.calculate_loss(experiment.batch(triplets))

    assert experiment.model.loss_names == ("recommendation", "regularization")
    assert ranking.item() == pytest.approx(dense.plain_ranking(users, items, triplets), rel=1e-5)
    assert regularization.item() == pytest.approx(penalty, rel=1e-5)


@pytest.mark.parametrize("scale", [0.25, 3.0])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_scale_multiplies_every_score_inside_the_losses_and_no_other(tmp_path, backbone, scale):
    world, experiment = build(
        tmp_path, 3, "some items miss one", backbone=backbone, score_scale=scale
    )
    triplets = experiment.random_triplets(150)
    (users, items), inputs = dense_tables(experiment, world), dense_inputs(experiment, world)
    logits = experiment.parameters()["weight_logits"]
    # Scores are linear in the user's embedding.
    expected = dense.weighted_terms(
        scale * users, items, logits, inputs.mask, triplets, SETTINGS["tau"]
    )
    ranking, calibration, penalty = experiment.losses(experiment.batch(triplets))
    assert ranking.item() == pytest.approx(expected.ranking, rel=2e-5)
    assert calibration.item() == pytest.approx(SETTINGS["alpha"] * expected.calibration, rel=2e-5)
    unscaled = dense_terms(experiment, world, triplets)[0]
    assert penalty.item() == pytest.approx(unscaled[2], rel=1e-5)
    assert ranking.item() != pytest.approx(unscaled[0], rel=1e-3)

    experiment.model.begin_stage("stage1")
    ranking, _ = experiment.losses(experiment.batch(triplets))
    plain = dense.plain_ranking(scale * users, items, triplets)
    assert ranking.item() == pytest.approx(plain, rel=1e-5)


def test_no_score_that_ranks_sees_the_scale(tmp_path):
    root = random_world(2).write(tmp_path)
    found = []
    for scale in (1.0, 0.125):
        experiment = prepare(root, "MARGO", score_scale=scale)
        pairs = experiment.interaction(user=[1, 2, 3], item=[3, 2, 1])
        for stage in ("stage1", "stage2"):
            experiment.model.begin_stage(stage)
            found.append((experiment.all_scores(), experiment.model.predict(pairs).detach()))
    for (scores, predicted), (scaled, also_scaled) in zip(found[:2], found[2:], strict=True):
        assert (scores == scaled).all()
        assert torch.equal(predicted, also_scaled)


@pytest.mark.parametrize("missing", ["nothing missing", "some items miss one"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_standardized_evidence_is_in_units_of_its_spread(tmp_path, backbone, missing):
    settings = {"backbone": backbone, "evidence_scale": "standardized", "score_scale": 0.5}
    world, experiment = build(tmp_path, 3, missing, **settings)
    (users, items), inputs = dense_tables(experiment, world), dense_inputs(experiment, world)
    users = 0.5 * users
    place = experiment.model.difference_spread.data_ptr()
    experiment.model.begin_epoch(0)
    assert experiment.model.training
    # A captured step reads what lies at the same place.
    assert experiment.model.difference_spread.data_ptr() == place
    unit = experiment.model.difference_spread.double().numpy()
    # Of all triplets the model draws 32,768.
    expected = dense.difference_spread(users, items, inputs.mask)
    assert_allclose(unit, expected, rtol=0.03)
    assert max(expected) > 1.1 * min(expected)

    triplets, logits = experiment.random_triplets(150), experiment.parameters()["weight_logits"]
    terms = dense.weighted_terms(
        users, items, logits, inputs.mask, triplets, SETTINGS["tau"], unit=unit
    )
    ranking, calibration, _ = experiment.losses(experiment.batch(triplets))
    assert ranking.item() == pytest.approx(terms.ranking, rel=2e-5)
    assert calibration.item() == pytest.approx(SETTINGS["alpha"] * terms.calibration, rel=2e-5)
    raw = dense.weighted_terms(users, items, logits, inputs.mask, triplets, SETTINGS["tau"])
    assert terms.calibration != pytest.approx(raw.calibration, rel=1e-3)


def test_the_spread_of_what_does_not_differ_is_one(tmp_path):
    _, experiment = build(tmp_path, 2, evidence_scale="standardized")
    with torch.no_grad():
        experiment.model.backbone.user_preference[0].zero_()
        for parameter in experiment.model.backbone.projections[0].parameters():
            parameter.zero_()
    experiment.model.begin_epoch(0)
    first, second = experiment.model.difference_spread.tolist()
    assert first == 1 and 0 < second != 1
    assert all(torch.isfinite(t) for t in experiment.losses(experiment.batch([(1, 2, 3)])))


@pytest.mark.parametrize("scale", [0, -1.0, float("inf")])
def test_a_scale_that_is_not_positive_is_refused(tmp_path, scale):
    with pytest.raises(ConfigError, match="`score_scale` must lie in"):
        prepare(random_world().write(tmp_path), "MARGO", score_scale=scale)


def test_a_triplet_that_no_modality_supports_does_not_calibrate(tmp_path):
    world, experiment = build(tmp_path)
    triplets = experiment.random_triplets(200)
    _, targets = dense_terms(experiment, world, triplets)
    unsupported = [t for t, (z, _) in zip(triplets, targets, strict=True) if z is None]
    terms = experiment.model.calculate_loss(experiment.batch(unsupported))
    assert len(unsupported) > 5
    assert terms[1].item() == 0


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_gradient", [True, False])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_gradients_equal_finite_differences_of_the_dense_formula(
    tmp_path, double_precision, backbone, stop_gradient
):
    world, experiment = build(
        tmp_path, 3, "some items miss one", backbone=backbone, stop_gradient=stop_gradient
    )
    model = experiment.model.double()
    triplets = experiment.random_triplets(25)
    torch.stack(model.calculate_loss(experiment.batch(triplets))).sum().backward()

    parameters = experiment.parameters()
    targets = dense_terms(experiment, world, triplets)[1] if stop_gradient else None
    random = np.random.default_rng(0)
    for name, parameter in model.named_parameters():
        for _ in range(2):
            place = tuple(random.integers(0, size) for size in parameter.shape)
            values = []
            for step in (1e-5, -1e-5):
                moved = {key: value.copy() for key, value in parameters.items()}
                moved[name][place] += step
                terms, _ = dense_terms(experiment, world, triplets, moved, targets)
                values.append(sum(terms))
            expected = (values[0] - values[1]) / 2e-5
            found = parameter.grad[place].item()
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-7), (name, place)


def gradients_of_calibration(experiment, wanted):
    terms = experiment.model.calculate_loss(experiment.batch(experiment.random_triplets(200)))
    return torch.autograd.grad(terms[1], wanted, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_calibration_sends_no_gradient_into_the_backbone(tmp_path, backbone):
    _, experiment = build(tmp_path, 3, "some items miss one", backbone=backbone)
    parameters = list(experiment.model.backbone.parameters())
    assert all((g == 0).all() for g in gradients_of_calibration(experiment, parameters))
    (logits,) = gradients_of_calibration(experiment, [experiment.model.weight_logits])
    assert logits.any()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_without_nograd_it_does(tmp_path, backbone):
    _, experiment = build(tmp_path, 3, backbone=backbone, stop_gradient=False)
    parameters = list(experiment.model.backbone.parameters())
    assert all(g.any() for g in gradients_of_calibration(experiment, parameters))


# --- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_gradient", [True, False])
@pytest.mark.parametrize("missing", ["nothing missing", "some items miss one"])
def test_losses_and_gradients_are_finite_at_extreme_logits(tmp_path, missing, stop_gradient):
    _, experiment = build(tmp_path, 3, missing, stop_gradient=stop_gradient, beta=0.0)
    model = experiment.model
    with torch.no_grad():
        model.weight_logits.copy_(1e4 * (2 * torch.randint(0, 2, (16, 3)) - 1))
    terms = model.calculate_loss(experiment.batch(experiment.random_triplets(200)))
    torch.stack(terms).sum().backward()
    assert all(torch.isfinite(term) for term in terms)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert np.isfinite(experiment.all_scores()).all()


@pytest.mark.parametrize("missing", MISSING)
def test_weights_are_zero_exactly_where_a_modality_is_missing(tmp_path, missing):
    world, experiment = build(tmp_path, 3, missing)
    mask = dense_inputs(experiment, world).mask
    logits = experiment.parameters()["weight_logits"]
    expected = [dense.item_weights(logits[i], mask[i]) for i in range(len(mask))]
    weights = experiment.model.item_weights().detach().numpy()
    assert_allclose(weights, expected, rtol=1e-5)
    assert (weights[mask.any(axis=1)][~mask[mask.any(axis=1)]] == 0).all()


def test_nothing_trains_the_logits_of_missing_modalities_and_of_pad(tmp_path):
    world, experiment = build(tmp_path, 3, "some items miss one", beta=0.0)
    terms = experiment.model.calculate_loss(experiment.batch(experiment.random_triplets(300)))
    torch.stack(terms).sum().backward()
    gradient = experiment.model.weight_logits.grad.numpy()
    mask = dense_inputs(experiment, world).mask
    several = mask & (mask.sum(axis=1, keepdims=True) > 1)
    assert (gradient[~mask] == 0).all()
    assert (gradient[several] != 0).all()


# --- stages, scores and switches ------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["nothing missing", "an item misses all"])
def test_scores_of_both_stages_equal_the_dense_formula(tmp_path, missing):
    world, experiment = build(tmp_path, 3, missing)
    users, items = dense_tables(experiment, world)
    mask, logits = dense_inputs(experiment, world).mask, experiment.parameters()["weight_logits"]
    w = np.stack([dense.item_weights(logits[i], mask[i]) for i in range(len(mask))])
    weighted = np.einsum("umd,im,imd->ui", users, w, items)
    assert_allclose(experiment.all_scores(), weighted, rtol=1e-4, atol=1e-5)
    experiment.model.begin_stage("stage1")
    plain = np.einsum("umd,imd->ui", users, items)
    assert_allclose(experiment.all_scores(), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "stages"),
    [
        ({}, ("stage1", "stage2")),
        ({"item_weights": False}, ("stage1",)),
        ({"two_stage": False}, ("stage2",)),
    ],
)
def test_switches_choose_the_stages(tmp_path, settings, stages):
    model = prepare(random_world().write(tmp_path), "MARGO", **settings).model
    assert model.training_stages == stages
    assert model.stage == stages[-1]


def test_alpha_zero_leaves_only_the_ranking_to_train_the_weights(tmp_path):
    _, experiment = build(tmp_path, alpha=0.0, beta=0.0)
    terms = experiment.model.calculate_loss(experiment.batch(experiment.random_triplets()))
    assert terms[1].item() == 0
    terms[0].backward()
    assert experiment.model.weight_logits.grad.any()


def test_a_subset_of_the_modalities(tmp_path):
    root = random_world(3).write(tmp_path)
    experiment = prepare(root, "MARGO", modalities=["audio", "image"])
    assert experiment.model.modalities == ("audio", "image")
    assert experiment.model.item_weights().shape == (16, 2)
    assert [f.shape[1] for f in experiment.model.features] == [6, 4]


def test_stage_2_begins_with_new_small_logits_and_keeps_the_backbone(tmp_path):
    _, experiment = build(tmp_path, stage="stage1", weight_init_std=0.02)
    model = experiment.model
    backbone = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    model.weight_logits.data.fill_(5.0)
    model.begin_stage("stage2")
    assert all(torch.equal(backbone[n], v) for n, v in model.backbone.state_dict().items())
    assert 0 < model.weight_logits.abs().max() < 0.1


def test_the_logits_may_have_their_own_learning_rate(tmp_path):
    _, experiment = build(tmp_path, weight_learning_rate=0.5)
    backbone, weights = experiment.model.parameter_groups(0.01)
    assert (backbone["lr"], weights["lr"]) == (0.01, 0.5)
    assert weights["params"] == [experiment.model.weight_logits]
    experiment.model.begin_stage("stage1")
    (only,) = experiment.model.parameter_groups(0.01)
    assert all(p is not experiment.model.weight_logits for p in only["params"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tau": 0.0}, "`tau` must lie in"),
        ({"alpha": -1.0}, "`alpha` must lie in"),
        ({"alpha": float("nan")}, "`alpha` must lie in"),
        ({"backbone": "FREEDOM"}, "`backbone` must be one of"),
        ({"weight_learning_rate": 0.0}, "`weight_learning_rate` must lie in"),
        ({"two_stage": "yes"}, "`two_stage` must be"),
    ],
)
def test_settings_out_of_bounds_are_refused(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        prepare(random_world().write(tmp_path), "MARGO", **settings)


def test_losses_are_float32_under_autocast(tmp_path):
    _, experiment = build(tmp_path, 3)
    batch = experiment.batch(experiment.random_triplets())
    exact = experiment.model.calculate_loss(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = experiment.model.calculate_loss(batch)
    assert {term.dtype for term in terms} == {torch.float32}
    assert [t.item() for t in terms] == pytest.approx([t.item() for t in exact], rel=0.05)


def test_statistics_of_an_epoch(tmp_path):
    world, experiment = build(tmp_path, 2, "some items miss one")
    batches = [experiment.random_triplets(30, seed) for seed in (0, 1)]
    for triplets in batches:
        experiment.model.calculate_loss(experiment.batch(triplets))
    confidences = np.array(
        [c for triplets in batches for _, c in dense_terms(experiment, world, triplets)[1]]
    )
    mask = dense_inputs(experiment, world).mask
    assert (mask.sum(axis=1) == 1).any()  # their weights are 1 by definition and do not count
    weights = experiment.model.item_weights().detach().numpy()[mask.all(axis=1)]

    figures = experiment.model.epoch_statistics()

    assert figures == pytest.approx(
        {
            "weight_mean/image": weights[:, 0].mean(),
            "weight_mean/text": weights[:, 1].mean(),
            "weight_std/image": weights[:, 0].std(),
            "weight_std/text": weights[:, 1].std(),
            "confidence_mean": confidences.mean(),
            "confidence_zero_share": (confidences == 0).mean(),
        },
        rel=1e-4,
    )
    assert "confidence_mean" not in experiment.model.epoch_statistics()


# --- held-out evidence ----------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["nothing missing", "some items miss one"])
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_held_out_evidence_supervises_the_weights_of_both_items(tmp_path, modalities, missing):
    world, experiment = build(tmp_path, modalities, missing, evidence="held_out")
    triplets = experiment.random_triplets(150)
    ranking, calibration, _ = experiment.losses(experiment.batch(triplets))
    evidence, mask = experiment.model.held_out, dense_inputs(experiment, world).mask
    vectors, known = evidence.vectors.double().numpy(), evidence.known.numpy()
    users, items = dense_tables(experiment, world)
    logits = experiment.parameters()["weight_logits"]
    expected, some_teach = 0.0, False
    for user, i, j in triplets:
        weights = [dense.item_weights(logits[k], mask[k]) for k in (i, j)]
        r_i, r_j = (
            float(w @ dense.modality_scores(users[user], items[k]))
            for w, k in zip(weights, (i, j), strict=True)
        )
        c = np.tanh(max(r_i - r_j, 0) / SETTINGS["tau"])
        for k, w in zip((i, j), weights, strict=True):
            has = mask[k] & known[k]
            z = vectors[k][has]
            expected += c * (z * np.log(z / w[has])).sum() / 2 / len(triplets)
            some_teach |= bool(c > 0 and known[k])
    assert some_teach
    assert calibration.item() == pytest.approx(SETTINGS["alpha"] * expected, rel=2e-5, abs=1e-6)
    trained = dense_terms(experiment, world, triplets)[0]
    assert ranking.item() == pytest.approx(trained[0], rel=2e-5)


def test_an_item_of_which_nothing_is_known_is_not_calibrated(tmp_path):
    _, experiment = build(tmp_path, evidence="held_out")
    model, triplets = experiment.model, experiment.random_triplets(150)
    nothing = torch.zeros(model.n_items, dtype=torch.bool)
    nothing[1::2] = True
    model.held_out.known[nothing] = False
    losses = experiment.losses(experiment.batch(triplets))
    (gradient,) = torch.autograd.grad(losses[1], model.weight_logits)
    assert (gradient[nothing] == 0).all()
    assert (gradient[~nothing] != 0).any()
    model.held_out.known[:] = False
    assert experiment.losses(experiment.batch(triplets))[1].item() == 0


def test_held_out_evidence_adds_no_parameter_and_leaves_checkpoints_as_they_are(tmp_path):
    _, plain = build(tmp_path / "plain")
    _, held_out = build(tmp_path / "held_out", evidence="held_out")
    assert plain.model.state_dict().keys() == held_out.model.state_dict().keys()
    _, first_stage = build(tmp_path / "first", evidence="held_out", item_weights=False)
    assert first_stage.model.held_out is None
