"""RecBole's trainer with an evaluation from full rankings that is fast and does not round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.evaluator import Collector, Evaluator
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.metrics import MAP, MRR, NDCG, Hit, Precision, Recall
from recbole.trainer import Trainer
from torch import Tensor
from tqdm import tqdm

from recbole_margo.checkpoint_file.fitting import load_into
from recbole_margo.compat import load_checkpoint
from recbole_margo.data.evaluation_lists import ItemsByUser
from recbole_margo.errors import ConfigError
from recbole_margo.training.processes import Processes

# Scores that are computed at once; bounds the memory.
CELLS, CELLS_ON_GPU = 2**21, 2**26
# But this many users at least, so that reading the whole item table for them pays.
USERS = 64
# What metrics may need beside the ranking; RecBole collects it from the training data.
OF_TRAINING = ("data.num_items", "data.num_users", "data.count_items", "data.count_users")
# RecBole's metrics can only be had rounded; 15 decimals are all that a double in [0, 1] has.
UNROUNDED = 15


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


class VectorizedNDCG(NDCG):  # type: ignore[misc]
    """RecBole's NDCG, the same to the last bit, without a turn of a Python loop for every user."""

    def metric_info(self, pos_index: Any, pos_len: Any) -> Any:
        """Return the NDCG at every rank [N, K].

        Args:
            pos_index: whether the item at each rank is a positive [N, K].
            pos_len: number of positives of each user [N].
        """
        length = pos_index.shape[1]
        gains = 1.0 / np.log2(np.arange(1, length + 1) + 1.0)
        # From the last rank on that can be a hit, the ideal stays what it is there.
        last = np.minimum(pos_len, length).reshape(-1, 1) - 1
        ideal = np.cumsum(gains)[np.minimum(np.arange(length), last)]
        return np.cumsum(np.where(pos_index, gains, 0), axis=1) / ideal


# Averages over users, 0 for those without a hit.
ZERO_WITHOUT_HITS = (Hit, MAP, MRR, NDCG, Precision, Recall, VectorizedNDCG)


@contextmanager
def averaging_hits_alone(metrics: Iterable[Any], collected: DataStruct) -> Iterator[None]:
    """Let RecBole's metrics look at the users with a hit alone, and average over all of them.

    Nothing is added for the others, who are most: the averages are the same to the last bit. Where
    one of the metrics is another one, or somebody listens to its values, nothing changes.

    Args:
        metrics: those that will be asked while the context lasts.
        collected: what they will be asked with.
    """
    metrics = list(metrics)
    # A single column is summed in another order than several.
    if not metrics or not all(
        type(metric) in ZERO_WITHOUT_HITS
        and max(metric.topk) > 1
        and not {"used_info", "topk_result"} & vars(metric).keys()
        for metric in metrics
    ):
        yield
        return
    hits, counts = metrics[0].used_info(collected)
    rows = np.flatnonzero(hits.any(axis=1))
    of_rows = hits[rows], counts[rows]

    def average(metric: Any) -> Callable[[str, Any], dict[str, float]]:
        def topk_result(name: str, values: Any) -> dict[str, float]:
            means = np.add.reduce(values, axis=0) / len(hits)
            return {f"{name}@{k}": round(means[k - 1], metric.decimal_place) for k in metric.topk}

        return topk_result

    for metric in metrics:
        metric.used_info, metric.topk_result = lambda _: of_rows, average(metric)
    try:
        yield
    finally:
        for metric in metrics:
            del metric.used_info, metric.topk_result


class RankingTrainer(Trainer):  # type: ignore[misc]
    """Evaluates with RecBole's metrics, from rankings of its own where they need nothing else.

    Args:
        model: the model, on its device; it scores all items with its `full_sort_predict`.
    """

    # Those that train the model together; see `recbole_margo.training.distributed`.
    processes = Processes()

    def __init__(self, config: Any, model: Any) -> None:
        super().__init__(config, model)
        metrics = self.evaluator.metric_class
        if type(metrics.get("ndcg")) is NDCG:
            metrics["ndcg"] = VectorizedNDCG(config)
        for metric in self.evaluator.metric_class.values():
            metric.decimal_place = UNROUNDED
        self._rankings: WeakKeyDictionary[Any, FullRanking] = WeakKeyDictionary()

    @torch.no_grad()
    def evaluate_unrounded(
        self, eval_data: Any, model_file: str | None = None, show_progress: bool = False
    ) -> dict[str, float]:
        """Evaluate and return the metrics as they are.

        Args:
            model_file: a checkpoint to load first; none: the model as it is.
        """
        if model_file is not None:
            stored = load_checkpoint(model_file, self.device)
            parameters, others = stored.get("state_dict"), stored.get("other_parameter")
            load_into(self.model, parameters, others, model_file)
            self.logger.info(f"Loading model structure and parameters from {model_file}")
        ranking = self.full_ranking(eval_data)
        if ranking is None:
            result = super().evaluate(eval_data, False, show_progress=show_progress)
        else:
            self.model.eval()
            top = self._top_items(ranking, show_progress, slice(None))
            collected = ranking.collect(top, self.eval_collector.data_struct)
            with averaging_hits_alone(self.evaluator.metric_class.values(), collected):
                result = self.evaluator.evaluate(collected)
            self.wandblogger.log_eval_metrics(result, head="eval")
        return {name: float(value) for name, value in result.items()}

    def _top_items(self, ranking: FullRanking, show_progress: bool, rows: slice) -> Tensor:
        return ranking.top_items(self.model, max(self.eval_collector.topk), show_progress, rows)

    def full_ranking(self, eval_data: Any) -> FullRanking | None:
        """Return what ranks all items for the users of a loader, the same at every call.

        Returns:
            None where RecBole's own evaluation is called for: the loader does not rank all items,
            or a metric needs more than the items ranked first.
        """
        if not needs_rankings_only(eval_data, self.eval_collector, self.evaluator):
            return None
        if eval_data not in self._rankings:
            self._rankings[eval_data] = FullRanking(eval_data, self.device)
        return self._rankings[eval_data]

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> dict[str, float] | None:
        """Evaluate as RecBole's trainer does, with its rounding; see `Trainer.evaluate`."""
        if not eval_data:
            return None
        file = (model_file or self.saved_model_file) if load_best_model else None
        result = self.evaluate_unrounded(eval_data, file, show_progress)
        return {
            name: round(value, self.config["metric_decimal_place"])
            for name, value in result.items()
        }
