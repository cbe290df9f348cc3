from __future__ import annotations

import dense_formulas as dense
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from recbole_margo.nn.losses import (
    bpr_loss,
    calibration_loss,
    confidence,
    embedding_penalty,
    mean_over,
    mean_square,
    reliability_vector,
)
from recbole_margo.nn.projection import log_modality_weights

SOME = [True, True, True]


def tensors(*values, dtype=torch.float64):
    return tuple(torch.tensor(np.array(value), dtype=dtype) for value in values)


# --- ranking and regularisation -------------------------------------------------------------------


def test_ranking_loss_is_the_mean_softplus_in_natural_logarithms():
    positive, negative = tensors([1.0, -2.0, 0.5], [0.0, 1.0, 0.5])
    expected = np.mean([np.log(1 + np.exp(-margin)) for margin in (1.0, -3.0, 0.0)])
    assert bpr_loss(positive, negative).item() == pytest.approx(expected)


@pytest.mark.parametrize("margin", [1e4, -1e4])
def test_ranking_loss_is_finite_for_any_margin(margin):
    positive = torch.tensor([margin], requires_grad=True)
    loss = bpr_loss(positive, torch.zeros(1))
    loss.backward()
    assert loss.item() == max(-margin, 0)
    assert positive.grad.item() == (-1 if margin < 0 else 0)


def test_ranking_loss_counts_the_triplets_that_take_part():
    positive, negative = tensors([1.0, -2.0, 0.5], [0.0, 1.0, 0.5])
    expected = np.mean([np.log(1 + np.exp(-margin)) for margin in (1.0, 0.0)])
    counted = torch.tensor([True, False, True])
    assert bpr_loss(positive, negative, counted).item() == pytest.approx(expected)
    all_of_them = bpr_loss(positive, negative, torch.ones(3).bool())
    assert all_of_them.item() == pytest.approx(bpr_loss(positive, negative).item())


def test_ranking_loss_of_no_triplet_is_zero_with_zero_gradient():
    positive = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = bpr_loss(positive, torch.zeros(2), torch.zeros(2).bool())
    loss.backward()
    assert loss.item() == 0
    assert (positive.grad == 0).all()


@pytest.mark.parametrize(
    ("counted", "mean"),
    [(None, 2.0), (SOME, 2.0), ([True, False, True], 2.5), ([False] * 3, 0.0)],
)
def test_mean_over_what_counts(counted, mean):
    losses = torch.tensor([1.0, 1.0, 4.0], requires_grad=True)
    counted = None if counted is None else torch.tensor(counted)
    result = mean_over(losses, counted)
    assert result.item() == mean
    result.backward()
    share = torch.ones(3) / 3 if counted is None else counted / max(int(counted.sum()), 1)
    assert_allclose(losses.grad, share, rtol=1e-6)


@pytest.mark.parametrize("left_out", [torch.inf, -torch.inf, torch.nan])
def test_mean_over_ignores_whatever_a_loss_that_does_not_count_is(left_out):
    losses = torch.tensor([1.0, left_out, 4.0], requires_grad=True)
    result = mean_over(losses, torch.tensor([True, False, True]))
    result.backward()
    assert result.item() == 2.5
    assert_allclose(losses.grad, [0.5, 0.0, 0.5])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("frobenius", (5 + np.sqrt(3)) / 2), ("squared", (25 + 3) / 2 / 2)],
)
def test_penalty_of_each_kind_by_the_rows_of_the_first(kind, expected):
    users = torch.tensor([[3.0, 0.0], [0.0, -4.0]])
    items = torch.ones(1, 3)
    assert embedding_penalty(kind, users, items).item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["frobenius", "squared"])
def test_penalty_of_zeros_has_a_finite_gradient(kind):
    zeros = torch.zeros(4, 2, requires_grad=True)
    embedding_penalty(kind, zeros).backward()
    assert (zeros.grad == 0).all()


def test_mean_square():
    assert mean_square(torch.tensor([[1.0, -2.0], [3.0, 0.0]])).item() == 14 / 4


# --- the reliability vector (Eq. 5-6) -------------------------------------------------------------


@pytest.mark.parametrize(
    ("difference", "usable", "z"),
    [
        ([1.0, 2.0, -3.0], SOME, [1 / (1 + np.e), np.e / (1 + np.e), 0]),
        ([0.0, -1.0, -2.0], SOME, [1, 0, 0]),  # g(0) = 0, not minus infinity
        ([0.0, np.log(3), 0.0], SOME, [0.2, 0.6, 0.2]),
        ([5.0, 1.0, 1.0], [False, True, True], [0, 0.5, 0.5]),
        ([-1.0, -2.0, -3.0], SOME, None),
        ([5.0, -2.0, -3.0], [False, True, True], None),
        ([1.0, 2.0, 3.0], [False] * 3, None),
        ([1e4, 0.0, -1e4], SOME, [1, 0, 0]),
    ],
)
def test_reliability_by_hand(difference, usable, z):
    vector, reliable = reliability_vector(torch.tensor([difference]), torch.tensor([usable]))
    assert reliable.item() is (z is not None)
    assert_allclose(vector[0], [0, 0, 0] if z is None else z, rtol=1e-6)


numbers = st.floats(-50, 50, width=32)


@st.composite
def triplets(draw, modalities=None):
    """Draw scores of both items, logits of both items and presence masks of both, [M] each."""
    modalities = draw(st.integers(1, 4)) if modalities is None else modalities

    def row(values):
        return st.lists(values, min_size=modalities, max_size=modalities)

    scores = [draw(row(numbers)) for _ in range(2)]
    logits = [draw(row(st.floats(-15, 15, width=32))) for _ in range(2)]
    masks = [draw(row(st.booleans())) for _ in range(2)]
    return [np.array(part, dtype=np.float64) for part in (*scores, *logits)] + [
        np.array(part) for part in masks
    ]


@given(triplets())
def test_reliability_equals_the_formula_and_is_zero_where_a_modality_contradicts(drawn):
    r_i, r_j, _, _, mask_i, mask_j = drawn
    usable = mask_i & mask_j
    vector, reliable = reliability_vector(*tensors([r_i - r_j]), torch.from_numpy(usable)[None])
    expected = dense.reliability(r_i - r_j, usable)
    vector = vector[0].numpy()
    assert reliable.item() is (expected is not None)
    assert (vector[~(usable & (r_i >= r_j))] == 0).all()
    assert_allclose(vector, np.zeros(len(r_i)) if expected is None else expected, atol=1e-12)


# --- the confidence (Eq. 7) -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positive", "negative", "reliable", "tau", "c"),
    [
        (1.0, 0.5, True, 1.0, np.tanh(0.5)),
        (1.0, 0.5, True, 0.25, np.tanh(2.0)),
        (0.5, 0.5, True, 1.0, 0.0),
        (0.5, 1.0, True, 1.0, 0.0),
        (1.0, 0.5, False, 1.0, 0.0),
        (1e4, -1e4, True, 1e-6, 1.0),
    ],
)
def test_confidence_by_hand(positive, negative, reliable, tau, c):
    found = confidence(*tensors([positive], [negative]), torch.tensor([reliable]), tau)
    assert found.item() == pytest.approx(c)


# --- the calibration loss (Eq. 8) -----------------------------------------------------------------


@given(triplets(), st.floats(0, 1))
def test_calibration_equals_the_divergence_and_is_never_negative(drawn, c):
    r_i, r_j, logits_i, logits_j, mask_i, mask_j = drawn
    z = dense.reliability(r_i - r_j, mask_i & mask_j)
    w_i, w_j = dense.item_weights(logits_i, mask_i), dense.item_weights(logits_j, mask_j)
    expected = 0.0 if z is None else c * dense.divergence(z, (w_i + w_j) / 2)
    log_i, log_j = (
        log_modality_weights(*tensors([logits]), torch.tensor([mask]))
        for logits, mask in ((logits_i, mask_i), (logits_j, mask_j))
    )
    loss = calibration_loss(*tensors([np.zeros(len(r_i)) if z is None else z], [c]), log_i, log_j)
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert loss.item() >= -1e-6


@given(st.integers(1, 4).flatmap(lambda m: st.lists(st.floats(0, 20), min_size=m, max_size=m)))
def test_calibration_is_zero_when_both_items_have_the_weights_that_are_asked(difference):
    logits, mask = torch.tensor([difference]), torch.ones(1, len(difference)).bool()
    vector, _ = reliability_vector(logits, mask)
    log_weights = log_modality_weights(logits, mask).requires_grad_()
    loss = calibration_loss(vector, torch.ones(1), log_weights, log_weights)
    assert abs(loss.item()) < 1e-6


def test_calibration_is_zero_when_only_the_mean_of_the_weights_agrees():
    z, w_i, w_j = tensors([[0.5, 0.5]], [[0.9, 0.1]], [[0.1, 0.9]])
    loss = calibration_loss(z, torch.ones(1, dtype=torch.float64), w_i.log(), w_j.log())
    assert abs(loss.item()) < 1e-7


def test_calibration_by_hand():
    z, w_i, w_j = tensors([[0.25, 0.75], [1, 0]], [[0.5, 0.5], [0.2, 0.8]], [[0.3, 0.7], [1, 0]])
    c = torch.tensor([0.5, 0.8], dtype=torch.float64)
    first = 0.25 * np.log(0.25 / 0.4) + 0.75 * np.log(0.75 / 0.6)
    second = np.log(1 / 0.6)
    loss = calibration_loss(z, c, w_i.log(), w_j.log())
    assert loss.item() == pytest.approx((0.5 * first + 0.8 * second) / 2)


@pytest.mark.parametrize("logits_j", [[1e4, -1e4], [-1e4, 1e4], [0.0, 0.0]])
def test_calibration_is_finite_for_extreme_weights(logits_j):
    logits_i = torch.tensor([[1e4, -1e4]], requires_grad=True)
    logits_j = torch.tensor([logits_j], requires_grad=True)
    mask = torch.ones(1, 2).bool()
    loss = calibration_loss(
        torch.tensor([[0.0, 1.0]]),
        torch.ones(1),
        log_modality_weights(logits_i, mask),
        log_modality_weights(logits_j, mask),
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits_i.grad).all() and torch.isfinite(logits_j.grad).all()


# --- gradients ------------------------------------------------------------------------------------


def test_gradients_by_finite_differences(double_precision):
    torch.manual_seed(0)
    usable = torch.tensor([SOME, [True, False, True], SOME, [False] * 3])
    differences = torch.tensor(
        [[0.3, -0.7, 1.2], [0.4, 2.0, 0.9], [-0.5, -0.1, -2.0], [1.0, 2.0, 3.0]],
        dtype=torch.float64,
        requires_grad=True,
    )
    assert torch.autograd.gradcheck(lambda d: reliability_vector(d, usable)[0], differences)

    positive, negative = tensors([0.5, 0.1, 2.0, 1.0], [0.1, 0.4, -1.0, 0.2])
    positive.requires_grad_(), negative.requires_grad_()
    reliable = torch.tensor([True, True, True, False])
    assert torch.autograd.gradcheck(
        lambda p, n: confidence(p, n, reliable, 0.7), (positive, negative)
    )
    assert torch.autograd.gradcheck(bpr_loss, (positive, negative))

    z = reliability_vector(differences.detach(), usable)[0].requires_grad_()
    c = torch.rand(4, dtype=torch.float64)
    logits = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)

    def calibration(logits):
        log_i, log_j = log_modality_weights(logits, usable)
        return calibration_loss(z.detach(), c, log_i, log_j)

    assert torch.autograd.gradcheck(calibration, logits)


# --- non-conflict (section III-D) -----------------------------------------------------------------


def simplex_gradients(r_i, r_j, w_i, w_j, usable, tau):
    """Return L_rec's and L_cal's gradients by the simplex weights [2, M], and z, c, the margin."""
    r_i, r_j = tensors(r_i, r_j)
    w = torch.tensor(np.stack([w_i, w_j]), requires_grad=True)
    positive, negative = (w[0] * r_i).sum(), (w[1] * r_j).sum()
    z, reliable = reliability_vector((r_i - r_j)[None], torch.from_numpy(usable)[None])
    c = confidence(positive[None], negative[None], reliable, tau).detach()
    # A weight of exactly 0 belongs to a missing modality and has no logarithm.
    log_w = torch.where(w > 0, w, 1.0).log().masked_fill(w == 0, -torch.inf)
    calibration = calibration_loss(z.detach(), c, log_w[0][None], log_w[1][None])
    (by_ranking,) = torch.autograd.grad(bpr_loss(positive[None], negative[None]), w)
    (by_calibration,) = torch.autograd.grad(calibration, w)
    return by_ranking, by_calibration, z[0], c.item(), (positive - negative).item()


@given(triplets(), st.floats(0.05, 20))
@example([np.array(x) for x in ([-1.0, 2], [3.0, 2.5], [0.0, 0], [0.0, 0], SOME[:2], SOME[:2])], 1)
def test_ranking_and_calibration_never_pull_the_weights_apart(drawn, tau):
    r_i, r_j, logits_i, logits_j, mask_i, mask_j = drawn
    w_i, w_j = dense.item_weights(logits_i, mask_i), dense.item_weights(logits_j, mask_j)
    by_ranking, by_calibration, z, c, margin = simplex_gradients(
        r_i, r_j, w_i, w_j, mask_i & mask_j, tau
    )
    agreement = (by_ranking * by_calibration).sum().item()

    one_minus_sigma = float(np.exp(-dense.softplus(margin)))
    closed_form = (
        one_minus_sigma
        * c
        * sum(
            float(z[m]) * (r_i[m] - r_j[m]) / (w_i[m] + w_j[m]) for m in range(len(r_i)) if z[m] > 0
        )
    )
    # The sum of the absolute terms is the size of what rounding may leave of an exact 0.
    rounding = 1e-12 * (by_ranking * by_calibration).abs().sum().item()
    assert agreement >= -rounding
    assert closed_form >= 0
    assert agreement == pytest.approx(closed_form, rel=1e-6, abs=rounding + 1e-12)


def test_without_the_rule_for_unreliable_triplets_they_would_conflict():
    """The weighted score can rank right although every modality ranks wrong."""
    r_i, r_j = np.array([1.0, -1.0]), np.array([1.1, -0.9])
    w_i, w_j = np.array([0.9, 0.1]), np.array([0.1, 0.9])
    usable = np.array([True, True])
    *_, z, c, margin = simplex_gradients(r_i, r_j, w_i, w_j, usable, tau=1.0)
    assert margin > 0
    assert c == 0 and not z.any()
