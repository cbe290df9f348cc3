from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_converters.preparation import (
    SPLIT_RULES,
    TEST,
    TRAIN,
    VALID,
    held_out_counts,
    k_core,
    split_labels,
)

interactions = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 50)), min_size=1, max_size=120
).map(lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True)))


def published_counts(n: int) -> tuple[int, int]:
    """The rule as the notebooks write it, for users with enough interactions."""
    if n < 10:
        return 1, 1
    held = int(0.2 * n)
    return held // 2, held - held // 2


def test_counts_are_those_of_the_published_rule() -> None:
    counts = np.arange(3, 5000)
    valid, test = held_out_counts(counts)
    expected = [published_counts(n) for n in counts.tolist()]
    assert list(zip(valid.tolist(), test.tolist(), strict=True)) == expected


@pytest.mark.parametrize("n", [1, 2])
def test_users_with_nothing_to_spare_stay_in_training(n: int) -> None:
    assert (split_labels(np.zeros(n, dtype=int), np.arange(n), "leave-one-out", 0) == TRAIN).all()
    assert (split_labels(np.zeros(n, dtype=int), None, "random", 0) == TRAIN).all()


@given(interactions, st.sampled_from(["random", "time"]), st.integers(0, 5))
def test_every_user_is_split_by_the_counts(columns, rule, seed) -> None:
    users, times = columns
    labels = split_labels(users, times, rule, seed)
    for user in np.unique(users):
        own = labels[users == user]
        expected = published_counts(len(own)) if len(own) >= 3 else (0, 0)
        assert ((own == VALID).sum(), (own == TEST).sum()) == expected
        assert (own == TRAIN).any()


@given(interactions)
def test_no_training_interaction_of_a_user_is_later_than_its_held_out_ones(columns) -> None:
    users, times = columns
    for rule in ("time", "leave-one-out"):
        labels = split_labels(users, times, rule, 0)
        for user in np.unique(users):
            own_labels, own_times = labels[users == user], times[users == user]
            for earlier, later in ((TRAIN, VALID), (VALID, TEST), (TRAIN, TEST)):
                before, after = own_times[own_labels == earlier], own_times[own_labels == later]
                assert before.max(initial=-1) <= after.min(initial=1000)


@given(interactions)
def test_global_time_never_trains_on_what_comes_after_a_held_out_moment(columns) -> None:
    users, times = columns
    labels = split_labels(users, times, "global-time", 0)
    assert times[labels == TRAIN].max(initial=-1) < times[labels != TRAIN].min(initial=1000)
    assert times[labels == VALID].max(initial=-1) < times[labels == TEST].min(initial=1000)


def test_global_time_cuts_at_eighty_and_ninety_percent() -> None:
    labels = split_labels(np.zeros(100, dtype=int), np.arange(100), "global-time", 0)
    assert np.bincount(labels).tolist() == [80, 10, 10]


def test_leave_one_out_takes_the_last_two_of_long_histories_too() -> None:
    times = np.array([5, 3, 9, 1, 7, 8, 2, 0, 4, 6, 10, 11])
    labels = split_labels(np.zeros(12, dtype=int), times, "leave-one-out", 0)
    assert times[labels == TEST].tolist() == [11]
    assert times[labels == VALID].tolist() == [10]


def test_the_seed_decides_the_random_split_alone() -> None:
    users = np.repeat(np.arange(50), 12)
    first = split_labels(users, None, "random", 1)
    assert (first == split_labels(users, None, "random", 1)).all()
    assert (first != split_labels(users, None, "random", 2)).any()
    times = np.tile(np.arange(12), 50)
    assert (split_labels(users, times, "time", 1) == split_labels(users, times, "time", 2)).all()


def test_published_baby_is_a_five_core_split_by_this_rule(shared_data: Path) -> None:
    table = pd.read_csv(shared_data / "baby" / "baby.inter", sep="\t")
    users, items = table["userID"].to_numpy(), table["itemID"].to_numpy()
    assert k_core(users, items, 5).all()
    found = pd.crosstab(users, split_labels(users, None, "random", 0)).to_numpy()
    published = pd.crosstab(users, table["x_label"].to_numpy()).to_numpy()
    np.testing.assert_array_equal(found[:, TRAIN], published[:, TRAIN])
    # Copies of the file differ in which half of the held-out rows they call validation.
    np.testing.assert_array_equal(
        np.sort(found[:, [VALID, TEST]], axis=1), np.sort(published[:, [VALID, TEST]], axis=1)
    )


def test_random_places_are_drawn_evenly() -> None:
    users = np.repeat(np.arange(4000), 5)
    labels = split_labels(users, None, "random", 0).reshape(-1, 5)
    share = (labels == TEST).mean(axis=0)
    assert np.abs(share - 0.2).max() < 0.03  # five standard errors


def test_unknown_rules_and_missing_times_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        split_labels(np.zeros(3, dtype=int), None, "magic", 0)
    for rule in set(SPLIT_RULES) - {"random"}:
        with pytest.raises(ValueError, match="needs timestamps"):
            split_labels(np.zeros(3, dtype=int), None, rule, 0)
