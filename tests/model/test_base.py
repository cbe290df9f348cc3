from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from dense_inputs import dense_inputs
from recbole.trainer import Trainer

from recbole_margo.errors import ConfigError, FeatureError
from recbole_margo.testing import Experiment, prepare, random_world


@pytest.fixture
def experiment(tmp_path) -> Experiment:
    return prepare(random_world().write(tmp_path), "MARGO")


def count_tables(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by one whenever the scoring tables are computed."""
    computed: list[int] = []
    original = experiment.model.scoring_tables

    def counting():
        computed.append(1)
        return original()

    monkeypatch.setattr(experiment.model, "scoring_tables", counting)
    return computed


def test_an_evaluation_computes_the_tables_once(tmp_path, monkeypatch):
    experiment = prepare(random_world().write(tmp_path), "MARGO", eval_batch_size=2 * 16)
    computed = count_tables(experiment, monkeypatch)
    valid = experiment.loaders[1]
    assert len(valid) == 10
    experiment.trainer().evaluate_unrounded(valid)
    assert len(computed) == 1


def step(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def replace_values(model):
    """Do to the parameters what `.to()` and `.cuda()` do, with other values to be seen by."""
    model._apply(lambda tensor: tensor + 0.5 if isinstance(tensor, torch.nn.Parameter) else tensor)


def load_other_state(model):
    model.load_state_dict({name: value + 0.5 for name, value in model.state_dict().items()})


@pytest.mark.parametrize(
    "change",
    [
        step,
        load_other_state,
        replace_values,
        lambda model: model.begin_stage("stage1"),
        lambda model: model.load_other_parameter({"stage": "stage1"}),
    ],
    ids=[
        "an optimiser's step",
        "load_state_dict",
        "a move",
        "another stage",
        "load_other_parameter",
    ],
)
def test_scores_follow_a_change_without_a_word_to_the_model(experiment, change):
    before = experiment.all_scores()
    change(experiment.model)
    changed = experiment.scores_now()
    assert not np.allclose(before, changed)
    np.testing.assert_array_equal(experiment.all_scores(), changed)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_scores_follow_a_move_to_another_device(experiment):
    before = experiment.all_scores()
    experiment.model.cuda()
    with torch.no_grad():
        users = torch.arange(experiment.dataset.user_num, device="cuda")
        scores = experiment.model.full_sort_predict({experiment.model.USER_ID: users})
    np.testing.assert_allclose(scores.view(before.shape).cpu(), before, rtol=1e-4, atol=1e-5)


def test_training_sees_no_stored_tables(experiment):
    experiment.all_scores()
    experiment.model.train()
    pairs = experiment.interaction(user=[1, 2], item=[3, 4])
    assert experiment.model.predict(pairs).requires_grad


def test_a_copy_scores_alike_and_is_independent(experiment):
    experiment.model.predict(experiment.interaction(user=[1], item=[2]))  # tables with gradients
    before = experiment.all_scores()
    copied = copy.deepcopy(experiment.model)
    original, experiment.model = experiment.model, copied
    np.testing.assert_array_equal(experiment.all_scores(), before)
    step(copied)
    experiment.model = original
    np.testing.assert_array_equal(experiment.all_scores(), before)


def test_the_state_dict_holds_parameters_only(experiment):
    names = {name for name, _ in experiment.model.named_parameters()}
    assert set(experiment.model.state_dict()) == names


def test_features_are_aligned_by_token(experiment, tmp_path):
    inputs = dense_inputs(experiment, random_world())
    for matrix, expected in zip(experiment.model.features, inputs.features, strict=True):
        np.testing.assert_allclose(matrix, expected, rtol=1e-6)
    np.testing.assert_array_equal(experiment.model.modality_mask, inputs.mask)


def test_an_unknown_modality_is_an_error_that_lists_those_there_are(tmp_path):
    root = random_world().write(tmp_path)
    with pytest.raises(FeatureError, match=r"'video'.*image, text"):
        prepare(root, "MARGO", modalities=["video"])


def test_an_unknown_key_is_an_error_that_names_the_nearest(tmp_path):
    root = random_world().write(tmp_path)
    with pytest.raises(ConfigError, match=r"`alhpa`.*alpha"):
        prepare(root, "MARGO", alhpa=1.0)


def test_an_epoch_begins_with_training_where_the_trainer_does_not_say_so(tmp_path, monkeypatch):
    """RecBole's plain Trainer only calls `train()`; ours announces epochs and is counted once."""
    experiment = prepare(random_world().write(tmp_path), "FREEDOM", epochs=2)
    begun: list[int] = []
    monkeypatch.setattr(experiment.model, "begin_epoch", begun.append)
    Trainer(experiment.config, experiment.model).fit(*experiment.loaders[:2], verbose=False)
    assert begun == [0, 1]
    begun.clear()
    experiment.trainer().fit(*experiment.loaders[:2], verbose=False)
    assert begun == [0, 1]
