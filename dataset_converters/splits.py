"""Training, validation and test: which interaction goes where."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPLIT_RULES = {
    "random": "a fifth of each user's interactions, drawn at random, is held out (as published)",
    "time": "the latest fifth of each user's interactions is held out",
    "leave-one-out": "each user's latest interaction is the test, the one before the validation",
    "global-time": "the first 80 % of all time is training, the next 10 % validation",
}
TIME_RULES = frozenset(SPLIT_RULES) - {"random"}
TRAIN, VALID, TEST = range(3)
# A user below this has nothing to spare: one interaction each for training, validation and test.
FEWEST_TO_SPLIT = 3


def split_labels(
    users: NDArray[np.integer], timestamps: NDArray[np.number] | None, rule: str, seed: int
) -> NDArray[np.int8]:
    r"""Assign every interaction to training (0), validation (1) or test (2).

    A user with n < 10 interactions gives 1 to validation and 1 to test; a user with n >= 10 gives
    \lfloor n / 5 \rfloor, of which \lfloor half \rfloor go to validation and the rest to test. A
    user with fewer than 3 keeps all of them in training.

    Args:
        users: [E] the user of every interaction, as numbers.
        timestamps: [E] its time; not needed by the rule `random`. Equal times keep the row order.
        rule: one of `SPLIT_RULES`.
        seed: of the draw; only the rule `random` uses it.

    Returns:
        [E] the labels.

    Raises:
        ValueError: the rule is unknown, or needs timestamps that are not given.
    """
    if rule not in SPLIT_RULES:
        raise ValueError(f"expected one of {list(SPLIT_RULES)}, found {rule!r}.")
    if rule == "random":
        order = np.random.default_rng(seed).permutation(len(users))
        return _by_user(users, order, leave_one_out=False)
    if timestamps is None:
        raise ValueError(f"the rule {rule!r} needs timestamps.")
    if rule == "global-time":
        return _by_global_time(timestamps)
    order = np.argsort(timestamps, kind="stable")
    return _by_user(users, order, leave_one_out=rule == "leave-one-out")


def held_out_counts(
    counts: NDArray[np.integer],
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Return how many of n interactions of a user go to validation and to test.

    Args:
        counts: [U] interactions of every user.

    Returns:
        Two arrays [U]: those for validation, those for test.
    """
    held = np.where(counts < 10, 2, counts // 5)
    held = np.where(counts < FEWEST_TO_SPLIT, 0, held)
    return held // 2, held - held // 2


def _by_user(
    users: NDArray[np.integer], order: NDArray[np.integer], leave_one_out: bool
) -> NDArray[np.int8]:
    """Label the last interactions of every user, where `order` [E] lists all from first to last."""
    order = order[np.argsort(users[order], kind="stable")]
    _, starts, counts = np.unique(users[order], return_index=True, return_counts=True)
    valid, test = held_out_counts(np.minimum(counts, FEWEST_TO_SPLIT) if leave_one_out else counts)
    # 1 for the last interaction of its user, 2 for the one before, ...
    from_end = np.repeat(starts + counts, counts) - np.arange(len(order))
    labels = np.full(len(order), TRAIN, dtype=np.int8)
    labels[order[from_end <= np.repeat(valid + test, counts)]] = VALID
    labels[order[from_end <= np.repeat(test, counts)]] = TEST
    return labels


def _by_global_time(timestamps: NDArray[np.number]) -> NDArray[np.int8]:
    """Cut all time at its quantiles .8 and .9; interactions of one moment stay together."""
    end_of_train, end_of_valid = np.quantile(timestamps, [0.8, 0.9])
    labels = np.full(len(timestamps), TRAIN, dtype=np.int8)
    labels[timestamps > end_of_train] = VALID
    labels[timestamps > end_of_valid] = TEST
    return labels
