"""The user-item graph of the training interactions: its adjacency, and a sample of its edges."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recbole_margo.graph.sparse import Parts, SparseMatrix, horner, sparse_product


def interaction_matrix(dataset: Any) -> sp.csr_matrix:
    """Return the binary training interactions R [U, I] of a RecBole dataset.

    Args:
        dataset: RecBole's training `Dataset`; repeated interactions count once.

    Returns:
        R [U, I], float32; row 0 and column 0 (PAD) are empty.
    """
    matrix = dataset.inter_matrix(form="csr").astype(np.float32)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return sp.csr_matrix(matrix)


def random_walk_adjacency(interactions: sp.csr_matrix) -> sp.csr_matrix:
    r"""Return the row-normalised bipartite adjacency with self loops; it is not symmetric.

    .. math:: D^{-1} (A + I), \qquad D = \mathrm{diag}((A + I) 1)

    Args:
        interactions: R [U, I].

    Returns:
        The matrix [U + I, U + I], float32, users first; every row sums to 1.

    Source: LATTICE (Zhang et al., MM 2021) and MICRO (Zhang et al., TKDE 2022), interaction graph.
    """
    adjacency = _adjacency(interactions)
    return row_mean(adjacency + sp.identity(adjacency.shape[0], format="csr"))


def row_mean(matrix: sp.spmatrix) -> sp.csr_matrix:
    """Return a non-negative matrix [R, C] whose rows are divided by their sums, float32.

    Empty rows stay empty.
    """
    total = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
    scale = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    return sp.csr_matrix(sp.diags(scale) @ matrix.astype(np.float64), dtype=np.float32)


def normalized_adjacency(interactions: sp.csr_matrix) -> sp.csr_matrix:
    r"""Return the symmetrically normalised bipartite adjacency without self loops.

    .. math:: \hat A = D^{-1/2} A D^{-1/2}, \qquad A = \begin{pmatrix} 0 & R \\ R^\top & 0
        \end{pmatrix}

    Nodes without an edge keep an empty row.

    Args:
        interactions: R [U, I].

    Returns:
        The matrix [U + I, U + I], float32, users first.

    Source: LightGCN (He et al., SIGIR 2020), Eq. 7-8.
    """
    adjacency = _adjacency(interactions)
    return scaled_on_both_sides(adjacency, np.asarray(adjacency.sum(axis=1)).ravel())


def normalized_interactions(interactions: sp.csr_matrix) -> sp.csr_matrix:
    r"""Return the users' part of `normalized_adjacency`, from which the items' part follows.

    .. math:: \hat R_{ui} = R_{ui} / \sqrt{\sum_j R_{uj} \sum_v R_{vi}}

    Args:
        interactions: R [U, I].

    Returns:
        The matrix [U, I], float32.

    Source: LightGCN (He et al., SIGIR 2020), Eq. 7-8.
    """
    users = interactions.shape[0]
    return sp.csr_matrix(normalized_adjacency(interactions)[:users, users:])


def scaled_on_both_sides(matrix: sp.spmatrix, total: NDArray[np.floating]) -> sp.csr_matrix:
    r"""Return :math:`D^{-1/2} M D^{-1/2}`, float32, with the row sums on both sides.

    Args:
        matrix: M [N, N].
        total: the diagonal of D [N]; where it is not positive, row and column become empty.
    """
    scale = np.zeros_like(total, dtype=np.float64)
    np.power(total, -0.5, where=total > 0, out=scale)
    return sp.csr_matrix(
        sp.diags(scale) @ matrix.astype(np.float64) @ sp.diags(scale), dtype=np.float32
    )


def _adjacency(interactions: sp.csr_matrix) -> sp.csr_matrix:
    return sp.bmat([[None, interactions], [interactions.T, None]], format="csr")


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


class InteractionGraph(nn.Module):
    r"""The symmetrically normalised bipartite adjacency, applied to users and items side by side.

    .. math:: \hat A = \begin{pmatrix} 0 & \hat R \\ \hat R^\top & 0 \end{pmatrix}, \qquad
        \hat R_{ui} = \frac{R_{ui}}{\sqrt{|N_u| |N_i|}}

    The same products as those with `normalized_adjacency`. Users and items stay the tables that
    they are, where joining and taking them apart would copy both in each direction.

    Args:
        interactions: R [U, I].

    Source: LightGCN (He et al., SIGIR 2020), Eq. 7-8.
    """

    def __init__(self, interactions: sp.csr_matrix) -> None:
        super().__init__()
        self.interactions = SparseMatrix(normalized_interactions(interactions))

    def sum_of_layers(self, users: Tensor, items: Tensor, layers: int) -> tuple[Tensor, Tensor]:
        r"""Return the users and items of :math:`\sum_{l=0}^{L} \hat A^l [X_u ; X_i]`.

        Args:
            users: X_u [U, d]; half precision is computed in float32.
            items: X_i [I, d], likewise.

        Returns:
            [U, d] and [I, d], float32.
        """
        users, items = users.float(), items.float()
        if layers == 0:
            return users, items
        with torch.autocast(device_type=users.device.type, enabled=False):
            found: tuple[Tensor, Tensor] = _SumOfLayers.apply(  # type: ignore[no-untyped-call]
                users, items, *self.interactions.both(), layers
            )
        return found


class _SumOfLayers(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, by_user: Parts, by_item: Parts, layers: int
    ) -> tuple[Tensor, Tensor]:
        ctx.graph = by_user, by_item, layers
        return _sum_of_layers(users, items, *ctx.graph)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # The adjacency is symmetric, so the gradient is propagated as the embeddings are.
        of_users, of_items = gradients
        return *_sum_of_layers(of_users, of_items, *ctx.graph), None, None, None


def _sum_of_layers(
    users: Tensor, items: Tensor, by_user: Parts, by_item: Parts, layers: int
) -> tuple[Tensor, Tensor]:
    def next_sum(total: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        all_users, all_items = total
        return (
            sparse_product(by_user, all_items, plus=users),
            sparse_product(by_item, all_users, plus=items),
        )

    return horner(next_sum, (users, items), layers)
