"""Slices of the positives, against hand-made cases and properties."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_margo.errors import RecBoleMargoError
from recbole_margo.evaluation.per_user import PerUserMetrics
from recbole_margo.evaluation.slices import Slice, make_slices, slice_recall


def evaluation(positives: dict[str, dict[str, int]], k: int = 20) -> PerUserMetrics:
    """Return the results of user -> item -> rank."""
    pairs = [
        (number, item, rank)
        for number, ranks in enumerate(positives.values())
        for item, rank in ranks.items()
    ]
    users, items, ranks = zip(*pairs, strict=True)
    return PerUserMetrics(
        users=np.array(list(positives)),
        metrics={f"recall@{k}": np.zeros(len(positives))},
        pair_user=np.array(users),
        pair_item=np.array(items),
        pair_rank=np.array(ranks),
    )


def slices_of(results: PerUserMetrics, kind: str, **known: Any) -> dict[str, list[bool]]:
    """Return name -> membership of the slices of one kind; what is not given tells nothing."""
    arguments: dict[str, Any] = {"user_counts": {}, "item_counts": {}, "missing": {}, **known}
    found = make_slices(results, **arguments)
    return {part.name: part.pairs.tolist() for part in found if part.kind == kind}


# --- counts ---------------------------------------------------------------------------------------


def test_user_activity_has_a_third_of_the_users_in_each_slice():
    results = evaluation(
        {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 1}, "d": {"x": 1}, "e": {"x": 1, "z": 0}}
        | {"f": {"y": 3}}
    )
    counts = {"a": 9, "b": 1, "c": 4, "d": 5, "e": 2, "f": 7}
    # Pairs in the order a, b, b, c, d, e, e, f.
    assert slices_of(results, "user activity", user_counts=counts) == {
        "1-2 training interactions": [False, True, True, False, False, True, True, False],
        "4-5 training interactions": [False, False, False, True, True, False, False, False],
        "7-9 training interactions": [True, False, False, False, False, False, False, True],
    }


def test_item_popularity_has_a_third_of_the_positives_in_each_slice():
    # x alone has half of the positives, so that the rest makes one slice.
    results = evaluation({"a": {"x": 1, "y": 1}, "b": {"x": 1, "z": 1}, "c": {"x": 1, "w": 1}})
    counts = {"x": 50, "y": 1, "z": 2, "w": 3}
    assert slices_of(results, "item popularity", item_counts=counts) == {
        "1-2 training interactions": [False, True, False, True, False, False],
        "3 training interactions": [False, False, False, False, False, True],
        "50 training interactions": [True, False, True, False, True, False],
    }


def test_equal_counts_stay_together_and_fewer_slices_are_left():
    results = evaluation({user: {"x": 1} for user in "abcdef"})
    counts = {"a": 3, "b": 3, "c": 3, "d": 3, "e": 3, "f": 8}
    assert slices_of(results, "user activity", user_counts=counts) == {
        "3 training interactions": [True] * 5 + [False],
        "8 training interactions": [False] * 5 + [True],
    }
    assert slices_of(results, "user activity", user_counts=dict.fromkeys("abcdef", 3)) == {}


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60))
def test_slices_by_count_part_the_positives_in_order(numbers):
    results = evaluation({f"u{i}": {f"i{i}": 1} for i in range(len(numbers))})
    users = {f"u{i}": number for i, number in enumerate(numbers)}
    items = {f"i{i}": number for i, number in enumerate(numbers)}
    found = make_slices(results, users, items, {})
    counts = np.array(numbers)
    largest_tie = max(Counter(numbers).values())
    for kind in ("user activity", "item popularity"):
        parts = [part.pairs for part in found if part.kind == kind]
        if len(set(numbers)) == 1:
            assert parts == []
            continue
        assert 2 <= len(parts) <= 3
        assert (np.sum(parts, axis=0) == 1).all()
        for lower, higher in itertools.pairwise(parts):
            assert counts[lower].max() < counts[higher].min()
        # Each of the two cuts is at most half a tie away from its third.
        if len(parts) == 3:
            sizes = [part.sum() for part in parts]
            assert np.abs(np.array(sizes) - len(numbers) / 3).max() <= largest_tie


@given(st.integers(3, 50))
def test_distinct_counts_are_cut_into_equal_thirds(users):
    results = evaluation({f"u{i}": {"x": 1} for i in range(users)})
    names = slices_of(results, "user activity", user_counts={f"u{i}": i for i in range(users)})
    sizes = [sum(pairs) for pairs in names.values()]
    assert len(sizes) == 3
    assert max(sizes) - min(sizes) <= 1


# --- cold items and missing modalities ------------------------------------------------------------


def test_cold_items_have_no_training_interactions_or_are_unknown():
    results = evaluation({"a": {"x": 1, "y": 1, "z": 1}})
    assert slices_of(results, "cold items", item_counts={"x": 0, "y": 3}) == {
        "no training interactions": [True, False, True]
    }
    assert slices_of(results, "cold items", item_counts={"x": 1, "y": 3, "z": 1}) == {}
    # All of them cold: a slice would say what the table says already.
    assert slices_of(results, "cold items") == {}


def test_an_item_that_misses_two_modalities_is_in_both_slices():
    results = evaluation({"a": {"x": 1, "y": 1}, "b": {"z": 1}})
    missing = {"image": ["x", "y"], "text": {"x"}, "audio": {"not evaluated"}}
    assert slices_of(results, "missing modality", missing=missing) == {
        "misses image": [True, True, False],
        "misses text": [True, False, False],
        "has all": [False, False, True],
    }


@pytest.mark.parametrize("missing", [{}, {"text": []}, {"text": ["elsewhere"]}, {"text": "xyz"}])
def test_slices_that_tell_nothing_are_left_out(missing):
    results = evaluation({"a": {"x": 1, "y": 1}, "b": {"z": 1}})
    assert slices_of(results, "missing modality", missing=missing) == {}
    assert make_slices(results, {"a": 2, "b": 2}, dict.fromkeys("xyz", 4), missing) == []


def test_the_kinds_come_in_order():
    results = evaluation({"a": {"x": 1, "y": 1}, "b": {"z": 1}})
    found = make_slices(results, {"a": 2, "b": 5}, {"x": 3, "y": 1}, {"text": ["z"]})
    assert list(dict.fromkeys(part.kind for part in found)) == [
        "user activity",
        "item popularity",
        "cold items",
        "missing modality",
    ]


# --- recall of a slice ----------------------------------------------------------------------------


def test_the_recall_of_a_slice_counts_its_positives_alone():
    results = evaluation({"a": {"w": 1, "x": 0, "y": 20}, "b": {"w": 3}, "c": {"x": 6, "y": 5}})
    part = Slice("any", "without w", np.array([False, True, True, False, True, True]))
    # b has only w; ranks are x 0, y 20 for a and x 6, y 5 for c.
    assert slice_recall(results, part, 20).tolist() == [0.5, 1.0]
    assert slice_recall(results, part, 5).tolist() == [0.0, 0.5]


@given(st.data())
def test_the_recall_of_a_slice_is_that_of_a_loop(data):
    ranks = st.dictionaries(st.sampled_from("vwxyz"), st.integers(0, 20), min_size=1)
    results = evaluation(dict(zip("abc", data.draw(st.tuples(ranks, ranks, ranks)), strict=True)))
    pairs = len(results.pair_rank)
    inside = np.array(data.draw(st.lists(st.booleans(), min_size=pairs, max_size=pairs)), bool)
    k = data.draw(st.integers(1, 20))
    expected = []
    for user in range(3):
        hits = [
            1 <= rank <= k
            for who, rank, wanted in zip(results.pair_user, results.pair_rank, inside, strict=True)
            if who == user and wanted
        ]
        if hits:
            expected.append(sum(hits) / len(hits))
    assert slice_recall(results, Slice("any", "any", inside), k).tolist() == expected


def test_a_rank_that_was_not_recorded_and_a_foreign_slice_are_refused():
    results = evaluation({"a": {"x": 1, "y": 0}})
    whole = Slice("any", "all", np.array([True, True]))
    for k in (0, 21):
        with pytest.raises(RecBoleMargoError, match=f"expected a k from 1 to 20.*found {k}"):
            slice_recall(results, whole, k)
    with pytest.raises(RecBoleMargoError, match="2 positives belong to it, found 3"):
        slice_recall(results, Slice("any", "other", np.array([True] * 3)), 5)
