"""Users whom the model was not trained with, from the items that they know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recbole_margo.serving.bundle import Bundle

if TYPE_CHECKING:
    import scipy.sparse as sp

# The ridge of the map, in units of the mean variance of its inputs.
RIDGE = 1e-2


def fold_in_map(
    users: NDArray[np.float32],
    items: NDArray[np.float32],
    history: sp.csr_matrix,
    ridge: float = RIDGE,
) -> NDArray[np.float32]:
    r"""Learn how the trained users follow from the items that they know.

    .. math:: A = (H^T H + \rho I)^{-1} H^T U, \qquad h_u = \frac{1}{|N_u|} \sum_{i \in N_u} e_i

    A model that makes users from items by linear propagation has such a map; of others this is the
    best linear one. It costs one pass over the interactions and needs no training.

    Args:
        users: user table [U, K].
        items: item table [I, K].
        history: binary training interactions [U, I].
        ridge: rho, in units of the mean diagonal of H^T H.

    Returns:
        A [K, K].
    """
    width = items.shape[1]
    counts = np.diff(history.indptr)
    known = counts > 0
    means = (history @ items)[known].astype(np.float64) / counts[known, None]
    gram, cross = means.T @ means, means.T @ users[known]
    penalty = ridge * (np.trace(gram) / width or 1.0)
    found: NDArray[np.float32] = np.linalg.solve(gram + penalty * np.eye(width), cross).astype(
        np.float32
    )
    return found


def fold_in_users(bundle: Bundle, histories: Sequence[NDArray[np.integer]]) -> NDArray[np.float32]:
    """Return user rows [B, K] for users with these items, of each at least one.

    Args:
        histories: rows of items by user [B].
    """
    means = np.stack([bundle.items[history].mean(axis=0) for history in histories])
    folded: NDArray[np.float32] = means @ bundle.fold_in
    return folded
