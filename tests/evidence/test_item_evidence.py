import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score

from recbole_margo.evidence import item_evidence as module
from recbole_margo.evidence.held_out_prediction import held_out_prediction
from recbole_margo.evidence.item_evidence import content_score, item_evidence
from recbole_margo.evidence.item_targets import item_targets


def world(users=900, items=400, each=25, seed=0):
    """Users who take the items nearest to their taste; features that show an item, with noise."""
    random = np.random.default_rng(seed)
    item = random.normal(size=(items, 8))
    wanted = random.normal(size=(users, 8)) @ item.T + random.normal(size=(users, items))
    taken = np.argsort(-wanted, axis=1)[:, :each]
    interactions = sp.csr_matrix(
        (np.ones(taken.size), (np.repeat(np.arange(users), each), taken.ravel())), (users, items)
    )
    features = item @ random.normal(size=(8, 24)) + random.normal(size=(items, 24))
    return interactions, features.astype(np.float32)


def swapped(features, share, seed=0):
    random = np.random.default_rng(seed)
    rows = random.choice(len(features), int(share * len(features)), replace=False)
    moved = features.copy()
    moved[rows] = features[np.roll(rows, 1)]
    return moved, np.isin(np.arange(len(features)), rows)


def test_targets_are_the_projected_co_occurrence_without_the_diagonal():
    interactions, _ = world(200, 40, each=5)
    dense = interactions.toarray()
    user, item = np.maximum(dense.sum(axis=1), 1), np.maximum(dense.sum(axis=0), 1)
    scaled = dense / np.sqrt(user[:, None] * item[None, :])
    together = scaled.T @ scaled
    together -= np.diag(np.diag(together))
    gaussian = np.random.default_rng(4).standard_normal((40, 50), dtype=np.float32)
    _, _, right = np.linalg.svd(scaled, full_matrices=False)
    found = item_targets(interactions, singular_vectors=8, random_vectors=50, seed=4)
    assert found.shape == (40, 58)

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    random_part = unit(together @ gaussian) / np.sqrt(2)
    np.testing.assert_allclose(found[:, 8:], random_part, atol=1e-5)
    # Singular vectors are known up to rotation: their products are what counts.
    singular_part = unit(together @ right[:8].T)
    np.testing.assert_allclose(
        found[:, :8] @ found[:, :8].T, singular_part @ singular_part.T / 2, atol=1e-4
    )


def test_an_item_without_company_has_no_target():
    rows = np.zeros((5, 4))
    rows[0, :2] = rows[1, :2] = 1
    rows[2, 2] = 1  # its user knows nothing else; item 3 has no user at all
    found = item_targets(sp.csr_matrix(rows))
    np.testing.assert_array_equal(found.any(axis=1), [True, True, False, False])


def test_rows_that_have_nothing_to_do_with_items_score_0_with_variance_1():
    interactions, features = world()
    targets = item_targets(interactions)
    # All rows moved, and three tenths of them: then the regression of the others still works.
    scores, p_values = [], []
    for share, seed in ((1.0, 1), (1.0, 2), (0.3, 3), (0.3, 4), (0.3, 5), (0.3, 6)):
        moved, chosen = swapped(features, share, seed)
        found = content_score(moved, np.ones(len(moved), bool), targets)
        scores.append(found.scores[chosen & found.known])
        p_values.append(found.p_values[chosen & found.known])
        assert abs(scores[-1].mean()) < 0.3
        assert 0.75 < scores[-1].std() < 1.25
    everything = np.concatenate(p_values)
    for level in (0.05, 0.2, 0.5, 0.8):
        assert (everything <= level).mean() == pytest.approx(level, abs=0.06)


def test_noise_explains_nothing_and_is_calibrated():
    interactions, features = world()
    targets = item_targets(interactions)
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(size=features.shape).astype(np.float32)
        found = content_score(noise, np.ones(len(noise), bool), targets)
        assert abs(found.scores.mean()) < 0.3
        assert found.scores.std() == pytest.approx(1.0, abs=0.15)
        assert found.p_values.mean() == pytest.approx(0.5, abs=0.1)
        assert abs(held_out_prediction(noise, targets).explained) < 0.01


def test_swapped_rows_are_found():
    interactions, features = world()
    targets = item_targets(interactions)
    moved, chosen = swapped(features, 0.3)
    found = item_evidence(interactions, moved, np.ones(len(moved), bool), targets)
    assert roc_auc_score(chosen, -found.content.scores) > 0.95
    assert roc_auc_score(chosen, -found.scores) > 0.95
    belongs = found.q_values <= 0.05
    assert belongs[~chosen].mean() > 0.6
    assert chosen[belongs].mean() < 0.1  # 5 % false discoveries
    assert found.fitting.low <= found.fitting.estimate <= found.fitting.high
    assert found.fitting.estimate == pytest.approx(0.7, abs=0.1)


def test_the_share_that_fits_is_about_none_where_nothing_fits():
    interactions, features = world()
    noise = np.random.default_rng(5).normal(size=features.shape).astype(np.float32)
    found = item_evidence(
        interactions, noise, np.ones(len(noise), bool), item_targets(interactions)
    )
    assert found.fitting.estimate < 0.2
    assert (found.q_values <= 0.05).sum() <= 2


def test_scores_and_p_values_compare_with_every_other_target(monkeypatch):
    interactions, features = world(300, 60, each=6)
    targets = item_targets(interactions)
    assert targets.any(axis=1).all()
    everything = np.ones(60, bool)
    found = content_score(features, everything, targets)
    own = targets - targets.mean(axis=0)
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    predicted = held_out_prediction(features, targets).predicted
    guessed = predicted / np.linalg.norm(predicted, axis=1, keepdims=True)
    cosines = guessed @ own.T
    z = (np.diag(cosines) - cosines.mean(axis=1)) / cosines.std(axis=1)
    np.testing.assert_allclose(found.scores, z, atol=1e-3)
    better = (cosines >= np.diag(cosines)[:, None]) & ~np.eye(60, dtype=bool)
    np.testing.assert_allclose(found.p_values, (1 + better.sum(axis=1)) / 60, atol=1.01 / 60)
    monkeypatch.setattr(module, "OTHERS_COMPARED", 20)
    sampled = content_score(features, everything, targets)
    assert np.corrcoef(sampled.p_values, found.p_values)[0, 1] > 0.9


def test_nothing_is_known_of_missing_rows_and_of_items_without_company():
    interactions, features = world(300, 50, each=6)
    interactions = interactions.tolil()
    interactions[:, 7] = 0
    interactions = interactions.tocsr()
    present = np.ones(50, bool)
    present[3] = False
    features[3] = np.nan
    found = item_evidence(
        interactions, np.nan_to_num(features), present, item_targets(interactions)
    )
    for item in (3, 7):
        assert not found.content.known[item]
        assert found.content.scores[item] == 0 == found.scores[item]
        assert found.content.p_values[item] == 1 == found.q_values[item]
    assert np.isfinite(found.scores).all()
    nobody = item_evidence(interactions, features, np.zeros(50, bool), item_targets(interactions))
    assert not nobody.content.known.any()
    assert nobody.fitting.items == 0
