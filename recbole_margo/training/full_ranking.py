"""The items ranked first for every user of a loader, as RecBole's evaluation would collect them."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.evaluator import Collector, Evaluator
from recbole.evaluator.collector import DataStruct
from torch import Tensor
from tqdm import tqdm

from recbole_margo.data.evaluation_lists import ItemsByUser
from recbole_margo.errors import ConfigError

# Scores that are computed at once; bounds the memory.
CELLS, CELLS_ON_GPU = 2**21, 2**26
# But this many users at least, so that reading the whole item table for them pays.
USERS = 64
# What metrics may need beside the ranking; RecBole collects it from the training data.
OF_TRAINING = ("data.num_items", "data.num_users", "data.count_items", "data.count_users")


def needs_rankings_only(loader: Any, collector: Collector, evaluator: Evaluator) -> bool:
    """Tell whether `FullRanking` gives the metrics what RecBole's evaluation would collect.

    Args:
        collector: RecBole's collector; one that somebody replaced or listens to gets its batches.
    """
    given = {"rec.items", "rec.topk", *OF_TRAINING}
    collect = getattr(collector.eval_batch_collect, "__func__", None)
    return (
        type(loader) is FullSortEvalDataLoader
        and not loader.is_sequential
        and loader.config["single_spec"]
        and collect is Collector.eval_batch_collect
        and all(given.issuperset(metric.metric_need) for metric in evaluator.metric_class.values())
    )


class FullRanking:
    """Ranks all items for the users of a loader, block by block.

    What RecBole's loader lists by user is put into sorted arrays once. A cell of the score matrix
    [N, I] of the loader's users is one number there: row * I + item.

    Args:
        loader: RecBole's loader of a full evaluation of N users.
    """

    def __init__(self, loader: FullSortEvalDataLoader, device: torch.device) -> None:
        self.users = loader.user_df.to(device)
        self.item_num = loader._dataset.item_num
        cells = CELLS if device.type == "cpu" else CELLS_ON_GPU
        self._block = min(loader.step, max(cells // self.item_num, USERS))
        history, counts = self._cells(loader, loader.uid2history_item)
        self._masked = history.to(device)
        self._masked_ends = [0, *counts.cumsum(0).tolist()]
        positives, counts = self._cells(loader, loader.uid2positive_item)
        self._positives = positives.sort().values.to(device)
        self._positive_counts = counts.to(device)

    def _cells(self, loader: FullSortEvalDataLoader, listed: Any) -> tuple[Tensor, Tensor]:
        """Return the cells [E] of items that are listed by user, and the number of each row [N]."""
        lists = listed if isinstance(listed, ItemsByUser) else ItemsByUser(listed)
        items, counts = lists.concatenated(loader.user_df[loader.uid_field])
        rows = torch.arange(len(counts)).repeat_interleave(counts)
        return rows * self.item_num + items, counts

    def top_items(
        self, model: Any, k: int, show_progress: bool = False, rows: slice = slice(None)
    ) -> Tensor:
        """Return the items with the k largest scores of each user, without PAD and the history.

        Where fewer are left, the rest of the row is filled with those that are left out. Equal
        scores come in the order of `torch.topk`, as in RecBole's evaluation.

        Args:
            model: the model, which scores with its `full_sort_predict`.
            rows: which N of the loader's users to rank for; default: all.

        Returns:
            Item ids [N, k], the largest score first.

        Raises:
            ConfigError: if there are not as many items.
        """
        if k > self.item_num:
            raise ConfigError(
                f"`topk` asks for the first {k} items, but the dataset has {self.item_num - 1}: "
                "give smaller numbers"
            )
        start, end, _ = rows.indices(len(self.users))
        # Made beforehand: results in between would keep the scores' memory from being used again.
        found = self._positives.new_empty(max(end - start, 0), k)
        starts = range(start, end, self._block)
        for first in tqdm(starts, "Evaluate", disable=not show_progress, leave=False):
            last = min(first + self._block, end)
            scores = model.full_sort_predict(self.users[first:last]).view(-1, self.item_num)
            scores[:, 0] = -torch.inf
            masked = self._masked[self._masked_ends[first] : self._masked_ends[last]]
            scores.view(-1).index_fill_(0, masked - first * self.item_num, -torch.inf)
            found[first - start : last - start] = scores.topk(k).indices
            del scores
        return found

    def collect(self, top: Tensor, collected: DataStruct) -> DataStruct:
        """Return what RecBole's collector would hand to the metrics.

        Args:
            top: item ids [N, k].
            collected: what the collector has of the training data.
        """
        _, hits = self._positives_at(top)
        struct = DataStruct()
        for name in OF_TRAINING:
            if name in collected:
                struct.set(name, collected.get(name))
        struct.set("rec.items", top.cpu())
        hits_and_counts = torch.cat([hits.long(), self._positive_counts.unsqueeze(1)], dim=1)
        struct.set("rec.topk", hits_and_counts.cpu())
        return struct

    def positive_ranks(self, top: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rank of each positive.

        Args:
            top: item ids [N, k].

        Returns:
            Row [P], item id [P], and rank from 1, or 0 if the item is not in the row's list [P].
        """
        places, hits = self._positives_at(top.to(self._positives.device))
        ranks = torch.zeros_like(self._positives)
        ranks[places[hits]] = hits.nonzero()[:, 1] + 1
        cells = self._positives.cpu()
        return cells // self.item_num, cells % self.item_num, ranks.cpu()

    def _positives_at(self, top: Tensor) -> tuple[Tensor, Tensor]:
        """Return where in the positives each item [N, k] would stand, and whether it does."""
        rows = torch.arange(len(top), device=top.device).unsqueeze(1)
        cells = rows * self.item_num + top
        places = torch.searchsorted(self._positives, cells).clamp(max=len(self._positives) - 1)
        return places, self._positives[places] == cells
