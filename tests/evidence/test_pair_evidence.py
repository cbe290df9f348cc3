"""The evidence of training pairs against a loop that follows the paper's equations."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_margo.evidence.pair_evidence import PairEvidence, sample_negatives
from recbole_margo.testing import MISSING, Experiment, World, prepare, random_world

NEGATIVES, TAU = 7, 0.5


def trained(root: Path, world: World, **settings: object) -> Experiment:
    """Return MARGO with random parameters, and weights that are far from even."""
    built = prepare(world.write(root), "MARGO", tau=TAU, **settings)
    built.randomize()
    built.model.eval()
    return built


def loop(model: object, negatives: np.ndarray, users: np.ndarray, items: np.ndarray) -> list:
    """Return triplets, sum of c, sum of c z and contradictions of each pair, by Eq. 2-7."""
    with torch.no_grad():
        user_table, item_table = (table.double().numpy() for table in model.embeddings())
        weights = model.item_weights().double().numpy()
    mask = model.modality_mask.numpy()
    sums = []
    for user, item, of_pair in zip(users, items, negatives, strict=True):
        triplets, total, vector, against = 0, 0.0, np.zeros(mask.shape[1]), np.zeros(mask.shape[1])
        for other in of_pair:
            if other == 0 or not mask[item].any():
                continue
            triplets += 1
            r_i = (user_table[user] * item_table[item]).sum(axis=1)
            r_j = (user_table[user] * item_table[other]).sum(axis=1)
            d = r_i - r_j
            supporting = [
                m for m in range(len(d)) if mask[item, m] and mask[other, m] and d[m] >= 0
            ]
            against += mask[item] & mask[other] & (d < 0)
            margin = (weights[item] * r_i).sum() - (weights[other] * r_j).sum()
            if not supporting or margin <= 0:
                continue
            c = math.tanh(margin / TAU)
            powers = {m: math.exp(d[m] - max(d[supporting])) for m in supporting}
            total += c
            for m in supporting:
                vector[m] += c * powers[m] / sum(powers.values())
        sums.append((triplets, total, vector, against))
    return sums


@pytest.mark.parametrize("missing", list(MISSING))
def test_evidence_is_that_of_the_equations(tmp_path: Path, missing: str) -> None:
    model = trained(tmp_path, random_world().without(MISSING[missing])).model
    found = PairEvidence.of_models([model], NEGATIVES, seed=3)
    mask = model.modality_mask.numpy()
    negatives = sample_negatives(
        model.interactions, mask, found.users, found.items, NEGATIVES, seed=3
    )
    expected = loop(model, negatives, found.users, found.items)
    np.testing.assert_array_equal(found.triplets, [row[0] for row in expected])
    np.testing.assert_allclose(found.confidence, [row[1] for row in expected], atol=2e-4)
    np.testing.assert_allclose(found.reliability, [row[2] for row in expected], atol=2e-4)
    np.testing.assert_array_equal(found.contradictions, [row[3] for row in expected])
    assert found.confidence.sum() > 1


def test_blocks_do_not_change_the_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained(tmp_path, random_world(3)).model
    whole = PairEvidence.of_models([model], NEGATIVES, seed=0)
    monkeypatch.setattr("recbole_margo.evidence.pair_evidence.BLOCK_NUMBERS", 1)
    for name, part in vars(PairEvidence.of_models([model], NEGATIVES, seed=0)).items():
        np.testing.assert_allclose(part, vars(whole)[name], rtol=1e-5, atol=1e-6)


def test_several_models_add_their_triplets(tmp_path: Path) -> None:
    one, two = (trained(tmp_path, random_world(), seed=seed).model for seed in (1, 2))
    with torch.no_grad():
        two.weight_logits.neg_()
    both = PairEvidence.of_models([one, two], NEGATIVES, seed=0)
    parts = [PairEvidence.of_models([model], NEGATIVES, seed=0) for model in (one, two)]
    for name in ("triplets", "confidence", "reliability", "contradictions"):
        sums = sum(vars(part)[name] for part in parts)
        np.testing.assert_allclose(vars(both)[name], sums, rtol=1e-6)


def test_every_training_pair_counts_once_and_pad_never(tmp_path: Path) -> None:
    world = random_world()
    experiment = trained(tmp_path, world)
    found = PairEvidence.of_models([experiment.model], NEGATIVES, seed=0)
    pairs = zip(found.users, found.items, strict=True)
    tokens = {(experiment.user_tokens[u], experiment.item_tokens[i]) for u, i in pairs}
    assert tokens == set(world.splits["train"])
    assert len(found.items) == len(tokens)
    assert found.users.min() > 0
    assert (np.diff(found.items) >= 0).all()


def test_negatives_are_unknown_and_have_the_modalities_of_the_item() -> None:
    random = np.random.default_rng(0)
    known = sp.csr_matrix(random.random((30, 40)) < 0.3).tolil()
    known[0], known[:, 0] = 0, 0
    known = known.tocsr().astype(np.float32)
    mask = random.random((40, 3)) < 0.7
    mask[0] = False
    users, items = known.nonzero()
    drawn = sample_negatives(known, mask, users, items, 50, seed=1)
    assert drawn.min() > 0
    assert not np.asarray(known[np.repeat(users, 50), drawn.ravel()]).any()
    assert (mask[drawn] >= mask[items][:, None]).all()
    np.testing.assert_array_equal(drawn, sample_negatives(known, mask, users, items, 50, seed=1))


def test_negatives_are_uniform_over_the_candidates() -> None:
    known = sp.csr_matrix(np.array([[0] * 6, [0, 1, 1, 0, 0, 0]], dtype=np.float32))
    mask = np.array([[0, 0], [1, 0], [1, 1], [1, 0], [1, 1], [0, 1]], dtype=bool)
    drawn = sample_negatives(known, mask, np.array([1]), np.array([1]), 20_000, seed=0)
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [3, 4]
    assert abs(counts[0] / 20_000 - 0.5) < 0.02


def test_a_pair_without_candidates_has_no_triplets_and_a_rare_one_is_found() -> None:
    items = 3_000
    known = np.ones((3, items), dtype=np.float32)
    known[:, 0], known[0] = 0, 0
    known[2, 1234] = 0
    mask = np.ones((items, 1), dtype=bool)
    mask[0] = False
    users = np.array([1, 2])
    drawn = sample_negatives(sp.csr_matrix(known), mask, users, np.array([5, 5]), 4, seed=0)
    assert drawn.tolist() == [[0] * 4, [1234] * 4]
