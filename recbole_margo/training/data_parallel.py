"""One model trained by several processes with the numbers that one process would have.

Every process draws the same batches from the same random states, and computes the loss of its share
of a batch or, where the loss does not fall into shares, that of the whole batch. The gradients of
all are added up before the optimiser moves, so that parameters stay equal to the last bit.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.trainer import TraditionalTrainer, Trainer
from torch import Tensor

from recbole_margo.data.protocol import split_fingerprint
from recbole_margo.errors import ConfigError
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.training.checkpoint import id_maps, random_states, restore_random_states
from recbole_margo.training.processes import Processes
from recbole_margo.training.trainer import MultimodalTrainer

# RecBole's collector has a row per user under these names.
BY_USER = ("rec.items", "rec.topk", "rec.meanrank")


# RecBole's models whose loss is a mean over the rows of a batch; ours say so themselves.
MEANS_OVER_ROWS = ("BPR",)


def shares_batches(model: Any) -> bool:
    """Tell whether the loss of a batch is the weighted mean of the losses of its parts.

    Args:
        model: a model, ours or of another package with an attribute `shares_batches`, or RecBole's.
    """
    return bool(getattr(model, "shares_batches", type(model).__name__ in MEANS_OVER_ROWS))


def train_together(trainer: Any, loaders: tuple[Any, Any, Any], processes: Processes) -> None:
    """Let a trainer's `fit` share its work with the other processes; nothing changes for one.

    Afterwards `fit` must run in all processes. What it leaves behind, its loss and its validation
    are those of one process, up to the rounding of sums.

    Args:
        trainer: our trainer, or RecBole's for general models, before `fit`.
        loaders: the loaders of training, validation and test, the same in all processes.
        processes: the processes.

    Raises:
        ConfigError: if the model has a trainer that does more than this can share.
        TrainingError: if the processes have different data.
    """
    if processes.count == 1:
        return
    model, shared = trainer.model, type(trainer) in (Trainer, TraditionalTrainer)
    if not shared and not isinstance(trainer, MultimodalTrainer):
        raise ConfigError(
            f"{type(model).__name__} is trained by RecBole's {type(trainer).__name__}, which "
            "several processes cannot share: run without --nproc and --world_size"
        )
    _require_same_data(model, loaders, processes)
    for tensor in model.state_dict().values():
        processes.take_from_first(tensor)
    _share_losses(model, processes)
    _share_projections(model, processes)
    train_epoch = trainer._train_epoch

    def train_epoch_together(*arguments: Any, **named: Any) -> Any:
        _take_random_states_of_first(loaders[0], processes)
        return train_epoch(*arguments, **named)

    trainer._train_epoch = train_epoch_together
    if isinstance(trainer, MultimodalTrainer):
        trainer.processes = processes
    else:
        _share_validation(trainer, processes)


def _require_same_data(model: Any, loaders: tuple[Any, Any, Any], processes: Processes) -> None:
    tokens = id_maps(loaders[0]._dataset)
    processes.require_same(
        {
            "split of the interactions": split_fingerprint(*loaders),
            "order of users and items": _hash_of(tokens),
            "content of the feature files": dict(getattr(model, "feature_checksums", {})),
            "shape of the parameters": [tuple(p.shape) for p in model.parameters()],
        }
    )


def _hash_of(tokens: dict[str, list[str]]) -> str:
    digest = hashlib.sha256()
    for name, values in tokens.items():
        digest.update("\n".join([name, *values]).encode())
    return digest.hexdigest()[:16]


def _take_random_states_of_first(train_data: Any, processes: Processes) -> None:
    """Let all processes draw the same batches and, inside of the model, the same noise."""
    own = random_states(train_data)
    # Of the GPUs only this process's own draws, and the first one's numbers are for all.
    own["cuda"] = [torch.cuda.get_rng_state()] if own["cuda"] else []
    first = processes.gathered(own if processes.is_first else None)[0]
    restore_random_states({**first, "cuda": []}, train_data)
    if first["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(first["cuda"][0])


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


def _share_losses(model: Any, processes: Processes) -> None:
    """Let the loss be the sum over the processes, and the gradients those of the sum."""
    calculate_loss, takes_share = model.calculate_loss, shares_batches(model)
    if not takes_share:
        logging.getLogger().warning(
            "The loss of %s is no mean over the rows of a batch, so every process computes all of "
            "each batch: the numbers are those of one process, and so is most of the work.",
            type(model).__name__,
        )
    seen = [0]

    def calculate_loss_together(interaction: Any, *arguments: Any, **named: Any) -> Any:
        rows = len(interaction)
        # A process without rows would have no mean; so few rows are everybody's.
        part, weight = interaction, 1 / processes.count
        if takes_share and rows >= processes.count:
            part = interaction[processes.share_of(rows)]
            weight = len(part) / rows
        seen[0] += len(part)
        terms = calculate_loss(part, *arguments, **named)
        several = isinstance(terms, tuple)
        stacked = torch.stack([term.reshape(()) for term in (terms if several else (terms,))])
        total = _Sum.apply(weight * stacked, processes)  # type: ignore[no-untyped-call]
        return tuple(total.unbind()) if several else total[0]

    model.calculate_loss = calculate_loss_together
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda p: processes.add_up(p.grad))
    if isinstance(model, MultimodalRecommender):
        _share_statistics(model, seen, processes)


def _share_statistics(model: MultimodalRecommender, seen: list[int], processes: Processes) -> None:
    """Let the figures of an epoch, which are means over what a process saw, be those of all.

    Args:
        model: the model.
        seen: one number, the rows that this process has seen in the epoch.
        processes: the processes.
    """
    epoch_statistics = model.epoch_statistics

    def epoch_statistics_together() -> dict[str, float]:
        own = {name: value * seen[0] for name, value in epoch_statistics().items()}
        by_rank = processes.gathered((seen[0], own))
        seen[0] = 0
        total = sum(rows for rows, _ in by_rank)
        return {name: sum(other[name] for _, other in by_rank) / total for name in own}

    model.epoch_statistics = epoch_statistics_together  # type: ignore[method-assign]


def _share_projections(model: Any, processes: Processes) -> None:
    """Let each process project the raw features of its share of the items while it trains."""
    if not isinstance(model, MultimodalRecommender):
        return

    def shared(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def project(matrix: Tensor) -> Tensor:
            if not (model.training and any(matrix is feature for feature in model.features)):
                return forward(matrix)
            own = forward(matrix[processes.share_of(len(matrix))])
            everything: Tensor = _AllRows.apply(  # type: ignore[no-untyped-call]
                own, len(matrix), processes
            )
            return everything

        return project

    for name, modules in model.named_modules():
        if name.rpartition(".")[2] == "projections":
            for projection in modules.children():
                projection.forward = shared(projection.forward)


def _share_validation(trainer: Any, processes: Processes) -> None:
    """Let RecBole's trainer evaluate its share of the users, and all metrics be those of all."""
    valid_epoch, collector = trainer._valid_epoch, trainer.eval_collector

    def valid_epoch_together(valid_data: Any, show_progress: bool = False) -> Any:
        if type(valid_data) is not FullSortEvalDataLoader or valid_data.is_sequential:
            return valid_epoch(valid_data, show_progress)
        part = _UsersOfOneProcess(valid_data, processes)
        with _gathering(collector, processes):
            return valid_epoch(part, show_progress)

    trainer._valid_epoch = valid_epoch_together


@contextmanager
def _gathering(collector: Any, processes: Processes) -> Iterator[None]:
    """Let a collector of RecBole's have what those of all processes collected, users in order."""
    get_data_struct = collector.get_data_struct

    def get_all() -> Any:
        struct = get_data_struct()
        own = {name: struct.get(name) for name in BY_USER if name in struct}
        by_rank = processes.gathered(own)
        for name in {name for each in by_rank for name in each}:
            struct.set(name, torch.cat([each[name] for each in by_rank if name in each]))
        return struct

    collector.get_data_struct = get_all
    try:
        yield
    finally:
        del collector.get_data_struct


class _UsersOfOneProcess(FullSortEvalDataLoader):  # type: ignore[misc]
    """RecBole's loader of a full evaluation, for one process's share of the users.

    Args:
        loader: the loader of all users.
        processes: the processes.
    """

    def __init__(self, loader: FullSortEvalDataLoader, processes: Processes) -> None:
        # Not RecBole's constructor, which would prepare the histories of all users again.
        self.__dict__.update(loader.__dict__)
        share = processes.share_of(len(loader.user_df))
        self.__dict__["_starts"] = range(share.start, share.stop, loader.step)
        self.__dict__["_end"] = share.stop

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Any]:
        for start in self._starts:
            yield self.collate_fn(range(start, min(start + self.step, self._end)))
