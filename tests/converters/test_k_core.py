from __future__ import annotations

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataset_converters.preparation import k_core

edges = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=70)


def remove_one_by_one(rows: list[tuple[int, int]], minimum: int) -> set[int]:
    """Remove single rows of rare users or items until none is left: the definition, slowly."""
    kept = set(range(len(rows)))
    while True:
        users = [rows[i][0] for i in kept]
        items = [rows[i][1] for i in kept]
        rare = next(
            (
                i
                for i in sorted(kept)
                if users.count(rows[i][0]) < minimum or items.count(rows[i][1]) < minimum
            ),
            None,
        )
        if rare is None:
            return kept
        kept.remove(rare)


@given(edges, st.integers(1, 4))
def test_core_is_what_slow_removal_leaves(rows: list[tuple[int, int]], minimum: int) -> None:
    users, items = (np.array([row[side] for row in rows], dtype=np.int64) for side in (0, 1))
    kept = set(np.flatnonzero(k_core(users, items, minimum)).tolist())
    assert kept == remove_one_by_one(rows, minimum)


def test_removal_goes_on_until_it_ends() -> None:
    # A chain: each removal makes the next user or item rare, so the 2-core is empty.
    users, items = np.array([0, 1, 1, 2, 2, 3]), np.array([0, 0, 1, 1, 2, 2])
    assert not k_core(users, items, 2).any()
    # Closed to a circle it is a 2-core, to which the end of the chain does not belong.
    core = k_core(np.append(users, 0), np.append(items, 2), 2)
    assert core.tolist() == [True, True, True, True, True, False, True]


def test_millions_of_rows_take_seconds() -> None:
    generator = np.random.default_rng(0)
    users = generator.integers(0, 300_000, 1_000_000)
    items = generator.zipf(1.3, 1_000_000) % 50_000
    start = time.perf_counter()
    core = k_core(users, items, 5)
    assert 0 < core.sum() < len(core)
    assert time.perf_counter() - start < 10
