"""RecBole's trainer with an evaluation that is fast and does not round."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from recbole.evaluator.metrics import NDCG
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


class RankingTrainer(Trainer):  # type: ignore[misc]
    """Evaluates with RecBole's metrics, from rankings of its own where they need nothing else.

    Args:
        config: RecBole's `Config`.
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
            show_progress: whether to show a progress bar.

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
            result = self.evaluator.evaluate(ranking.collect(top, self.eval_collector.data_struct))
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
