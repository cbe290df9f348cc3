"""The k-core of users and items: what is left when nobody and nothing is rare."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def k_core(
    users: NDArray[np.integer], items: NDArray[np.integer], minimum: int
) -> NDArray[np.bool_]:
    """Find the interactions in which every user and every item has at least `minimum`.

    Users and items below the minimum are removed together, again and again, until nothing changes.
    The result is the largest such set; it does not depend on the order of removal.

    Args:
        users: [E] the user of every interaction, as numbers from 0 without large gaps.
        items: [E] its item, likewise.
        minimum: the fewest interactions that a user or an item may have.

    Returns:
        [E] True where the interaction is in the core.
    """
    core = np.zeros(len(users), dtype=bool)
    kept = np.arange(len(users))
    while len(kept):
        enough = np.bincount(users)[users] >= minimum
        enough &= np.bincount(items)[items] >= minimum
        if enough.all():
            break
        kept, users, items = kept[enough], users[enough], items[enough]
    core[kept] = True
    return core
