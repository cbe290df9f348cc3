"""The batches of an epoch, drawn for a large part of the epoch at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import chain
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.data.transform import Equal
from recbole.sampler import Sampler
from recbole.utils import InputType
from torch import Tensor

from recbole_margo.data.protocol import refuse_impossible_negatives
from recbole_margo.errors import DataError

# Interactions that are drawn and moved to the device at once; bounds the memory for it.
CHUNK = 2**20


def training_batches(loader: Any, device: torch.device) -> Any:
    """Return what yields a training loader's batches: `TrainingBatches` or the loader itself.

    The loader stays where it does more than `TrainingBatches` can: negatives by popularity or
    chosen by the model, negatives of other samplers, labelled pairs, transformations, columns of
    users and items, several processes. It is refused if a user of it knows all items.
    """
    if _is_plain(loader):
        return TrainingBatches(loader, device)
    refuse_impossible_negatives(loader)
    return loader


def _is_plain(loader: Any) -> bool:
    if type(loader) is not TrainDataLoader or type(loader._dataset) is not Dataset:
        return False
    alone = loader.config["single_spec"] and isinstance(loader.transform, Equal)
    joins = loader._dataset.user_feat is not None or loader._dataset.item_feat is not None
    if not alone or joins or loader.neg_sample_args.get("dynamic", False):
        return False
    return not _has_negatives(loader) or (
        loader.neg_sample_args["distribution"] == "uniform"
        and loader.dl_format == InputType.PAIRWISE
        and type(loader._sampler) is Sampler
    )


def _has_negatives(loader: Any) -> bool:
    arguments = loader.neg_sample_args
    return "none" not in (arguments["distribution"], arguments["sample_num"])


class TrainingBatches:
    """The batches of RecBole's training loader for pairs, by the loader's own generator alone.

    An epoch is a new permutation of the interactions, cut into batches as the loader cuts them,
    each interaction with `sample_num` items that its user does not know, uniformly distributed.
    Interactions of users who know all items are left out, with a warning: no negative is there.
    All columns of the interactions are in a batch. The loader's generator decides all of it, so an
    epoch can be repeated from the generator's state.
    """

    def __init__(self, loader: TrainDataLoader, device: torch.device) -> None:
        self._loader, self._device = loader, device
        self._unknown = (
            _UnknownItems(loader._sampler, self._on_device) if _has_negatives(loader) else None
        )
        self._left_out = self._without_negatives()
        count = len(loader._dataset) - int(self._left_out.sum())
        self._length = math.ceil(count / int(loader.step))

    def __len__(self) -> int:
        return self._length

    def _without_negatives(self) -> Tensor:
        """Return which interactions have no possible negative [N], and warn of them."""
        users = self._loader._dataset.inter_feat[self._loader.uid_field]
        if self._unknown is None:
            return torch.zeros(len(users), dtype=torch.bool)
        left_out = self._unknown.counts[users] == 0
        if left_out.all():
            raise DataError("every user knows all items, so that no negative can be drawn")
        if left_out.any():
            getLogger().warning(
                f"{len(users[left_out].unique())} users know all items: their "
                f"{int(left_out.sum())} training interactions have no negatives and are left out "
                "of the batches (they stay in the graph)"
            )
        return left_out

    def __iter__(self) -> Iterator[Interaction]:
        count, step = len(self._loader._dataset), self._loader.step
        if self._loader.shuffle:
            rows = torch.randperm(count, generator=self._loader.generator)
        else:
            rows = torch.arange(count)
        rows = rows[~self._left_out[rows]]
        interactions = self._loader._dataset.inter_feat.interaction
        for chunk in torch.split(rows, max(CHUNK // step, 1) * step):
            columns = {n: self._on_device(column[chunk]) for n, column in interactions.items()}
            yield from self._cut(columns, self._negatives(columns), step)

    def _negatives(self, columns: dict[str, Tensor]) -> Tensor | None:
        if self._unknown is None:
            return None
        users = columns[self._loader.uid_field]
        shape = (self._loader.neg_sample_num, len(users))
        return self._unknown.draw(users.expand(shape), self._loader.generator)

    def _cut(
        self, columns: dict[str, Tensor], negatives: Tensor | None, step: int
    ) -> Iterator[Interaction]:
        count = len(columns[self._loader.uid_field])
        for first in range(0, count, step):
            part = slice(first, first + step)
            batch = Interaction({name: column[part] for name, column in columns.items()})
            if negatives is not None:
                if len(negatives) > 1:
                    batch = batch.repeat(len(negatives))
                batch[self._loader.neg_item_id] = negatives[:, part].reshape(-1)
            yield batch

    def _on_device(self, column: Tensor) -> Tensor:
        if self._device.type == "cuda":
            column = column.pin_memory()
        return column.to(self._device, non_blocking=True)


class _UnknownItems:
    r"""Draws items that a user does not know, without trying those that the user knows.

    With a user's known items :math:`a_0 < a_1 < \dots`, counted from 1, :math:`a_j - 1 - j` unknown
    items lie below :math:`a_j`. So the unknown item of rank r (from 0) is
    :math:`1 + r + |\{j : a_j - 1 - j \le r\}|`, and a rank is drawn uniformly.

    Args:
        sampler: RecBole's sampler, which knows the items [U] of every user.
        move: brings a tensor to where the users will be.
    """

    def __init__(
        self, sampler: Sampler, move: Callable[[Tensor], Tensor] = lambda tensor: tensor
    ) -> None:
        self._move = move
        known, self._item_num = sampler.used_ids, sampler.item_num
        counts = np.fromiter(map(len, known), np.int64, len(known))
        total = int(counts.sum())
        users = np.repeat(np.arange(len(known)), counts)
        keys = users * self._item_num
        keys += np.fromiter(chain.from_iterable(known), np.int64, total)
        keys.sort()
        starts = counts.cumsum() - counts
        keys -= 1 + np.arange(total) - starts[users]
        # The ranks of all users in one sorted array, so that one search finds the place of each.
        self._keys, self._starts = move(torch.from_numpy(keys)), move(torch.from_numpy(starts))
        # How many items each user does not know [U].
        self.counts = torch.from_numpy(self._item_num - 1 - counts)
        self._counts = move(self.counts)

    def draw(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """Return an unknown item for every user [*]; the generator is in the host's memory."""
        # The range is so much larger than a number of items that the remainder is uniform.
        draws = self._move(torch.randint(2**62, users.shape, generator=generator))
        ranks = draws % self._counts[users]
        places = torch.searchsorted(self._keys, users * self._item_num + ranks, right=True)
        return 1 + ranks + places - self._starts[users]
