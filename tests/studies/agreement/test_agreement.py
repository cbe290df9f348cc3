"""Section III-D of MARGO on one batch: the gradients against hand, autograd and closed form."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_margo.model.margo import MARGO
from recbole_margo.studies.agreement.replay import COORDINATES, batch_agreement, weight_gradients
from recbole_margo.testing import prepare, random_world

WORLD = random_world(3).without({"image": ("i1", "i4"), "text": ("i2", "i4"), "audio": ("i4",)})
TAU = 0.7


def a_model(logits: Any, mask: Any, stop_gradient: bool = True, tau: float = TAU) -> Any:
    """Return what `batch_agreement` needs of a MARGO, with MARGO's own losses."""
    logits = torch.as_tensor(logits)
    model = SimpleNamespace(
        weight_logits=logits,
        modality_mask=torch.as_tensor(mask),
        n_items=len(logits),
        hyperparameters=SimpleNamespace(tau=tau, stop_gradient=stop_gradient, evidence_scale="raw"),
    )
    model.weighted_losses = MARGO.weighted_losses.__get__(model)
    model.held_out_evidence = lambda positive, negative: None
    return model


def one_triplet(weights: Any, scores: Any, stop_gradient: bool = True) -> Any:
    """Measure a triplet whose items have the same weights and whose negative scores 0."""
    logits = torch.log(torch.tensor([weights, weights], dtype=torch.float64))
    model = a_model(logits, torch.ones(2, 2, dtype=torch.bool), stop_gradient, tau=1.0)
    positive_scores = torch.tensor([scores], dtype=torch.float64)
    return batch_agreement(
        model, torch.tensor([0]), torch.tensor([1]), positive_scores, torch.zeros(1, 2)
    )


@pytest.fixture
def batch() -> Any:
    """Return mask, logits, ids and scores of a batch in which items come more than once."""
    random = np.random.default_rng(3)
    mask = random.random((6, 3)) < 0.8
    mask[5] = False
    logits = random.normal(size=(6, 3)) * 2
    positive, negative = random.integers(0, 6, (2, 25))
    return SimpleNamespace(
        mask=mask,
        logits=logits.astype(np.float32),
        positive=positive,
        negative=(positive + 1 + negative % 5) % 6,
        r_i=random.normal(size=(25, 3)) + 0.4,
        r_j=random.normal(size=(25, 3)),
    )


def by_hand(batch: Any, stop_gradient: bool) -> dict[str, Any]:
    """Return Eq. 3-8 differentiated on paper, triplet by triplet: gradients [25, 2, 6, 3]."""
    raw = np.exp(batch.logits.astype(np.float64)) * batch.mask
    nothing = ~batch.mask.any(axis=1)
    raw[nothing] = 1
    w = raw / raw.sum(axis=1, keepdims=True)
    of_triplets = np.zeros((len(batch.r_i), 2, *w.shape))
    for t, (i, j) in enumerate(zip(batch.positive, batch.negative, strict=True)):
        d = batch.r_i[t] - batch.r_j[t]
        supports = batch.mask[i] & batch.mask[j] & (d >= 0)
        margin = w[i] @ batch.r_i[t] - w[j] @ batch.r_j[t]
        slope = 1 / (1 + math.exp(margin))
        of_triplets[t, 0, i] = -slope * batch.r_i[t]
        of_triplets[t, 0, j] = slope * batch.r_j[t]
        if supports.any() and margin > 0:
            z = np.where(supports, np.exp(d), 0)
            z /= z.sum()
            c = math.tanh(margin / TAU)
            both = np.where(supports, w[i] + w[j], 1)
            of_triplets[t, 1, i] = of_triplets[t, 1, j] = -c * z / both
            if not stop_gradient:
                divergence = sum(
                    z[m] * math.log(2 * z[m] / both[m]) for m in range(3) if supports[m]
                )
                by_margin = divergence * (1 - c**2) / TAU
                of_triplets[t, 1, i] += by_margin * batch.r_i[t]
                of_triplets[t, 1, j] -= by_margin * batch.r_j[t]
    of_triplets *= batch.mask
    counts = np.maximum(batch.mask.sum(axis=1, keepdims=True), 1)
    simplex = (of_triplets - of_triplets.sum(axis=-1, keepdims=True) / counts) * batch.mask
    logits = w * (of_triplets - (w * of_triplets).sum(axis=-1, keepdims=True)) * batch.mask
    return {"weights": of_triplets, "simplex": simplex, "logits": logits}


def measured(batch: Any, stop_gradient: bool) -> Any:
    model = a_model(batch.logits, batch.mask, stop_gradient)
    tensors = (batch.positive, batch.negative, batch.r_i, batch.r_j)
    return batch_agreement(model, *(torch.as_tensor(tensor) for tensor in tensors))


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_cosines_and_conflicts_are_those_of_the_equations_differentiated_by_hand(
    batch, stop_gradient
):
    found = measured(batch, stop_gradient)
    assert found.triplets == 25
    silent = None
    for index, gradients in enumerate(by_hand(batch, stop_gradient).values()):
        products = (gradients[:, 0] * gradients[:, 1]).sum(axis=(1, 2))
        assert found.conflicts[index] == (products < -1e-12).sum()
        one, other = (gradients[:, loss].sum(axis=0).ravel() for loss in (0, 1))
        cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        # Weights are taken in the single precision of training.
        assert found.cosine[index] == pytest.approx(cosine, abs=1e-6)
        assert found.agrees[index] == (cosine >= 0)
        if silent is None:
            silent = (gradients[:, 1] == 0).all(axis=(1, 2)).sum()
    assert found.silent == silent > 0
    assert (found.conflicts[0] == 0) == stop_gradient


def test_the_product_of_a_triplet_has_the_closed_form_of_the_paper(batch):
    gradients = by_hand(batch, True)["weights"]
    raw = np.exp(batch.logits.astype(np.float64)) * batch.mask
    w = raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-300)
    for t, (i, j) in enumerate(zip(batch.positive, batch.negative, strict=True)):
        d = batch.r_i[t] - batch.r_j[t]
        supports = batch.mask[i] & batch.mask[j] & (d >= 0)
        if not supports.any():
            continue
        z = np.where(supports, np.exp(d), 0) / np.exp(d)[supports].sum()
        margin = w[i] @ batch.r_i[t] - w[j] @ batch.r_j[t]
        factor = max(math.tanh(margin / TAU), 0) / (1 + math.exp(margin))
        expected = factor * sum(z[m] * d[m] / (w[i, m] + w[j, m]) for m in range(3) if supports[m])
        assert (gradients[t, 0] * gradients[t, 1]).sum() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "settings",
    [{"stop_gradient": True}, {"stop_gradient": False}, {"evidence": "held_out"}],
    ids=str,
)
def test_what_is_measured_on_the_logits_is_the_gradient_of_training(tmp_path, settings):
    experiment = prepare(WORLD.write(tmp_path), "MARGO", alpha=2.0, **settings)
    experiment.randomize()
    model = experiment.model
    model.begin_stage("stage2")
    with torch.no_grad():
        model.weight_logits.normal_()
    found = []
    model.on_triplets = lambda *triplets: found.append(batch_agreement(model, *triplets))
    model.train()
    ranking, calibration, _ = model.calculate_loss(experiment.batch(experiment.random_triplets()))
    one, other = (
        torch.autograd.grad(term, model.weight_logits, retain_graph=True)[0].double().flatten()
        for term in (ranking, calibration)
    )
    cosine = float(one @ other / one.norm() / other.norm())
    assert found[0].cosine[COORDINATES.index("logits")] == pytest.approx(cosine, abs=1e-5)
    assert abs(cosine) < 0.99


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 20), st.floats(0.01, 30))
def test_no_triplet_of_margo_is_in_conflict_on_the_weights(seed, tau, spread):
    random = np.random.default_rng(seed)
    mask = random.random((8, 3)) < 0.7
    logits = (spread * random.normal(size=(8, 3))).astype(np.float32)
    positive = random.integers(0, 8, 12)
    found = batch_agreement(
        a_model(logits, mask, tau=tau),
        torch.as_tensor(positive),
        torch.as_tensor((positive + random.integers(1, 8, 12)) % 8),
        *torch.as_tensor(spread * random.normal(size=(2, 12, 3))),
    )
    assert found.conflicts[0] == 0
    assert np.nanmax(np.abs(found.cosine), initial=0) <= 1 + 1e-12
    assert (found.agrees | (found.cosine < 0)).all()


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 60))
def test_gradients_in_each_coordinates_are_those_of_autograd(seed, spread):
    random = torch.Generator().manual_seed(seed)
    mask = torch.rand(9, 4, generator=random) < 0.6
    logits = spread * torch.randn(9, 4, generator=random)
    direction = torch.randn(9, 4, generator=random, dtype=torch.float64)
    logits = logits.double().requires_grad_()
    weights = torch.softmax(
        logits.masked_fill(~(mask | ~mask.any(dim=1, keepdim=True)), -torch.inf), dim=1
    )
    of_logits = torch.autograd.grad((weights * direction).sum(), logits)[0].masked_fill(~mask, 0)
    weights = weights.detach()
    # Whatever stands at a missing modality must not matter.
    by_log_weights = (weights * direction).masked_fill(~mask, 7.0)
    found = weight_gradients(weights.log(), by_log_weights, mask)
    np.testing.assert_allclose(found["logits"], of_logits, atol=1e-12)
    free = mask & (weights > 0)
    np.testing.assert_allclose(found["weights"], direction.masked_fill(~free, 0), rtol=1e-9)
    # The projection is the nearest gradient whose steps keep the sum of the free weights.
    assert found["simplex"].sum(dim=1).abs().max() < 1e-12
    left = (found["weights"] - found["simplex"])[free.any(dim=1)]
    for row, usable in zip(left, free[free.any(dim=1)], strict=True):
        assert row[usable].std(unbiased=False) < 1e-12


def test_extreme_logits_leave_finite_numbers():
    logits = np.array([[1e4, -1e4], [-1e4, 1e4], [0, 300]], dtype=np.float32)
    model = a_model(logits, np.ones((3, 2), dtype=bool))
    ids = torch.tensor([0, 1, 2])
    scores = torch.tensor([[1.0, 2], [0.5, -1], [3, 1]])
    found = batch_agreement(model, ids, ids.roll(1), scores, scores.roll(1, 0) - 1)
    assert np.isfinite(found.cosine).all()


def test_without_the_stop_gradient_the_confidence_pulls_against_the_ranking():
    # The right modality has little weight: z is far from w, c is small. Making c smaller still is
    # the cheapest way to a lower L_cal, and that is a smaller margin.
    assert one_triplet([0.01, 0.99], [4, 0]).conflicts[0] == 0
    found = one_triplet([0.01, 0.99], [4, 0], stop_gradient=False)
    assert found.conflicts[0] == 1 and not found.agrees[0]
    assert found.cosine[0] < 0


def test_on_weights_that_sum_to_one_margo_itself_can_conflict():
    """L_rec wants ever more of the better modality, L_cal no more than z."""
    found = one_triplet([0.99, 0.01], [1, 0])
    assert found.conflicts.tolist() == [0, 1, 1]
    assert found.agrees.tolist() == [True, False, False]
    assert one_triplet([0.5, 0.5], [1, 0]).conflicts.tolist() == [0, 0, 0]


def test_a_triplet_without_a_reliable_modality_is_silent_and_counts_as_agreement():
    found = one_triplet([0.5, 0.5], [-1, -2])
    assert found.silent == found.triplets == 1
    assert found.agrees.all() and not found.conflicts.any()
    assert np.isnan(found.cosine).all()
