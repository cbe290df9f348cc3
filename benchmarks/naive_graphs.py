"""The naive reference's graphs: edge lists, neighbour lists and dense matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class EdgeList:
    """Directed edges with weights.

    Attributes:
        source: node that a message comes from [E].
        target: node that it goes to [E].
        weight: factor on the message [E].
    """

    source: Tensor
    target: Tensor
    weight: Tensor

    def messages(self, nodes: Tensor) -> Tensor:
        """Return the sum of the weighted messages at every node, [N, d] -> [N, d]."""
        sent = nodes.index_select(0, self.source) * self.weight.unsqueeze(1)
        return torch.zeros_like(nodes).index_add(0, self.target, sent)

    def to(self, device: Any) -> EdgeList:
        """Return the edges on a device."""
        return EdgeList(*(part.to(device) for part in (self.source, self.target, self.weight)))


@dataclass(frozen=True)
class NaiveGraphs:
    """What the naive reference propagates over.

    Attributes:
        interactions: edges in both directions, users first, normalised symmetrically.
        user_neighbors: for each user k ids of co-users, filled up with 0.
        user_weights: their softmax weights [U, k], 0 where filled up.
        items: edges of the mixed item graph.
    """

    interactions: EdgeList
    user_neighbors: list[list[int]]
    user_weights: Tensor
    items: EdgeList


def interaction_edges(users: Tensor, items: Tensor, user_count: int, item_count: int) -> EdgeList:
    """Return both directions of the interactions, each weighing 1 / sqrt(d_u d_i).

    Args:
        users: user ids [E].
        items: item ids [E], no pair twice.
        user_count: number of users U.
        item_count: number of items I.

    Source: LightGCN (He et al., SIGIR 2020), Eq. 7.
    """
    user_degree = torch.bincount(users, minlength=user_count).float()
    item_degree = torch.bincount(items, minlength=item_count).float()
    weight = 1.0 / torch.sqrt(user_degree[users] * item_degree[items])
    nodes = items + user_count
    return EdgeList(
        torch.cat([users, nodes]), torch.cat([nodes, users]), torch.cat([weight, weight])
    )


def cooccurrence_counts(users: Tensor, items: Tensor, user_count: int, item_count: int) -> Tensor:
    """Return how many items each two users share, a dense matrix [U, U]; args as above."""
    interactions = torch.zeros(user_count, item_count)
    interactions[users, items] = 1.0
    counts = interactions @ interactions.T
    return counts.fill_diagonal_(0.0)


def strongest_co_users(
    counts: Tensor, degrees: NDArray[np.int64], k: int
) -> tuple[list[list[int]], Tensor]:
    """Return each user's k co-users and their softmax weights.

    Most shared items first, then the user with fewer interactions, then the lower id.

    Args:
        counts: shared items [U, U].
        degrees: interactions of each user [U].
        k: co-users a user keeps.

    Returns:
        Ids, filled up with 0, and weights [U, k], 0 where filled up.

    Source: DRAGON (Zhou et al., ECAI 2023), user graph.
    """
    neighbors, weights = [], torch.zeros(len(counts), k)
    for user, row in enumerate(counts.numpy()):
        shared = np.flatnonzero(row)
        best = shared[np.lexsort((shared, degrees[shared], -row[shared]))[:k]]
        neighbors.append(best.tolist() + [0] * (k - len(best)))
        weights[user, : len(best)] = torch.softmax(torch.from_numpy(row[best]), dim=0)
    return neighbors, weights


def item_similarities(features: Tensor) -> Tensor:
    """Return the cosine of each two items [I, I]; PAD, item 0, is similar to none.

    Args:
        features: one modality's matrix [I, D].
    """
    directions = functional.normalize(features)
    similarities = directions @ directions.T
    similarities[0, :] = -torch.inf
    similarities[:, 0] = -torch.inf
    return similarities


def item_edges(features: Sequence[Tensor], shares: Sequence[float], k: int) -> EdgeList:
    """Return the k nearest neighbours of each item in each modality, each edge weighing share / k.

    Args:
        features: one matrix [I, D_m] per modality.
        shares: weight of each modality, summing to 1.
        k: neighbours of an item, itself among them.

    Source: DRAGON (Zhou et al., ECAI 2023), item graph; FREEDOM (Zhou and Shen, MM 2023), Eq. 3-5.
    """
    sources, targets, weights = [], [], []
    for matrix, share in zip(features, shares, strict=True):
        items = torch.arange(1, len(matrix), device=matrix.device)
        neighbors = torch.topk(item_similarities(matrix), k, dim=1).indices[1:]
        targets.append(items.repeat_interleave(k))
        sources.append(neighbors.flatten())
        weights.append(torch.full((len(items) * k,), share / k, device=matrix.device))
    return EdgeList(torch.cat(sources), torch.cat(targets), torch.cat(weights))
