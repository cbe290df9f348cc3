"""The metrics of each user and the rank of each positive, recorded during an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.evaluator.base_metric import TopkMetric
from torch import Tensor

from recbole_margo.errors import CheckpointError
from recbole_margo.store.numpy_archive import read_archive, write_archive
from recbole_margo.training.ranking_trainer import UNROUNDED, FullRanking, RankingTrainer


@dataclass(frozen=True)
class PerUserMetrics:
    """One evaluation, user by user.

    The positives are ordered by user and then by item token, so that models evaluated on the same
    split have the same ones at the same places.

    Args:
        users: tokens of the evaluated users, in the loader's order [N].
        metrics: `recall@20` and the like -> value of each user [N]; the mean is RecBole's value
            before it rounds.
        pair_user: index into `users` of every positive (user, item) of the evaluated split [P].
        pair_item: its item token [P].
        pair_rank: rank of the item among the user's candidates, from 1, or 0 if it is beyond the
            largest K of the metrics [P].
    """

    users: NDArray[np.str_]
    metrics: dict[str, NDArray[np.float64]]
    pair_user: NDArray[np.int64]
    pair_item: NDArray[np.str_]
    pair_rank: NDArray[np.int64]

    def save(self, path: Path) -> None:
        """Write an `.npz` file, whole or not at all, without pickle."""
        arrays = {
            "users": self.users,
            "metric_names": np.asarray(list(self.metrics), dtype=np.str_),
            "metric_values": np.asarray(list(self.metrics.values()), dtype=np.float64),
            "pair_user": self.pair_user,
            "pair_item": self.pair_item,
            "pair_rank": self.pair_rank,
        }
        write_archive(path, arrays)

    @classmethod
    def load(cls, path: Path) -> PerUserMetrics:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the file is missing or holds something else.
        """
        try:
            stored = read_archive(path)
            names = stored["metric_names"].tolist()
            return cls(
                users=stored["users"],
                metrics=dict(zip(names, stored["metric_values"], strict=True)),
                pair_user=stored["pair_user"],
                pair_item=stored["pair_item"],
                pair_rank=stored["pair_rank"],
            )
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{path} does not hold the metrics of an evaluation by user: {error}; evaluate "
                "the model again"
            ) from error


def evaluate_per_user(
    trainer: Any, loader: Any, model_file: str | None = None
) -> tuple[dict[str, float], PerUserMetrics | None]:
    """Evaluate a model once, with RecBole's own metrics, and keep what each user got.

    Args:
        trainer: our trainer or one of RecBole's.
        model_file: a checkpoint to load first. Without one our trainer evaluates the model as it
            is, and RecBole's loads its best checkpoint.

    Returns:
        Metric name -> value, unrounded; and the values by user. The second is none where they
        mean nothing: the loader does not rank all items, a metric is not an average over users
        (a `TopkMetric`), several processes share the users, or a user is evaluated more than
        once, as a sequential model does.
    """
    if not loader:
        return {}, None
    metrics = list(trainer.evaluator.metric_class.values())
    averages = bool(metrics) and all(isinstance(metric, TopkMetric) for metric in metrics)
    if not (
        averages and isinstance(loader, FullSortEvalDataLoader) and trainer.config["single_spec"]
    ):
        return _evaluate(trainer, loader, model_file), None
    recording = _Recording(max(trainer.config["topk"]))
    ranking = trainer.full_ranking(loader) if isinstance(trainer, RankingTrainer) else None
    with ExitStack() as hooks:
        if ranking is None:
            collector = trainer.eval_collector
            hooked = _hooked(collector, "eval_batch_collect", recording.add_batch)
        else:
            hooked = _hooked(trainer.evaluator, "evaluate", recording.ranking_hook(ranking))
        hooks.enter_context(hooked)
        for metric in metrics:
            # RecBole's metrics hand it the values [N, K] that it averages.
            hooked = _hooked(metric, "topk_result", recording.metric_hook(metric.topk))
            hooks.enter_context(hooked)
        result = _evaluate(trainer, loader, model_file)
    return result, recording.as_results(loader._dataset)


def _evaluate(trainer: Any, loader: Any, model_file: str | None) -> dict[str, float]:
    with _unrounded(trainer.evaluator.metric_class.values()):
        if isinstance(trainer, RankingTrainer):
            return trainer.evaluate_unrounded(loader, model_file)
        result = trainer.evaluate(loader, model_file=model_file, show_progress=False)
    return {name: float(value) for name, value in result.items()}


@contextmanager
def _unrounded(metrics: Any) -> Iterator[None]:
    """Let metrics keep all decimals; RecBole rounds to `metric_decimal_place`."""
    decimals = [(metric, metric.decimal_place) for metric in metrics]
    try:
        for metric, _ in decimals:
            metric.decimal_place = UNROUNDED
        yield
    finally:
        for metric, decimal_place in decimals:
            metric.decimal_place = decimal_place


@contextmanager
def _hooked(owner: Any, name: str, hook: Callable[..., None]) -> Iterator[None]:
    """Call a hook with the arguments of each call of an object's method."""
    method = getattr(owner, name)
    replaced = name in vars(owner)

    def call(*values: Any, **named: Any) -> Any:
        hook(*values, **named)
        return method(*values, **named)

    setattr(owner, name, call)
    try:
        yield
    finally:
        if replaced:
            setattr(owner, name, method)
        else:
            delattr(owner, name)


class _Recording:
    """A record of an evaluation: its batches and the metrics' values by user."""

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.metrics: dict[str, NDArray[np.float64]] = {}
        self.evaluated = 0
        self.interactions: list[Any] = []
        self.pair_user: list[NDArray[np.int64]] = []
        self.pair_item: list[NDArray[np.int64]] = []
        self.pair_rank: list[NDArray[np.int64]] = []

    def metric_hook(self, topk: list[int]) -> Callable[[str, NDArray[Any]], None]:
        """Return a hook that records a metric's values of every user and K [N, K]."""

        def add(metric: str, value: NDArray[Any]) -> None:
            for k in topk:
                self.metrics[f"{metric}@{k}"] = value[:, k - 1].astype(np.float64)

        return add

    def ranking_hook(self, ranking: FullRanking) -> Callable[[Any], None]:
        """Return a hook that records the rankings of all users, as the metrics get them."""

        def add(collected: Any) -> None:
            rows, items, ranks = ranking.positive_ranks(collected.get("rec.items"))
            self.interactions.append(ranking.users)
            self.pair_user.append(rows.numpy())
            self.pair_item.append(items.numpy())
            self.pair_rank.append(ranks.numpy())

        return add

    def add_batch(
        self, scores_tensor: Tensor, interaction: Any, positive_u: Tensor, positive_i: Tensor
    ) -> None:
        """Take a batch as RecBole's collector gets it.

        Args:
            scores_tensor: scores of every item, minus infinity where masked [B, I].
            positive_u: row of each positive [p].
            positive_i: item id of each positive [p].
        """
        # The same call as the collector's, so that ties fall as they fall there.
        _, top = torch.topk(scores_tensor, self.largest, dim=-1)
        rows, items = positive_u.to(top.device), positive_i.to(top.device)
        found = top[rows] == items.unsqueeze(1)
        rank = torch.where(found.any(1), found.int().argmax(1) + 1, 0)
        self.interactions.append(interaction)
        self.pair_user.append(positive_u.cpu().numpy() + self.evaluated)
        self.pair_item.append(positive_i.cpu().numpy())
        self.pair_rank.append(rank.cpu().numpy())
        self.evaluated += len(scores_tensor)

    def as_results(self, dataset: Any) -> PerUserMetrics | None:
        """Return the values by token; none if a user stands in several rows."""
        ids = torch.cat([batch[dataset.uid_field] for batch in self.interactions]).cpu().numpy()
        if len(np.unique(ids)) < len(ids):
            return None
        pair_user = np.concatenate(self.pair_user)
        pair_item = _tokens(dataset, dataset.iid_field, np.concatenate(self.pair_item))
        order = np.lexsort((pair_item, pair_user))
        return PerUserMetrics(
            users=_tokens(dataset, dataset.uid_field, ids),
            metrics=self.metrics,
            pair_user=pair_user[order],
            pair_item=pair_item[order],
            pair_rank=np.concatenate(self.pair_rank)[order],
        )


def _tokens(dataset: Any, field: str, ids: NDArray[np.int64]) -> NDArray[np.str_]:
    tokens: NDArray[np.str_] = np.asarray(dataset.id2token(field, ids)).astype(np.str_)
    return tokens
