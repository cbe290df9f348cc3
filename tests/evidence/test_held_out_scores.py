import numpy as np
import pytest
import torch
from test_item_evidence import swapped, world

from recbole_margo.evidence.content_score import content_score
from recbole_margo.evidence.held_out_scores import HeldOutScores
from recbole_margo.evidence.item_targets import item_targets


def build(interactions, *features, mask=None, temperature=1.0):
    mask = torch.ones(len(features[0]), len(features), dtype=torch.bool) if mask is None else mask
    return HeldOutScores(interactions, [torch.from_numpy(f) for f in features], mask, temperature)


def test_differences_equal_the_dense_formula():
    interactions, features = world(200, 40, each=5)
    moved, _ = swapped(features, 0.5)
    scores = build(interactions, features, moved)
    dense, targets = interactions.toarray(), item_targets(interactions)
    users = dense @ targets / dense.sum(axis=1, keepdims=True)
    everything = np.ones(40, bool)
    by_modality = [
        users @ content_score(rows, everything, targets).predicted.T for rows in (features, moved)
    ]
    random = np.random.default_rng(1)
    user = random.integers(200, size=5000)
    i, j = random.integers(40, size=(2, 5000))
    expected = np.stack([s[user, i] - s[user, j] for s in by_modality], axis=1)
    found = scores.differences(*(torch.from_numpy(ids) for ids in (user, i, j))).numpy()
    ratio = expected / found
    for m in range(2):
        known = np.abs(found[:, m]) > 1e-2
        np.testing.assert_allclose(ratio[known, m], np.median(ratio[known, m]), rtol=1e-3)
    # In units of their spread.
    np.testing.assert_allclose(found.std(axis=0), 1.0, rtol=0.05)
    halved = build(interactions, features, moved, temperature=2.0)
    found_halved = halved.differences(*(torch.from_numpy(ids) for ids in (user, i, j))).numpy()
    np.testing.assert_allclose(found_halved, found / 2, rtol=1e-5, atol=1e-7)


def test_right_rows_lean_to_the_items_of_a_user_and_swapped_ones_do_not():
    interactions, features = world()
    moved, chosen = swapped(features, 0.5)
    scores = build(interactions, moved)
    user, item = (torch.from_numpy(ids.astype(np.int64)) for ids in interactions.nonzero())
    other = torch.randint(400, item.shape, generator=torch.Generator().manual_seed(0))
    leaning = scores.differences(user, item, other)[:, 0].numpy()
    of_moved = chosen[item.numpy()]
    assert leaning[~of_moved].mean() > 0.5
    assert abs(leaning[of_moved].mean()) < 0.3


def test_pairs_with_an_item_of_which_nothing_is_known_are_not_usable():
    interactions, features = world(300, 50, each=6)
    interactions = interactions.tolil()
    interactions[:, 7] = 0
    mask = torch.ones(50, 2, dtype=torch.bool)
    mask[3, 0] = False  # misses one modality, and what it has is known
    scores = build(interactions.tocsr(), features, features, mask=mask)
    first, second = torch.tensor([3, 7, 1, 7]), torch.tensor([1, 1, 7, 3])
    assert scores.usable(first, second).tolist() == [True, False, False, False]


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_features_that_do_not_vary_leave_no_evidence(value):
    interactions, features = world(300, 50, each=6)
    scores = build(interactions, np.full_like(features, value))
    ids = torch.arange(50)
    assert not scores.usable(ids, ids).any()
    assert torch.equal(scores.differences(ids, ids, ids.flip(0)), torch.zeros(50, 1))
