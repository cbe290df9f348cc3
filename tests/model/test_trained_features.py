"""Raw features as parameters (`train_features`): trained, saved and loaded, or neither."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from dense_inputs import dense_inputs
from numpy.testing import assert_allclose, assert_array_equal

from recbole_margo.defaults import properties_folder, read_yaml
from recbole_margo.registry import multimodal_models
from recbole_margo.testing import MISSING, Experiment, prepare, random_world
from recbole_margo.training.checkpoint import read_checkpoint

WORLD = random_world(3).without(MISSING["some items miss one"])
NAMES = [f"feature_matrix_{m}" for m in range(3)]
# As the implementations behind the published numbers do.
TRAINED_BY_DEFAULT = {"LATTICE", "MICRO", "BM3", "MGCN", "FREEDOM"}
FROZEN_BY_DEFAULT = {"VBPR", "GRCN", "SLMRec", "LGMRec", "DRAGON"}

each_model = pytest.mark.parametrize("model", multimodal_models())
either_way = pytest.mark.parametrize("trained", [True, False], ids=["trained", "frozen"])


def build(root: Path, model: str, trained: bool, **settings) -> Experiment:
    return prepare(root, model, train_features=trained, epochs=2, **settings)


def features_of(experiment: Experiment) -> list[np.ndarray]:
    return [matrix.detach().cpu().numpy().copy() for matrix in experiment.model.features]


def fit(experiment: Experiment):
    trainer = experiment.trainer()
    trainer.fit(*experiment.loaders[:2], verbose=False)
    return trainer


@pytest.mark.parametrize("model", sorted(TRAINED_BY_DEFAULT | FROZEN_BY_DEFAULT))
def test_shipped_values_are_those_of_the_published_numbers(model):
    values = read_yaml(properties_folder() / "model" / f"{model}.yaml")
    assert values["train_features"] is (model in TRAINED_BY_DEFAULT)


@each_model
def test_trained_features_get_a_gradient_where_an_item_has_the_modality(tmp_path, model):
    experiment = build(WORLD.write(tmp_path), model, trained=True)
    mask = dense_inputs(experiment, WORLD).mask
    reached = np.zeros_like(mask)
    for stage in experiment.model.training_stages:
        experiment.model.begin_stage(stage)
        experiment.model.train()
        experiment.model.zero_grad()
        terms = experiment.model.calculate_loss(experiment.batch(experiment.random_triplets(300)))
        torch.stack(terms if isinstance(terms, tuple) else (terms,)).sum().backward()
        for m, name in enumerate(NAMES):
            gradient = dict(experiment.model.named_parameters())[name].grad
            if gradient is not None:
                reached[:, m] |= gradient.any(dim=1).numpy()
    assert_array_equal(reached, mask)


@each_model
def test_fitting_moves_trained_features_and_leaves_what_is_missing_at_zero(tmp_path, model):
    experiment = build(WORLD.write(tmp_path), model, trained=True)
    mask, before = dense_inputs(experiment, WORLD).mask, features_of(experiment)
    fit(experiment)
    for m, after in enumerate(features_of(experiment)):
        assert_array_equal((after != before[m]).any(axis=1), mask[:, m])
        assert (after[~mask[:, m]] == 0).all()


@each_model
def test_frozen_features_are_no_parameters_and_stay_as_they_are(tmp_path, model):
    experiment = build(WORLD.write(tmp_path), model, trained=False)
    names = [name for name, _ in experiment.model.named_parameters()]
    assert not [name for name in names if "feature_matrix" in name]
    before = features_of(experiment)
    fit(experiment)
    for one, other in zip(features_of(experiment), before, strict=True):
        assert_array_equal(one, other)


@either_way
@each_model
def test_a_checkpoint_holds_the_features_if_they_are_trained(tmp_path, model, trained):
    root = WORLD.write(tmp_path)
    experiment = build(root, model, trained)
    trainer = fit(experiment)
    for file in sorted((root / "saved").glob("*.pth")):
        stored = read_checkpoint(file)["state_dict"]
        found = [name for name in stored if "feature_matrix" in name]
        assert found == (NAMES if trained else []), file.name

    loaded = build(root, model, trained, seed=5)
    loaded.trainer().evaluate(loaded.loaders[2], model_file=str(trainer.saved_model_file))
    for one, other in zip(features_of(loaded), features_of(experiment), strict=True):
        assert_array_equal(one, other)
    assert_array_equal(loaded.all_scores(), experiment.all_scores())


@either_way
@each_model
def test_features_start_as_the_files_have_them(tmp_path, model, trained):
    experiment = build(WORLD.write(tmp_path), model, trained)
    inputs = dense_inputs(experiment, WORLD)
    for found, stored in zip(features_of(experiment), inputs.features, strict=True):
        if model == "SLMRec":
            stored = stored / np.maximum(np.linalg.norm(stored, axis=1, keepdims=True), 1e-12)
        assert_allclose(found, stored, rtol=1e-6, atol=1e-7)
