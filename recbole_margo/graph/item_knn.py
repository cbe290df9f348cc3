"""Item-item k-nearest-neighbour graphs by the cosine of one modality's features.

Neighbours are exact, or come from faiss for catalogues too large to compare every pair.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from recbole_margo.data import row_norms
from recbole_margo.graph import exact_knn
from recbole_margo.graph.bipartite import scaled_on_both_sides
from recbole_margo.graph.exact_knn import ItemDirections, exact_neighbors
from recbole_margo.graph.graph_cache import products_on
from recbole_margo.graph.neighbor_search import (
    EXACT,
    NeighborSearch,
    import_faiss,
    train_index,
    untrained_index,
)

# Values of directions, or cosines of the sample, that are held at a time.
BLOCK_CELLS = 2**22
# Items on which the neighbours that were found are compared with the exact ones.
SAMPLED_ITEMS = 1000
# Cosines in float32 that differ by less are equal neighbours.
TOLERANCE = 1e-5
POOR_RECALL = 0.9


def approximate_neighbors(
    directions: ItemDirections, k: int, search: NeighborSearch
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return k near neighbours of N items, each item its own; logs their recall on a sample.

    faiss holds a copy of all directions, N D values in float32, on the CPU.

    Args:
        k: number of neighbours, at most N.

    Returns:
        Their positions [N, k], -1 where fewer were found, and their cosines [N, k].

    Raises:
        ConfigError: if faiss is not installed, or there are fewer items than lists.
    """
    import_faiss().omp_set_num_threads(torch.get_num_threads())
    index = _built_index(directions, search)
    found = [index.search(rows, k) for rows in _blocks(directions, "searching neighbours")]
    cosines = np.concatenate([block for block, _ in found])
    positions = np.concatenate([block for _, block in found])
    own = np.arange(len(positions))[:, np.newaxis]
    # The last is the farthest, or a gap.
    without_own = ~(positions == own).any(axis=1)
    positions[without_own, -1] = own[without_own, 0]
    cosines = np.where(positions == own, 1.0, np.minimum(cosines, 1.0)).astype(np.float32)
    recall = sampled_recall(directions, positions, cosines)
    logging.getLogger().log(
        logging.INFO if recall >= POOR_RECALL else logging.WARNING,
        "Item neighbours by %s in %d dimensions: recall %.4f of the exact %d neighbours.",
        search,
        directions.width,
        recall,
        k,
    )
    return positions, cosines


def sampled_recall(
    directions: ItemDirections,
    positions: NDArray[np.int64],
    cosines: NDArray[np.float32],
    seed: int = 0,
) -> float:
    """Return the share of the exact neighbours that were found, over a sample of items.

    A neighbour counts when it is as near as the k-th of the exact search, so that the choice among
    equally near items does not matter.

    Args:
        positions: what was found [N, k], -1 for nothing.
        cosines: how near they are [N, k].
        seed: of the sample of `SAMPLED_ITEMS`.
    """
    count, k = positions.shape
    random = np.random.default_rng(seed)
    sample = np.sort(random.choice(count, min(SAMPLED_ITEMS, count), replace=False))
    queries = directions[torch.from_numpy(sample).to(directions.items.device)]
    best = queries.new_empty(len(sample), 0)
    step = max(1, BLOCK_CELLS // len(sample))
    for start in range(0, count, step):
        block = torch.cat([best, queries @ directions[start : start + step].T], dim=1)
        best = torch.topk(block, min(k, block.shape[1]), dim=1).values
    limit = best[:, -1:].cpu().numpy() - TOLERANCE
    near = (positions[sample] >= 0) & (cosines[sample] >= limit)
    return float(near.mean())


def _built_index(directions: ItemDirections, search: NeighborSearch) -> Any:
    count = len(directions)

    def sample(rows: NDArray[np.intp]) -> NDArray[np.float32]:
        return _array(directions, torch.from_numpy(rows))

    index = untrained_index(search, directions.width, count)
    train_index(index, count, sample)
    for block in _blocks(directions, "indexing items"):
        index.add(block)
    return index


def _blocks(directions: ItemDirections, label: str) -> Iterator[NDArray[np.float32]]:
    step = max(1, BLOCK_CELLS // directions.width)
    for start in tqdm(range(0, len(directions), step), label, leave=False, disable=None, delay=3.0):
        yield _array(directions, slice(start, start + step))


def _array(directions: ItemDirections, rows: Any) -> NDArray[np.float32]:
    if isinstance(rows, torch.Tensor):
        rows = rows.to(directions.items.device)
    found: NDArray[np.float32] = directions[rows].cpu().numpy()
    return found


def nearest_neighbors(
    features: Tensor, present: Tensor, k: int, search: NeighborSearch = EXACT
) -> sp.csr_matrix:
    """Return the k most similar items of every item, itself included.

    An item comes first in its own list; among equal cosines the lower id comes first. Items that
    miss the modality, and items whose features are all zero, have no direction: they get no
    neighbours and are nobody's neighbour. No [I, I] matrix is ever held.

    Args:
        features: the feature matrix [I, D].
        present: which items have the modality [I], bool.
        k: number of neighbours, the item itself among them; fewer if the catalogue has fewer.
        search: how they are found; an approximate search may find fewer. An exact one looks into
            its cache first, if it has one.

    Returns:
        Cosine similarities [I, I], `min(k, number of items with features)` entries a row, sorted
        by column.

    Raises:
        ConfigError: if the search needs a library that is not installed.
    """
    if search.cache is None or not search.is_exact:
        return _found_neighbors(features, present, k, search)
    return search.cache.get(
        "item-neighbors",
        f"{k} nearest of {features.shape[0]:,} items by {features.shape[1]:,} columns",
        (features, present, k, products_on(features.device)),
        (sys.modules[__name__], exact_knn, row_norms),
        lambda: _found_neighbors(features, present, k, search),
    )


def _found_neighbors(
    features: Tensor, present: Tensor, k: int, search: NeighborSearch
) -> sp.csr_matrix:
    item_count = features.shape[0]
    directions = ItemDirections(features, present)
    k = min(k, len(directions))
    if k == 0:
        return sp.csr_matrix((item_count, item_count), dtype=np.float32)
    if search.is_exact:
        neighbors, cosines = exact_neighbors(directions, k)
    else:
        neighbors, cosines = approximate_neighbors(directions, k, search)
    items = directions.items.cpu().numpy()
    row, position = np.nonzero(neighbors >= 0)
    values, columns = cosines[row, position], items[neighbors[row, position]]
    graph = sp.csr_matrix((values, (items[row], columns)), shape=(item_count, item_count))
    graph.sort_indices()
    return graph


def binary_knn_graph(
    features: Tensor, present: Tensor, k: int, search: NeighborSearch = EXACT
) -> sp.csr_matrix:
    """Return the kNN graph whose edges all weigh 1/k, as FREEDOM and DRAGON use it.

    Args:
        features: the feature matrix [I, D].
        present: which items have the modality [I], bool.
        k: number of neighbours, the item itself among them.

    Returns:
        The graph [I, I]; every row sums to 1, or to 0 for an item without the modality.

    Source: FREEDOM (Zhou and Shen, MM 2023), Eq. 3-5; equal row counts make D^-1/2 S D^-1/2
    the constant 1/k.
    """
    graph = nearest_neighbors(features, present, k, search)
    per_row = np.diff(graph.indptr)
    graph.data = np.repeat(1.0 / np.maximum(per_row, 1), per_row).astype(np.float32)
    return graph


def similarity_knn_graph(
    features: Tensor, present: Tensor, k: int, search: NeighborSearch = EXACT
) -> sp.csr_matrix:
    r"""Return the kNN graph that keeps the cosines, normalised by row sums on both sides.

    .. math:: D^{-1/2} S D^{-1/2}, \qquad D = \mathrm{diag}(S 1)

    A row whose cosines do not sum to something positive has no normalisation: it gets no weight,
    as row and as column.

    Args:
        features: the feature matrix [I, D].
        present: which items have the modality [I], bool.
        k: number of neighbours, the item itself among them.

    Returns:
        The graph [I, I], float32; not symmetric.

    Source: LATTICE (Zhang et al., MM 2021), whose item graph MICRO and MGCN share.
    """
    graph = nearest_neighbors(features, present, k, search)
    return scaled_on_both_sides(graph, np.asarray(graph.sum(axis=1), dtype=np.float64).ravel())


def combined_graph(
    graphs: Sequence[sp.csr_matrix], weights: Sequence[float], mask: Tensor
) -> sp.csr_matrix:
    r"""Return the weighted sum of the modalities' item graphs.

    .. math:: S_i = \sum_m \frac{w_m}{\sum_{m' \in M_i} w_{m'}} S_i^m

    where M_i are the modalities in which item i has neighbours. With nothing missing this is
    :math:`\sum_m w_m S^m`; an item that misses a modality spreads its weight over the others.

    Args:
        graphs: one [I, I] graph per modality.
        weights: one weight per modality, not negative.
        mask: presence mask [I, M].

    Returns:
        The graph [I, I]; rows sum to 1 where any graph has the row.
    """
    has_neighbors = np.stack([np.diff(graph.indptr) > 0 for graph in graphs], axis=1)
    share = (mask.cpu().numpy() & has_neighbors) * np.asarray(weights, dtype=np.float64)
    total = share.sum(axis=1, keepdims=True)
    share = np.divide(share, total, out=np.zeros_like(share), where=total > 0)
    parts = [sp.diags(share[:, m]) @ graph for m, graph in enumerate(graphs)]
    return sp.csr_matrix(sum(parts[1:], start=parts[0]), dtype=np.float32)


def modality_shares(weights: Mapping[str, float], modalities: Sequence[str]) -> list[float]:
    """Return the share of each modality in the item graph, summing to 1.

    Args:
        weights: weight by modality name; `other` stands for every modality not named.
        modalities: the modalities of the dataset, in order.

    Raises:
        ValueError: if a weight is missing or negative, or if all are zero.
    """
    chosen = []
    for modality in modalities:
        weight = weights.get(modality, weights.get("other"))
        if weight is None or weight < 0:
            raise ValueError(
                f"no weight, or a negative one, for modality {modality!r}: "
                f"name it or give `other`, found {dict(weights)}"
            )
        chosen.append(float(weight))
    total = sum(chosen)
    if total <= 0:
        raise ValueError(f"the weights of {list(modalities)} are all zero: {dict(weights)}")
    return [weight / total for weight in chosen]
