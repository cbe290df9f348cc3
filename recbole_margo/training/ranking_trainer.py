"""RecBole's trainer with an evaluation that is fast and does not round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.metrics import MAP, MRR, NDCG, Hit, Precision, Recall
from recbole.trainer import Trainer
from torch import Tensor

from recbole_margo.checkpoint_file.fitting import load_into
from recbole_margo.compat import load_checkpoint
from recbole_margo.training.full_ranking import FullRanking, needs_rankings_only
from recbole_margo.training.processes import Processes

# RecBole's metrics can only be had rounded; 15 decimals are all that a double in [0, 1] has.
UNROUNDED = 15


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
            eval_data: RecBole's validation or test loader.
            model_file: a checkpoint to load first; none: the model as it is.

        Returns:
            Metric name -> value.
        """
        if model_file is not None:
            stored = load_checkpoint(model_file, self.device)
            load_into(self.model, stored, model_file)
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
        """Return the items ranked first for the users of some rows."""
        return ranking.top_items(self.model, max(self.eval_collector.topk), show_progress, rows)

    def full_ranking(self, eval_data: Any) -> FullRanking | None:
        """Return what ranks all items for the users of a loader, the same at every call.

        Args:
            eval_data: RecBole's validation or test loader.

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
