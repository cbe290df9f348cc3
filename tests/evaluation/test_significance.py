"""Paired tests over users, against exact distributions and brute force."""

from __future__ import annotations

import itertools
import math
import tracemalloc
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, wilcoxon

from recbole_margo.errors import RecBoleMargoError
from recbole_margo.evaluation import significance
from recbole_margo.evaluation.significance import compare_paired, holm

# Differences of metrics: many zeros, many equal ones.
DIFFERENCES = st.lists(
    st.sampled_from([0.0, 0.0, 0.1, -0.1, 0.25, -0.5, 1 / 3, 1.0]), min_size=2, max_size=40
)
P_VALUES = st.lists(st.floats(0, 1), max_size=6)


def against_zero(differences: Sequence[float], **options: float) -> significance.PairedComparison:
    return compare_paired(differences, np.zeros(len(differences)), **options)


# --- which way it goes ----------------------------------------------------------------------------


def test_a_clearly_better_model_has_a_positive_difference_and_small_p_values():
    random = np.random.default_rng(1)
    reference = random.uniform(0, 0.5, 300)
    better = compare_paired(reference + random.normal(0.05, 0.1, 300), reference)
    assert better.difference > 0.03
    assert 0 < better.low < better.difference < better.high
    assert better.wilcoxon_p < 1e-6
    assert better.bootstrap_p < 1e-3
    assert 0.3 < better.effect_size < 0.7
    assert better.users == 300


def test_a_clearly_worse_model_has_a_negative_difference_and_small_p_values():
    random = np.random.default_rng(1)
    reference = random.uniform(0.2, 0.7, 300)
    worse = compare_paired(reference - random.normal(0.05, 0.1, 300), reference)
    assert worse.difference < -0.03
    assert worse.low < worse.difference < worse.high < 0
    assert worse.wilcoxon_p < 1e-6
    assert worse.bootstrap_p < 1e-3
    assert worse.effect_size < -0.3


@given(DIFFERENCES)
@settings(max_examples=40)
def test_exchanging_the_models_changes_signs_and_nothing_else(differences):
    zeros = np.zeros(len(differences))
    one = compare_paired(differences, zeros, resamples=50)
    other = compare_paired(zeros, differences, resamples=50)
    assert other.difference == pytest.approx(-one.difference, abs=1e-15)
    assert other.effect_size == pytest.approx(-one.effect_size, rel=1e-12, abs=1e-15)
    assert other.wilcoxon_p == pytest.approx(one.wilcoxon_p, rel=1e-12)


# --- Wilcoxon -------------------------------------------------------------------------------------


def test_five_users_that_all_gain_differently_have_the_p_value_of_the_table():
    # 2 of the 2^5 ways to give signs to the ranks are as extreme.
    assert against_zero([0.1, 0.2, 0.3, 0.4, 0.5]).wilcoxon_p == 2 / 32


@given(st.lists(st.integers(1, 50), min_size=1, max_size=9, unique=True), st.integers(0, 2**9))
def test_wilcoxon_counts_the_signs_that_are_as_extreme(sizes, signs):
    d = np.array([size * (-1 if signs >> i & 1 else 1) for i, size in enumerate(sizes)]) / 50
    ranks = np.argsort(np.argsort(np.abs(d))) + 1
    observed = abs((ranks * np.sign(d)).sum())
    all_signs = np.array(list(itertools.product([-1, 1], repeat=len(d))))
    expected = (np.abs(all_signs @ ranks) >= observed).mean()
    found = against_zero([*d, 0.0, 0.0], resamples=10)  # users without a difference do not count
    assert found.wilcoxon_p == pytest.approx(expected, rel=1e-12)


def test_wilcoxon_of_many_tied_users_is_the_tie_corrected_approximation():
    d = np.repeat([0.5, -0.5, 0.25, 0.0], [30, 18, 11, 60])
    # Average ranks by hand: the 11 smallest share rank 6, the other 48 share rank 35.5.
    plus, total = 11 * 6 + 30 * 35.5, 59 * 60 / 2
    ties = (11**3 - 11) + (48**3 - 48)
    z = (plus - total / 2) / math.sqrt((59 * 60 * 119 - ties / 2) / 24)
    assert against_zero(d).wilcoxon_p == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-12)
    assert against_zero(d).wilcoxon_p == pytest.approx(wilcoxon(d, method="approx").pvalue)


def test_models_without_any_difference_are_not_different_and_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = compare_paired([0.5, 0.0, 1.0], [0.5, 0.0, 1.0])
    assert same == significance.PairedComparison(3, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0)


def test_sums_in_another_order_are_no_difference():
    one = np.mean([[0.1, 0.5], [0.2, 0.5], [0.3, 0.5]], axis=0)
    other = np.array([(0.3 + 0.2 + 0.1) / 3, 0.5])
    assert one[0] != other[0]
    same = compare_paired(one, other)
    assert (same.difference, same.effect_size, same.wilcoxon_p) == (0.0, 0.0, 1.0)


# --- effect size ----------------------------------------------------------------------------------


def test_the_effect_size_is_cohens_d_z():
    # Mean 0.2, deviations -0.1, 0, 0.1: sample standard deviation 0.1.
    assert compare_paired([0.1, 0.4, 0.6], [0, 0.2, 0.3]).effect_size == pytest.approx(2.0)


@pytest.mark.parametrize(("gain", "expected"), [(0.1, math.inf), (-0.1, -math.inf)])
def test_the_same_difference_for_every_user_is_an_infinite_effect(gain, expected):
    reference = np.linspace(0.2, 0.7, 11)
    same = compare_paired(reference + gain, reference)
    assert same.effect_size == expected
    assert same.low == same.high == pytest.approx(gain)
    assert same.bootstrap_p == pytest.approx(2 / 10_001)


# --- bootstrap ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gains", "losses"), [(6, 3), (40, 25), (200, 170)])
def test_the_bootstrap_of_two_values_is_binomial(gains, losses):
    # 9 users are drawn one by one; of more, only how often each value is drawn.
    users = gains + losses
    drawn = binom(users, gains / users)
    found = against_zero(np.repeat([1.0, -1.0], [gains, losses]), resamples=40_000)
    for end, quantile in ((found.low, 0.025), (found.high, 0.975)):
        # One step of the discrete distribution at most, where a quantile falls between two.
        assert abs(end - (2 * drawn.ppf(quantile) / users - 1)) <= 2 / users + 1e-12
    below = drawn.cdf(users // 2)
    assert found.bootstrap_p == pytest.approx(2 * below, abs=5 * 2 * math.sqrt(below / 40_000))


@pytest.mark.parametrize("distinct", [True, False])
def test_the_interval_is_that_of_the_mean_of_many_users(distinct):
    random = np.random.default_rng(4)
    d = random.normal(0.01, 0.2, 2000)
    d = d if distinct else np.round(d, 1)
    found = against_zero(d)
    half = 1.959964 * d.std() / math.sqrt(len(d))
    assert found.low == pytest.approx(d.mean() - half, abs=0.05 * half)
    assert found.high == pytest.approx(d.mean() + half, abs=0.05 * half)


@given(DIFFERENCES, st.integers(0, 5))
@settings(max_examples=60)
def test_a_bootstrap_p_below_the_level_means_an_interval_without_zero(differences, seed):
    found = against_zero(differences, seed=seed, resamples=199)
    assert 0 < found.bootstrap_p <= 1
    assert found.low <= found.high
    if found.bootstrap_p < 0.05:
        assert found.low > 0 or found.high < 0


def test_a_wider_confidence_has_a_wider_interval_and_a_seed_repeats_it():
    d = np.random.default_rng(3).normal(size=50)
    narrow, wide = against_zero(d, confidence=0.5), against_zero(d, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert against_zero(d, seed=1) == against_zero(d, seed=1) != against_zero(d, seed=2)


@pytest.mark.parametrize("decimals", [1, 12])
def test_the_bootstrap_goes_in_pieces_with_the_same_result(monkeypatch, decimals):
    d = np.random.default_rng(3).normal(size=400).clip(-1, 1).round(decimals)
    whole = against_zero(d, resamples=300)
    monkeypatch.setattr(significance, "CELLS", 7)
    pieces = against_zero(d, resamples=300)
    assert pieces == whole


def test_the_memory_of_the_bootstrap_is_bounded():
    d = np.random.default_rng(3).normal(size=200_000)
    tracemalloc.start()
    against_zero(d, resamples=50)  # at once: 160 MB
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 2**20


# --- calibration ----------------------------------------------------------------------------------


def test_p_values_are_about_uniform_when_the_models_do_not_differ():
    random = np.random.default_rng(11)
    values = random.choice([0.0, 0.5, 1.0], (600, 2, 60), p=[0.6, 0.25, 0.15])
    found = [compare_paired(*pair, resamples=400) for pair in values]
    for p in ([each.wilcoxon_p for each in found], [each.bootstrap_p for each in found]):
        for level in (0.05, 0.2, 0.5, 0.8):
            # 4 standard errors; differences of few values cannot be exactly uniform.
            margin = 4 * math.sqrt(level * (1 - level) / len(p)) + 0.01
            assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=margin)


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says():
    random = np.random.default_rng(12)
    covered = [
        found.low <= 0.1 <= found.high
        for found in (
            against_zero(random.normal(0.1, 0.3, 80), resamples=400, confidence=0.9)
            for _ in range(500)
        )
    ]
    assert np.mean(covered) == pytest.approx(0.9, abs=0.05)


# --- Holm -----------------------------------------------------------------------------------------


def test_holms_correction_by_hand():
    # 3 x 0.01, 2 x 0.03, and 0.04 not below its predecessor.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@given(P_VALUES)
def test_holm_is_the_closure_of_bonferroni(p_values):
    # A hypothesis is rejected if Bonferroni rejects every set of hypotheses that it is in.
    tests = range(len(p_values))
    sets = [s for size in range(1, len(tests) + 1) for s in itertools.combinations(tests, size)]
    expected = [
        max(min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets if test in s)
        for test in tests
    ]
    assert holm(p_values) == pytest.approx(expected, rel=1e-12, abs=0)


@given(P_VALUES)
def test_holm_keeps_the_order_and_never_lowers_a_p_value(p_values):
    adjusted = holm(p_values)
    assert all(p <= new <= 1 for p, new in zip(p_values, adjusted, strict=True))
    by_p = [new for _, new in sorted(zip(p_values, adjusted, strict=True))]
    assert by_p == sorted(by_p)


@pytest.mark.parametrize("wrong", [[0.1, 1.2], [-0.1], [0.5, math.nan]])
def test_holm_refuses_what_is_not_a_p_value(wrong):
    with pytest.raises(RecBoleMargoError, match="expected p-values between 0 and 1"):
        holm(wrong)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "reference", "message"),
    [
        ([0.1, 0.2], [0.1], r"found shapes \(2,\) and \(1,\): compare evaluations of the same"),
        ([[0.1, 0.2]], [[0.1, 0.2]], r"found shapes \(1, 2\)"),
        ([0.1], [0.1], "at least 2 users to compare models, found 1"),
        ([], [], "at least 2 users to compare models, found 0"),
        ([0.1, math.nan], [0.1, 0.2], "found nan of the model for user 1"),
        ([0.1, 0.2], [math.inf, 0.2], "found inf of the reference for user 0"),
    ],
)
def test_values_that_cannot_be_compared_are_refused(values, reference, message):
    with pytest.raises(RecBoleMargoError, match=message):
        compare_paired(values, reference)


@pytest.mark.parametrize("options", [{"resamples": 0}, {"confidence": 1.0}, {"confidence": 95}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(RecBoleMargoError, match="at least 1 resample and a confidence between"):
        against_zero([0.1, 0.2], **options)
