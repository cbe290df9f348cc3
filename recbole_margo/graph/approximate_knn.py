"""Nearest neighbours by cosine through faiss, for catalogues too large to compare every pair."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_margo.graph.exact_knn import ItemDirections
from recbole_margo.graph.neighbor_search import (
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
