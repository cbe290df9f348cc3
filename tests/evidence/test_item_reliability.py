import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from test_item_evidence import swapped, world

from recbole_margo.evidence.item_evidence import item_evidence
from recbole_margo.evidence.item_reliability import ItemReliability
from recbole_margo.evidence.item_targets import item_targets


def build(interactions, *features, mask=None, temperature=1.0):
    mask = torch.ones(len(features[0]), len(features), dtype=torch.bool) if mask is None else mask
    matrices = [torch.from_numpy(rows) for rows in features]
    return ItemReliability(interactions, matrices, mask, temperature)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_vectors_are_the_softmax_of_log_odds(temperature):
    interactions, features = world(200, 40, each=5)
    moved, _ = swapped(features, 0.5)
    found = build(interactions, features, moved, temperature=temperature)
    everything, targets = np.ones(40, bool), item_targets(interactions)
    evidence = [
        item_evidence(interactions, rows, everything, targets) for rows in (features, moved)
    ]
    known = evidence[0].content.known
    scores = np.stack([each.scores for each in evidence], axis=1)
    shift = scores[known].mean(axis=0)
    share = np.clip([each.fitting.estimate for each in evidence], 0.05, 0.95)
    # log N(s; mu, 1) / N(s; 0, 1), after the odds of a row of the modality
    odds = (scores**2 - (scores - shift) ** 2) / 2 + np.log(share / (1 - share))
    raw = np.exp(odds / temperature)
    np.testing.assert_array_equal(found.known, known)
    expected = np.where(known[:, None], raw / raw.sum(axis=1, keepdims=True), 0.5)
    np.testing.assert_allclose(found.vectors, expected, rtol=1e-5)
    vectors, which = found(torch.tensor([[3, 5], [7, 3]]))
    assert torch.equal(vectors[1, 0], found.vectors[7])
    assert which.shape == (2, 2)


def test_a_modality_that_was_swapped_loses_to_one_that_was_not():
    interactions, features = world()
    moved, chosen = swapped(features, 0.3)
    other, _ = swapped(features, 1.0, seed=1)
    vectors = build(interactions, moved, features).vectors.numpy()
    assert roc_auc_score(chosen, vectors[:, 1]) > 0.9
    # A modality that says nothing of any item is the less trusted one throughout.
    vectors = build(interactions, features, other).vectors.numpy()
    assert vectors[:, 1].mean() < 0.1
    assert roc_auc_score(chosen, build(interactions, moved, other).vectors[:, 1]) > 0.9


def test_what_an_item_misses_has_no_part_and_nothing_is_known_without_training():
    interactions, features = world(300, 50, each=6)
    interactions = interactions.tolil()
    interactions[:, 7] = 0
    mask = torch.ones(50, 2, dtype=torch.bool)
    mask[3, 0] = False  # misses one modality, and what it has is known
    mask[5] = False
    found = build(interactions.tocsr(), features, features, mask=mask)
    assert found.known[[3, 1]].all() and not found.known[[5, 7]].any()
    assert found.vectors[[3, 7, 5]].tolist() == [[0, 1], [0.5, 0.5], [0.5, 0.5]]
    assert torch.allclose(found.vectors.sum(dim=1), torch.ones(50))


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_features_that_do_not_vary_leave_no_evidence(value):
    interactions, features = world(300, 50, each=6)
    found = build(interactions, features, np.full_like(features, value))
    assert not found.known.any()
    assert (found.vectors == 0.5).all()
