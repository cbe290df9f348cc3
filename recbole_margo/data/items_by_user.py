"""What RecBole's evaluation loaders list by user, without a tensor for every user."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from torch import Tensor


class ItemsByUser:
    """Lists of item ids in two arrays, read by user like RecBole's array of tensors.

    RecBole keeps a tensor per user, which takes a kilobyte for a handful of ids.

    Args:
        lists: the item ids of each of U users, a tensor or none.
    """

    def __init__(self, lists: Iterable[Tensor | None]) -> None:
        ids = [torch.empty(0, dtype=torch.int64) if each is None else each for each in lists]
        self._counts = torch.tensor([len(each) for each in ids], dtype=torch.int64)
        self._starts = self._counts.cumsum(0) - self._counts
        self._items = torch.cat(ids) if ids else torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self._counts)

    def __getitem__(self, users: Any) -> Any:
        """Return a user's item ids, or a list of them for several users."""
        if isinstance(users, Sequence) or np.ndim(users) > 0:
            return [self[int(user)] for user in users]
        start, count = self._starts[users], self._counts[users]
        return self._items[start : start + count]

    def joined(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """Return the item ids of some users one after the other.

        Args:
            users: user ids [N].

        Returns:
            Item ids [E] and how many of them are each user's [N].
        """
        counts = self._counts[users]
        shift = self._starts[users] - (counts.cumsum(0) - counts)
        places = torch.arange(int(counts.sum())) + shift.repeat_interleave(counts)
        return self._items[places], counts


def list_compactly(loader: Any) -> None:
    """Let a loader of full rankings keep `ItemsByUser` in place of its tensors; others stay.

    Args:
        loader: RecBole's loader of validation or test data.
    """
    if isinstance(loader, FullSortEvalDataLoader) and not loader.is_sequential:
        loader.uid2positive_item = ItemsByUser(loader.uid2positive_item)
        loader.uid2history_item = ItemsByUser(loader.uid2history_item)
