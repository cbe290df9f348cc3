"""Degree-sensitive sampling of the interactions that an epoch trains on."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import scipy.sparse as sp


def sample_interactions(
    interactions: sp.csr_matrix, dropped_share: float, random: np.random.Generator
) -> sp.csr_matrix:
    r"""Draw a part of the interactions without replacement, popular nodes' less often.

    .. math:: p_{ui} \propto \frac{1}{\sqrt{d_u d_i}}

    The :math:`\lfloor E (1 - \rho) \rfloor` smallest of :math:`e_{ui} / p_{ui}` with e drawn from
    an exponential distribution are kept, which is the same as drawing one after another.

    Args:
        interactions: binary R [U, I] with E entries.
        dropped_share: rho in [0, 1).
        random: the generator that is drawn from.

    Returns:
        Binary R' [U, I] with the kept entries.

    Source: FREEDOM (Zhou and Shen, MM 2023), edge pruning; Efraimidis and Spirakis, "Weighted
    random sampling with a reservoir", 2006.
    """
    edges = interactions.tocoo()
    users, items = edges.row, edges.col
    degree_of_user = np.bincount(users, minlength=interactions.shape[0])
    degree_of_item = np.bincount(items, minlength=interactions.shape[1])
    rarity = 1 / np.sqrt(degree_of_user[users] * degree_of_item[items])
    # 10 * (1 - 0.9) is below 1 in floating point; the share is meant as it is written.
    kept = int(edges.nnz * (1 - Fraction(str(dropped_share))))
    order = np.argsort(random.exponential(size=edges.nnz) / rarity, kind="stable")[:kept]
    ones = np.ones(kept, dtype=np.float32)
    return sp.csr_matrix((ones, (users[order], items[order])), shape=interactions.shape)
