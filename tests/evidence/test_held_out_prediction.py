import numpy as np
import pytest

from recbole_margo.evidence import held_out_prediction as module
from recbole_margo.evidence.held_out_prediction import held_out_prediction


def refit_without_each_row(features, targets, penalty):
    """Ridge regression with a free intercept, fitted once for each row left out, in float64."""
    x = features.astype(np.float64)
    scale = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    gram = x.T @ x if x.shape[0] >= x.shape[1] else x @ x.T
    values = np.linalg.eigvalsh(gram)
    strength = penalty * values[values > 1e-5 * values[-1]].mean()
    predicted = np.empty_like(targets, dtype=np.float64)
    beyond = np.empty_like(predicted)
    for row in range(len(x)):
        kept = np.arange(len(x)) != row
        design = np.column_stack([np.ones(kept.sum()), x[kept]])
        ridge = np.diag([0.0, *[strength] * x.shape[1]])
        solved = np.linalg.solve(design.T @ design + ridge, design.T @ targets[kept])
        predicted[row] = np.concatenate([[1.0], x[row]]) @ solved
        beyond[row] = predicted[row] - targets[kept].mean(axis=0)
    return predicted, beyond


@pytest.mark.parametrize("shape", [(40, 7), (25, 60), (30, 30)], ids=["tall", "wide", "square"])
def test_each_row_is_predicted_by_a_fit_without_it(shape):
    random = np.random.default_rng(3)
    features = random.normal(2.0, 3.0, shape).astype(np.float32)
    targets = (
        features[:, :3] @ random.normal(size=(3, 5)) + random.normal(size=(shape[0], 5))
    ).astype(np.float32)
    found = held_out_prediction(features, targets)
    _, expected = refit_without_each_row(features, targets, found.penalty)
    np.testing.assert_allclose(found.predicted, expected, rtol=2e-3, atol=2e-3)


def test_the_penalty_has_the_smallest_error_of_its_neighbours():
    random = np.random.default_rng(5)
    features = random.normal(size=(60, 20)).astype(np.float32)
    targets = (features @ random.normal(size=(20, 4)) + 6 * random.normal(size=(60, 4))).astype(
        np.float32
    )
    found = held_out_prediction(features, targets)

    def error(penalty):
        return ((targets - refit_without_each_row(features, targets, penalty)[0]) ** 2).mean()

    best = error(found.penalty)
    assert best <= error(found.penalty * 10**0.5)
    assert best <= error(found.penalty / 10**0.5)
    assert found.explained == pytest.approx(1 - best / targets.var(axis=0).mean(), abs=1e-3)


def test_blocks_and_row_types_change_nothing(monkeypatch):
    random = np.random.default_rng(7)
    features = random.normal(size=(50, 12)).astype(np.float16)
    targets = random.normal(size=(50, 3)).astype(np.float32)
    whole = held_out_prediction(features.astype(np.float32), targets)
    monkeypatch.setattr(module, "BLOCK_CELLS", 60)
    blocked = held_out_prediction(features, targets)
    assert blocked.penalty == whole.penalty
    np.testing.assert_allclose(blocked.predicted, whole.predicted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("columns", [6, 70], ids=["tall", "wide"])
def test_only_the_named_items_take_part_and_the_features_stay_as_they_are(columns):
    random = np.random.default_rng(8)
    features = random.normal(size=(50, columns)).astype(np.float32)
    items = random.permutation(50)[:30]
    targets = random.normal(size=(30, 4)).astype(np.float32)
    before = features.copy(), targets.copy()
    found = held_out_prediction(features, targets, items=items)
    expected = held_out_prediction(features[items], targets)
    np.testing.assert_array_equal(found.predicted, expected.predicted)
    np.testing.assert_array_equal(features, before[0])
    np.testing.assert_array_equal(targets, before[1])


def test_many_rows_choose_the_penalty_by_some_of_them(monkeypatch):
    random = np.random.default_rng(9)
    features = random.normal(size=(80, 6)).astype(np.float32)
    targets = (features @ random.normal(size=(6, 4))).astype(np.float32)
    monkeypatch.setattr(module, "ROWS_THAT_CHOOSE", 30)
    found = held_out_prediction(features, targets)
    _, expected = refit_without_each_row(features, targets, found.penalty)
    np.testing.assert_allclose(found.predicted, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("features", [np.ones((6, 4)), np.zeros((6, 1))], ids=["constant", "zero"])
def test_features_that_do_not_vary_predict_nothing(features):
    targets = np.arange(12.0, dtype=np.float32).reshape(6, 2)
    found = held_out_prediction(features.astype(np.float32), targets)
    np.testing.assert_array_equal(found.predicted, 0)
    assert found.explained == 0.0


def test_predictions_far_below_the_targets_keep_their_digits():
    random = np.random.default_rng(11)
    features = random.normal(size=(300, 5)).astype(np.float32)
    targets = (1 + random.normal(size=(300, 4))).astype(np.float32)
    found = held_out_prediction(features, targets)
    _, expected = refit_without_each_row(features, targets, found.penalty)
    np.testing.assert_allclose(found.predicted, expected, rtol=0.02, atol=0.02 * expected.std())
