"""The lists of evaluation loaders by user: known items, and candidates that stay the same."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.dataloader import FullSortEvalDataLoader, NegSampleEvalDataLoader
from recbole.sampler import Sampler
from torch import Tensor

from recbole_margo.recbole_mends import refuse_users_who_know_all


class ItemsByUser:
    """Lists of item ids in two arrays, read by user like RecBole's array of tensors.

    RecBole keeps a tensor per user, which takes a kilobyte for a handful of ids.

    Args:
        lists: the item ids of each of U users, a tensor, a list or none.
    """

    def __init__(self, lists: Iterable[Tensor | list[int] | None]) -> None:
        ids = [[] if each is None else each for each in lists]
        self._counts = torch.tensor([len(each) for each in ids], dtype=torch.int64)
        self._starts = self._counts.cumsum(0) - self._counts
        plain = (each.tolist() if isinstance(each, Tensor) else each for each in ids)
        self._items = torch.from_numpy(np.fromiter(chain.from_iterable(plain), np.int64))

    def __len__(self) -> int:
        return len(self._counts)

    def __getitem__(self, users: Any) -> Any:
        """Return a user's item ids, or a list of them for several users."""
        if isinstance(users, Sequence) or np.ndim(users) > 0:
            return [self[int(user)] for user in users]
        start, count = self._starts[users], self._counts[users]
        return self._items[start : start + count]

    def concatenated(self, users: Tensor) -> tuple[Tensor, Tensor]:
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


@contextmanager
def without_tensors_by_user() -> Iterator[None]:
    """Let RecBole's loaders of full rankings that are made meanwhile list items in plain lists.

    It makes two tensors for every user, which takes most of the time; `use_compact_lists` is due.
    """
    original = FullSortEvalDataLoader._set_user_property

    def set_user_property(self: Any, uid: Any, used_item: set[int], positive: set[int]) -> None:
        if uid is not None:
            held = self.__dict__  # RecBole looks at every access to an attribute
            held["uid2positive_item"][uid] = list(positive)
            held["uid2items_num"][uid] = len(positive)
            held["uid2history_item"][uid] = list(used_item - positive)

    FullSortEvalDataLoader._set_user_property = set_user_property
    try:
        yield
    finally:
        FullSortEvalDataLoader._set_user_property = original


def use_compact_lists(loader: Any) -> None:
    """Let a loader of full rankings keep `ItemsByUser` in place of its lists; others stay.

    Args:
        loader: RecBole's loader of validation or test data.
    """
    if isinstance(loader, FullSortEvalDataLoader) and not loader.is_sequential:
        loader.uid2positive_item = ItemsByUser(loader.uid2positive_item)
        loader.uid2history_item = ItemsByUser(loader.uid2history_item)


def keep_candidates(loader: Any, seed: int, train: Any = None) -> None:
    """Let a loader of a sampled evaluation give a user the same candidates whenever it is read.

    RecBole draws them anew for every epoch and model, from the numbers that training draws from.
    Loaders that draw nothing stay as they are.

    Args:
        loader: RecBole's loader of validation or test data.
        train: the training data, if only its items and those of the evaluated part are no
            candidates; none: RecBole decides.

    Raises:
        DataError: if a user has no candidate.
    """
    if not isinstance(loader, NegSampleEvalDataLoader):
        return
    drawn = loader.neg_sample_args
    if drawn["distribution"] == "none" or drawn["sample_num"] == "none":
        return
    sampler = copy.copy(loader._sampler)
    if isinstance(sampler, Sampler):  # the other one, of `repeatable`, keeps nothing out
        if train is not None:
            sampler.used_ids = _items_by_user(train, loader._dataset)
        refuse_users_who_know_all(sampler, loader.uid_list)
    if sampler.distribution == "popularity":
        # RecBole takes the exponent from the training of the model, and candidates are the split's.
        sampler.alpha = 1.0
        sampler.set_distribution("popularity")
    loader._sampler = SeededCandidates(sampler, seed, loader._dataset)


def _items_by_user(*parts: Any) -> NDArray[Any]:
    """Return for each user the set of items of some parts of a dataset."""
    used = np.array([set() for _ in range(parts[0].user_num)])
    for part in parts:
        users, items = (
            part.inter_feat[field].numpy() for field in (part.uid_field, part.iid_field)
        )
        for user, item in zip(users, items, strict=True):
            used[user].add(item)
    return used


class SeededCandidates:
    """A RecBole sampler whose draws for a user depend on the seed, the part and the user alone.

    Args:
        dataset: the part, for the users' tokens.
    """

    def __init__(self, sampler: Any, seed: int, dataset: Any) -> None:
        self.phase = sampler.phase
        self.used_ids = sampler.used_ids
        self._sampler = sampler
        self._seed = seed
        self._tokens = dataset.field2id_token[dataset.uid_field]

    def sample_by_user_ids(
        self, user_ids: NDArray[np.int64], item_ids: NDArray[np.int64], num: int
    ) -> Tensor:
        """Return the candidates of a user beside his positives.

        Args:
            user_ids: the user's id, once for each of his P positives [P].
            item_ids: the positives [P].
            num: how many candidates there are for each positive.

        Returns:
            Item ids [num * P], as RecBole's sampler draws them.
        """
        name = f"{self._seed}\t{self.phase}\t{self._tokens[user_ids[0]]}"
        words = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype="<u4")
        before = np.random.get_state()
        try:
            # RecBole's samplers draw from NumPy's global numbers, which training goes on with.
            np.random.seed(words)
            drawn: Tensor = self._sampler.sample_by_user_ids(user_ids, item_ids, num)
        finally:
            np.random.set_state(before)
        return drawn
