"""The trainer of a model in one process or several, with the same numbers.

Every process draws the same batches from the same random states, and computes the loss of its share
of a batch or, where the loss does not fall into shares, that of the whole batch. The gradients of
all are added up before the optimiser moves, so that parameters stay equal to the last bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.trainer import TraditionalTrainer, Trainer
from recbole.utils import get_trainer
from torch import Tensor, nn

from recbole_margo.checkpoint_file.schema import RandomStates
from recbole_margo.data.protocol import split_fingerprint
from recbole_margo.errors import ConfigError
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.training.checkpoint import SPLIT_FINGERPRINT, id_maps
from recbole_margo.training.processes import Processes
from recbole_margo.training.ranking_trainer import FullRanking, RankingTrainer
from recbole_margo.training.trainer import MultimodalTrainer

# RecBole's models whose loss is a mean over the rows of a batch; ours say so themselves.
MEANS_OVER_ROWS = ("BPR",)


def find_trainer(model_class: type[Any], name: str) -> type[Any]:
    """Return the trainer of a model: the multimodal one for ours, RecBole's for its own."""
    if issubclass(model_class, MultimodalRecommender):
        return MultimodalTrainer
    trainer: type[Any] = get_trainer(model_class.type, name)
    return trainer


def shares_batches(model: Any) -> bool:
    """Tell whether the loss of a batch is the weighted mean of the losses of its parts.

    Ours and models of other packages say so themselves.
    """
    return bool(getattr(model, "shares_batches", type(model).__name__ in MEANS_OVER_ROWS))


def distributed_trainer(model_class: type[Any], name: str) -> type[DistributedTrainer]:
    """Return the trainer that shares with other processes what `find_trainer`'s does alone.

    Raises:
        ConfigError: if that trainer does more than this can share.
    """
    trainer = find_trainer(model_class, name)
    if trainer not in DISTRIBUTED:
        raise ConfigError(
            f"{name} is trained by RecBole's {trainer.__name__}, which several processes cannot "
            "share: run without --nproc and --world_size"
        )
    return DISTRIBUTED[trainer]


class DistributedTrainer(RankingTrainer):
    """RecBole's trainer of general models, as one of several processes that train one model.

    `fit` must run in all of them. Its loss, its validations and the model that it leaves behind are
    those of one process, up to the rounding of sums; the first process alone writes files. What is
    evaluated outside of `fit`, each process evaluates alone.
    """

    def __init__(self, config: Any, model: Any, processes: Processes) -> None:
        super().__init__(config, model)
        self.processes = processes
        self._rows_seen = 0
        self._train_data: Any = None  # while `fit` runs

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> Any:
        """Train as the trainer of one process does.

        Raises:
            TrainingError: if the processes have different data, or for the trainer's own reasons.
        """
        self._require_same_data(train_data, valid_data)
        for tensor in self.model.state_dict().values():
            self.processes.take_from_first(tensor)
        if not shares_batches(self.model):
            self.logger.warning(
                f"The loss of {type(self.model).__name__} is no mean over the rows of a batch, so "
                "every process computes all of each batch: the numbers are those of one process, "
                "and so is most of the work."
            )
        first = self.processes.is_first
        self._train_data = train_data
        try:
            return super().fit(
                train_data,
                valid_data,
                verbose,
                saved and first,
                show_progress and first,
                callback_fn,
            )
        finally:
            self._train_data = None

    def _require_same_data(self, train_data: Any, valid_data: Any) -> None:
        parts = [train_data, valid_data] if valid_data else [train_data]
        tokens = hashlib.sha256()
        for name, values in id_maps(train_data._dataset).items():
            tokens.update("\n".join([name, *values]).encode())
        self.processes.require_same(
            {
                "split of the interactions": [
                    self.config[SPLIT_FINGERPRINT],
                    split_fingerprint(*parts),
                ],
                "order of users and items": tokens.hexdigest()[:16],
                "content of the feature files": dict(getattr(self.model, "feature_checksums", {})),
                "shape of the parameters": [tuple(p.shape) for p in self.model.parameters()],
            }
        )

    # --- training ---------------------------------------------------------------------------------

    def _train_epoch(
        self,
        train_data: Any,
        epoch_idx: int,
        loss_func: Callable[[Any], Any] | None = None,
        show_progress: bool = False,
    ) -> Any:
        self._take_random_states_of_first()
        self._rows_seen = 0
        with self.hooks():
            return super()._train_epoch(
                train_data, epoch_idx, loss_func or self.shared_loss, show_progress
            )

    def _take_random_states_of_first(self) -> None:
        """Let all processes draw the same batches and, inside of the model, the same noise."""
        own = RandomStates.of(self._train_data)
        # Of the GPUs only this process's own draws, and the first one's numbers are for all.
        drawing = [torch.cuda.get_rng_state()] if own.cuda else []
        own = replace(own, cuda=drawing)
        first = self.processes.gathered(own if self.processes.is_first else None)[0]
        replace(first, cuda=[]).restore(self._train_data)
        if first.cuda and torch.cuda.is_available():
            torch.cuda.set_rng_state(first.cuda[0])

    def shared_loss(self, interaction: Any) -> Any:
        """Return the loss terms of a batch, of which this process computes its share.

        Returns:
            What the model's `calculate_loss` returns, summed over the processes; backward, each
            process has the gradient of its own share.
        """
        rows = len(interaction)
        # A process without rows would have no mean; so few rows are everybody's.
        part, weight = interaction, 1 / self.processes.count
        if shares_batches(self.model) and rows >= self.processes.count:
            part = interaction[self.processes.share_of(rows)]
            weight = len(part) / rows
        self._rows_seen += len(part)
        terms = self.model.calculate_loss(part)
        several = isinstance(terms, tuple)
        stacked = torch.stack([term.reshape(()) for term in (terms if several else (terms,))])
        total = _Sum.apply(weight * stacked, self.processes)  # type: ignore[no-untyped-call]
        return tuple(total.unbind()) if several else total[0]

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Add up the gradients of all processes while the context lasts, as soon as they are there.

        The hooks are torch's own; they go with the context.
        """
        with ExitStack() as handles:
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    handle = parameter.register_post_accumulate_grad_hook(
                        lambda p: self.processes.add_up(p.grad)
                    )
                    handles.callback(handle.remove)
            yield

    # --- validation -------------------------------------------------------------------------------

    def full_ranking(self, eval_data: Any) -> FullRanking | None:
        """Return what ranks all items for the users of a loader; none where the model cannot."""
        if type(self.model).full_sort_predict is AbstractRecommender.full_sort_predict:
            return None
        return super().full_ranking(eval_data)

    def _top_items(self, ranking: FullRanking, show_progress: bool, rows: slice) -> Tensor:
        if self._train_data is None:
            return super()._top_items(ranking, show_progress, rows)
        users = len(ranking.users)
        own = super()._top_items(ranking, show_progress, self.processes.share_of(users))
        return self.processes.all_rows(own, users)


class DistributedTraditionalTrainer(DistributedTrainer, TraditionalTrainer):  # type: ignore[misc]
    """RecBole's trainer of models that need no training, as one of several processes."""


class DistributedMultimodalTrainer(DistributedTrainer, MultimodalTrainer):
    """The trainer of multimodal models, as one of several processes that train one model."""

    def _epoch_statistics(self) -> dict[str, float]:
        """Return the figures of an epoch, which are means over what a process saw, for all."""
        own = super()._epoch_statistics()
        sums = {name: value * self._rows_seen for name, value in own.items()}
        by_rank = self.processes.gathered((self._rows_seen, sums))
        total = sum(rows for rows, _ in by_rank)
        return {name: sum(other[name] for _, other in by_rank) / total for name in own}

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Let each process project the raw features of its share of the items, too."""
        with super().hooks(), ExitStack() as handles:
            for name, modules in self.model.named_modules():
                if name.rpartition(".")[2] == "projections":
                    for projection in modules.children():
                        shared = _SharedProjection(self.model.features, self.processes)
                        for handle in (
                            projection.register_forward_pre_hook(shared.own_rows),
                            projection.register_forward_hook(shared.all_rows),
                        ):
                            handles.callback(handle.remove)
            yield


class _SharedProjection:
    """The hooks of a module that projects raw features: each process projects its share of rows.

    Args:
        features: the feature matrices; what else the module projects, each process projects whole.
    """

    def __init__(self, features: list[Tensor], processes: Processes) -> None:
        self._features, self._processes = features, processes
        self._rows: int | None = None

    def own_rows(self, module: nn.Module, inputs: tuple[Any, ...]) -> Any:
        """Take this process's rows of a feature matrix before the module runs."""
        matrix, *others = inputs
        shared = module.training and any(matrix is feature for feature in self._features)
        self._rows = len(matrix) if shared else None
        return (matrix[self._processes.share_of(len(matrix))], *others) if shared else None

    def all_rows(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Any:
        """Return the projected rows of all processes."""
        if self._rows is None:
            return None
        return _AllRows.apply(output, self._rows, self._processes)  # type: ignore[no-untyped-call]


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes; each keeps the gradient of its own summand."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, processes: Processes) -> Tensor:
        total = own.clone()
        processes.add_up(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _AllRows(torch.autograd.Function):
    """The rows of a matrix of which each process has computed its share.

    Backward, what all processes want of a row goes to the one that computed it.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, rows: int, processes: Processes) -> Tensor:
        ctx.processes, ctx.share = processes, processes.share_of(rows)
        return processes.all_rows(own, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].contiguous().clone()
        ctx.processes.add_up(total)
        return total[ctx.share], None, None


# By the trainer of one process.
DISTRIBUTED: dict[type[Any], type[DistributedTrainer]] = {
    Trainer: DistributedTrainer,
    TraditionalTrainer: DistributedTraditionalTrainer,
    MultimodalTrainer: DistributedMultimodalTrainer,
}
