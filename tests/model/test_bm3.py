from __future__ import annotations

from pathlib import Path

import dense_collaborative as dense
import numpy as np
import pytest
import recbole.quick_start
import torch
from dense_inputs import dense_inputs
from numpy.testing import assert_allclose, assert_array_equal

import recbole_margo
from recbole_margo.model import bm3
from recbole_margo.registry import find_model
from recbole_margo.testing import (
    MISSING,
    NAME,
    SETTINGS,
    Experiment,
    prepare,
    random_world,
    small_settings,
)

REG, GAMMA = 0.3, 1.7
WITHOUT_NEGATIVES = ("BM3", "SLMRec")


def build(tmp_path, modalities=2, missing="nothing missing", **settings):
    """Return the dense inputs of a world and BM3 on it, every parameter drawn anew."""
    world = random_world(modalities).without(MISSING[missing])
    chosen = {"reg_weight": REG, "modality_loss_weight": GAMMA, "dropout": 0.0, **settings}
    experiment = prepare(world.write(tmp_path), "BM3", **chosen)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in experiment.model.parameters():
            parameter.normal_(generator=generator)
    experiment.model.train()
    return dense_inputs(experiment, world), experiment


def pairs_of(experiment: Experiment) -> list[tuple[int, int]]:
    return [(user, item) for user, item, _ in experiment.random_triplets()]


def terms_of(experiment: Experiment, pairs) -> tuple[torch.Tensor, ...]:
    users, items = zip(*pairs, strict=True)
    return experiment.model.calculate_loss(experiment.interaction(user=users, item=items))


def assert_equals_dense(
    inputs, experiment: Experiment, layers=1, penalty="frobenius", target=lambda x: x
) -> None:
    pairs, parameters = pairs_of(experiment), experiment.parameters()
    expected = dense.bm3_terms(inputs, parameters, pairs, layers, penalty, REG, GAMMA, target)
    found = [term.item() for term in terms_of(experiment, pairs)]
    assert found == pytest.approx(expected, rel=1e-5)
    scores = dense.bm3_scores(inputs, parameters, layers)
    assert_allclose(experiment.all_scores(), scores, rtol=1e-5, atol=1e-4)


# --- formulas -------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_scores_and_losses_equal_the_dense_formula(tmp_path, modalities, missing):
    assert_equals_dense(*build(tmp_path, modalities, missing))


@pytest.mark.parametrize("train_features", [True, False])
@pytest.mark.parametrize("penalty", ["frobenius", "squared"])
@pytest.mark.parametrize("layers", [0, 2])
def test_depth_penalty_and_features_are_chosen(tmp_path, layers, penalty, train_features):
    settings = {"interaction_layers": layers, "penalty": penalty, "train_features": train_features}
    inputs, experiment = build(tmp_path, 2, "some items miss one", **settings)
    assert_equals_dense(inputs, experiment, layers, penalty)


def test_penalty_counts_every_node_but_pad_whatever_the_batch(tmp_path):
    _, experiment = build(tmp_path)
    pairs = pairs_of(experiment)
    penalties = [terms_of(experiment, part)[2].item() for part in (pairs, pairs[:3])]
    assert penalties[0] == penalties[1]
    with torch.no_grad():
        experiment.model.user_embedding[0] = 1e3
        experiment.model.item_embedding[0] = 1e3
    assert terms_of(experiment, pairs)[2].item() == penalties[0]


def test_start_is_xavier(tmp_path):
    world = random_world(2, users=300, items=200)
    experiment = prepare(world.write(tmp_path), "BM3", embedding_size=64)
    parameters = experiment.parameters()
    for name in ("user_embedding", "item_embedding"):
        bound = np.sqrt(6 / sum(parameters[name].shape))
        assert 0.99 * bound < abs(parameters[name]).max() <= bound
        assert parameters[name].std() == pytest.approx(bound / np.sqrt(3), rel=0.03)
    for name in ("predictor", "projections.0", "projections.1"):
        weight = parameters[f"{name}.weight"]
        assert weight.std() == pytest.approx(np.sqrt(2 / sum(weight.shape)), rel=0.15)
        assert abs(weight).max() > np.sqrt(6 / sum(weight.shape))  # normal, not uniform
        bound = 1 / np.sqrt(weight.shape[1])
        assert 0 < abs(parameters[f"{name}.bias"]).max() <= bound


# --- targets --------------------------------------------------------------------------------------


def test_dropout_hits_the_targets_and_only_them(tmp_path, monkeypatch):
    inputs, experiment = build(tmp_path, 3, "some items miss one", dropout=0.4)
    width = experiment.model.user_embedding.shape[1]
    known = np.where(np.arange(width) % 3 == 0, 0.0, 1 / 0.6)

    def dropout(embeddings, p, training):
        assert (p, training) == (0.4, True)
        return embeddings * torch.from_numpy(known).float()

    monkeypatch.setattr(bm3.functional, "dropout", dropout)
    pairs, parameters = pairs_of(experiment), experiment.parameters()
    expected = dense.bm3_terms(
        inputs, parameters, pairs, 1, "frobenius", REG, GAMMA, lambda x: x * known
    )
    found = [term.item() for term in terms_of(experiment, pairs)]
    assert found == pytest.approx(expected, rel=1e-5)


def test_dropout_works_in_training_only(tmp_path):
    inputs, experiment = build(tmp_path, dropout=0.5)
    pairs = pairs_of(experiment)
    training = [[term.item() for term in terms_of(experiment, pairs)] for _ in range(2)]
    assert training[0][0] != training[1][0] and training[0][1] != training[1][1]
    assert training[0][2] == training[1][2]
    experiment.model.eval()
    expected = dense.bm3_terms(inputs, experiment.parameters(), pairs, 1, "frobenius", REG, GAMMA)
    found = [term.item() for term in terms_of(experiment, pairs)]
    assert found == pytest.approx(expected, rel=1e-5)
    first = experiment.all_scores()
    experiment.model.train()
    assert_array_equal(experiment.all_scores(), first)


def test_targets_are_constants(tmp_path, double_precision):
    """The gradient is that of the formula in which every target is a number."""
    inputs, experiment = build(tmp_path, 3, "some items miss one", train_features=True)
    model = experiment.model.double()
    pairs, parameters = pairs_of(experiment)[:12], experiment.parameters()
    terms = terms_of(experiment, pairs)
    torch.stack(terms).sum().backward()

    fixed: list[np.ndarray] = []
    arguments = (pairs, 1, "frobenius", REG, GAMMA)

    def remember(x):
        fixed.append(x.copy())
        return x

    dense.bm3_terms(inputs, parameters, *arguments, remember)
    random = np.random.default_rng(0)
    for name, parameter in model.named_parameters():
        for _ in range(2):
            place = tuple(random.integers(1, size) for size in parameter.shape)
            values = []
            for step in (1e-5, -1e-5):
                moved = {key: value.copy() for key, value in parameters.items()}
                moved[name][place] += step
                recalled = iter(fixed)
                terms = dense.bm3_terms(inputs, moved, *arguments, lambda _, r=recalled: next(r))
                values.append(sum(terms))
            expected = (values[0] - values[1]) / 2e-5
            assert parameter.grad[place].item() == pytest.approx(expected, rel=1e-5, abs=1e-8), name


# --- models without negative samples --------------------------------------------------------------


@pytest.mark.parametrize("model", WITHOUT_NEGATIVES)
def test_our_loaders_sample_no_negatives(tmp_path, model):
    experiment = prepare(random_world().write(tmp_path), model)
    batches = list(experiment.loaders[0])
    fields = {experiment.model.USER_ID, experiment.model.ITEM_ID}
    assert all(set(batch.interaction) == fields for batch in batches)
    assert [len(batch) for batch in batches] == [16] * 5
    assert experiment.model.NEG_ITEM_ID not in fields


def test_other_models_still_get_negatives(tmp_path):
    experiment = prepare(random_world().write(tmp_path), "VBPR")
    batch = next(iter(experiment.loaders[0]))
    assert experiment.model.NEG_ITEM_ID in batch.interaction


@pytest.mark.parametrize("model", WITHOUT_NEGATIVES)
def test_negatives_that_stock_recbole_samples_change_nothing(tmp_path, model):
    experiment = prepare(random_world().write(tmp_path), model)
    experiment.model.eval()
    triplets = experiment.random_triplets()
    with_negatives = experiment.model.calculate_loss(experiment.batch(triplets))
    without = terms_of(experiment, [(user, item) for user, item, _ in triplets])
    assert [term.item() for term in with_negatives] == [term.item() for term in without]


@pytest.mark.parametrize("model", WITHOUT_NEGATIVES)
def test_stock_recbole_trains_what_needs_no_negatives(tmp_path: Path, monkeypatch, model):
    monkeypatch.setattr("sys.argv", ["pytest"])
    random_world().write(tmp_path)
    recbole_margo.register()
    trained = []
    model_class, original = find_model(model), find_model(model).calculate_loss

    def calculate_loss(self, interaction):
        assert self.NEG_ITEM_ID in interaction.interaction
        trained.append(self)
        return original(self, interaction)

    monkeypatch.setattr(model_class, "calculate_loss", calculate_loss)
    settings = {
        **SETTINGS,
        **small_settings(model),
        "data_path": str(tmp_path),
        "checkpoint_dir": str(tmp_path / "saved"),
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id"]},
        "eval_batch_size": 10_000,
    }
    result = recbole.quick_start.run_recbole(model=model, dataset=NAME, config_dict=settings)
    assert len(trained) == 3 * 5
    assert 0 <= result["test_result"]["recall@5"] <= 1
