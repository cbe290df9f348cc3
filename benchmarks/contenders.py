"""What is measured against each other: this project and the naive reference, trained alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.trainer import Trainer
from recbole.utils import init_seed
from torch import Tensor

from benchmarks.allocator import use_default_allocator
from benchmarks.naive import NAIVE_MODELS, NaiveRecommender
from benchmarks.naive_graphs import EdgeList, NaiveGraphs, interaction_edges
from benchmarks.repeated_timing import now, timed
from benchmarks.training_probe import StepTimes, TrainingProbe
from benchmarks.workload import Workload
from recbole_margo.config import Config
from recbole_margo.graph.bipartite import interaction_matrix
from recbole_margo.graph.item_knn import binary_knn_graph, combined_graph, modality_shares
from recbole_margo.graph.user_cooccurrence import softmax_rows, strongest_cooccurrences
from recbole_margo.resources import keep_freed_memory
from recbole_margo.run import load_split
from recbole_margo.training.outputs import tensorboard_in
from recbole_margo.training.ranking_trainer import UNROUNDED
from recbole_margo.training.trainer import MultimodalTrainer

OURS, NAIVE, RECBOLE = "recbole-margo", "naive reference", "RecBole's evaluation"
# MMRec's, on which most of these models are published.
NAIVE_USERS_PER_BATCH = 4096
# The most that a step at the start of a training costs more than the others, in steps.
WARM_UP = 2


class Ours:
    """A model of this project in its own trainer.

    Args:
        workload: the data and where it is trained.
        settings: of the model, on top of the workload's.
        approximation: one of the workload's, or none.
    """

    def __init__(
        self, workload: Workload, settings: Mapping[str, Any], approximation: str | None = None
    ) -> None:
        self.workload, self.device = workload, workload.device
        self.approximation = approximation
        faster = workload.approximations()[approximation] if approximation else {}
        self.config: Config = workload.config({**settings, **faster})
        self.loaders = load_split(self.config)
        init_seed(self.config["seed"], self.config["reproducibility"])
        self.model: Any = self.config.model_class(self.config, self.loaders[0]._dataset)
        self.model.to(self.config["device"])
        with tensorboard_in(workload.checkpoints):
            self.trainer = MultimodalTrainer(self.config, self.model)

    @property
    def name(self) -> str:
        """How it is called in tables."""
        return OURS if self.approximation is None else f"{OURS}, {self.approximation}"

    def train_steps(self, count: int) -> list[StepTimes]:
        """Train some steps and return their times."""
        with TrainingProbe(self.model, self.device, steps=count) as probe:
            self.trainer.fit(*self.loaders[:2], verbose=False, saved=False)
        return probe.steps

    def phases(self, count: int, until: float = inf) -> list[dict[str, float]]:
        """Return the seconds of the phases of some steps, of one at least where time is short."""
        with TrainingProbe(self.model, self.device, **_steps(count, until)) as probe:
            self.trainer.fit(*self.loaders[:2], verbose=False, saved=False)
        return probe.phase_times(WARM_UP)

    def epoch(self) -> dict[str, float | None]:
        """Train one whole epoch and return its seconds and those outside of the model.

        The checkpoint to resume from, which is written after every epoch, is part of it.
        """
        phases = self.device == "cpu"
        with TrainingProbe(self.model, self.device, one_epoch=True, phases=phases) as probe:
            self.trainer.fit(*self.loaders[:2], verbose=False, saved=True)
        seconds = probe.epochs[1] - probe.epochs[0]
        # On CUDA the parts could only be told apart by waiting for each of them.
        outside = seconds - probe.seconds_inside() if phases else None
        return {"seconds": seconds, "outside": outside}

    def evaluate(self, part: int = 2) -> tuple[float, dict[str, float]]:
        """Rank all items for all users of validation (1) or test (2); seconds and metrics."""
        keep_freed_memory()  # as a training does
        self.model.train()  # what a training epoch does, after which nothing cached is valid
        return timed(lambda: self.trainer.evaluate_unrounded(self.loaders[part]), self.device)


class RecBoleEvaluation:
    """RecBole's own evaluation of a model of this project.

    Args:
        ours: the model and its loaders.
    """

    def __init__(self, ours: Ours) -> None:
        self.ours = ours
        with tensorboard_in(ours.workload.checkpoints):
            self.trainer = recbole_trainer(ours.config, ours.model, ours.loaders[0])

    def evaluate(self, part: int = 2) -> tuple[float, dict[str, float]]:
        """Rank all items for all users; seconds and metrics."""
        use_default_allocator()
        self.ours.model.train()
        loader = self.ours.loaders[part]
        return timed(lambda: _metrics(self.trainer, loader), self.ours.device)


class Naive:
    """The naive reference in RecBole's own trainer, with RecBole's loader.

    Args:
        workload: the data and where it is trained.
        config: the config of the model in this project.
        loaders: RecBole's loaders of training, validation and test data.
        graphs: the graphs, if they are built already.
    """

    name = NAIVE

    def __init__(
        self,
        workload: Workload,
        config: Config,
        loaders: tuple[Any, Any, Any],
        graphs: NaiveGraphs | None = None,
    ) -> None:
        self.device, self.config, self.loaders = workload.device, config, loaders
        self.model = naive_model(config, loaders[0]._dataset, graphs)
        with tensorboard_in(workload.checkpoints):
            self.trainer = recbole_trainer(config, self.model, loaders[0])
        self._evaluated: dict[int, Any] = {}

    @classmethod
    def like(cls, ours: Ours, build_graphs: bool = False) -> Naive:
        """Return the naive model with the data and the parameters of one of this project.

        Args:
            ours: the model.
            build_graphs: whether to build the graphs in the naive way, which may take minutes;
                else this project's are taken over.
        """
        dataset, model = ours.loaders[0]._dataset, ours.model
        graphs = None
        if not build_graphs:
            graphs = graphs_as_lists(
                dataset,
                model.features,
                model.modality_mask,
                model.modalities,
                model.hyperparameters,
            )
        naive = cls(ours.workload, ours.config, ours.loaders, graphs)
        copy_parameters(model, naive.model)
        return naive

    def take_parameters(self, ours: Ours) -> None:
        """Take over the parameters of a model of this project."""
        copy_parameters(ours.model, self.model)

    def train_steps(self, count: int) -> list[StepTimes]:
        """Train some steps and return their times."""
        use_default_allocator()
        with TrainingProbe(self.model, self.device, steps=count) as probe:
            while len(probe.steps) < count:
                self.trainer._train_epoch(self.loaders[0], 0)
        return probe.steps

    def phases(self, count: int, until: float = inf) -> list[dict[str, float]]:
        """Return the seconds of the phases of some steps, of one at least where time is short."""
        use_default_allocator()
        with TrainingProbe(self.model, self.device, **_steps(count, until)) as probe:
            while len(probe.steps) < count + WARM_UP:
                self.trainer._train_epoch(self.loaders[0], 0)
        return probe.phase_times(WARM_UP)

    def epoch(self, steps: int | None, until: float = inf) -> dict[str, float | None]:
        """Train one epoch, or some steps of it from which it is extrapolated.

        Args:
            steps: how many steps to train; none: the whole epoch.
            until: when fewer will do, on the clock `perf_counter`; not for a whole epoch.

        Returns:
            Seconds of an epoch, those outside of the model, and how many steps were trained.
        """
        use_default_allocator()
        batches = len(self.loaders[0])
        trained = batches if steps is None else min(steps, batches)
        phases = self.device == "cpu" or trained < batches
        limits: dict[str, Any] = {"steps": trained, "phases": phases}
        if trained < batches:
            limits["until"] = until
        with TrainingProbe(self.model, self.device, **limits) as probe:
            started = now(self.device)
            self.trainer._train_epoch(self.loaders[0], 0)
        if trained < batches:
            trained = len(probe.steps)
        # The batch on which the training was ended has been drawn, but it is not counted.
        ended = probe.steps[-1].optimizer if trained < batches else now(self.device)
        share = batches / trained
        # What comes before the first step is done once an epoch.
        before = probe.steps[0].begun - started if trained < batches else 0.0
        seconds = before + (ended - started - before) * share
        known = self.device == "cpu"
        outside = seconds - probe.seconds_inside() * share if known else None
        return {"seconds": seconds, "outside": outside, "steps": trained}

    def evaluate(self, part: int = 2) -> tuple[float, dict[str, float]]:
        """Rank all items for all users, with a forward pass for every batch of them."""
        use_default_allocator()
        if part not in self._evaluated:
            self._evaluated[part] = naive_evaluation_loader(self.config, self.loaders[part])
        return timed(lambda: _metrics(self.trainer, self._evaluated[part]), self.device)


def _steps(count: int, until: float) -> dict[str, Any]:
    """Return the limits of a probe that times some steps after the first ones."""
    return {"steps": count + WARM_UP, "until": until, "least": WARM_UP + 1}


def recbole_trainer(config: Config, model: Any, train: Any) -> Trainer:
    """Return RecBole's trainer of a model, whose evaluation does not round its metrics."""
    trainer = Trainer(config, model)
    trainer.eval_collector.data_collect(train)
    for metric in trainer.evaluator.metric_class.values():
        metric.decimal_place = UNROUNDED
    return trainer


def _metrics(trainer: Trainer, loader: Any) -> dict[str, float]:
    result = trainer.evaluate(loader, load_best_model=False)
    return {name: float(value) for name, value in result.items()}


def naive_model(
    config: Config, dataset: Any, graphs: NaiveGraphs | None = None
) -> NaiveRecommender:
    """Return the naive model of a config, on its device; with graphs they are not built."""
    hyperparameters = config.model_class.parameters_class.from_config(config, config.model_class)
    naive = NAIVE_MODELS[config["model"]](config, dataset, hyperparameters, graphs)
    return naive.to(config["device"])


def copy_parameters(source: Any, target: NaiveRecommender) -> None:
    """Give the naive model the parameters of a model of this project."""
    state = {name.removeprefix("backbone."): value for name, value in source.state_dict().items()}
    target.load_state_dict(state)


def graphs_as_lists(
    dataset: Any,
    features: Sequence[Tensor],
    mask: Tensor,
    modalities: Sequence[str],
    parameters: Any,
) -> NaiveGraphs:
    """Return this project's graphs in the form of the naive reference's.

    Building those in the naive way may take minutes, or more memory than there is.

    Args:
        dataset: RecBole's training `Dataset`.
        features: one matrix [I, D_m] per modality.
        mask: presence mask [I, M].
        modalities: names of the modalities.
        parameters: the model's hyper-parameters.
    """
    interactions = interaction_matrix(dataset)
    pairs = interactions.tocoo()
    edges = interaction_edges(
        torch.from_numpy(pairs.row).long(), torch.from_numpy(pairs.col).long(), *pairs.shape
    )
    k = parameters.user_neighbors
    co_users = softmax_rows(strongest_cooccurrences(interactions, k))
    neighbors = np.zeros((co_users.shape[0], k), dtype=np.int64)
    weights = np.zeros(neighbors.shape, dtype=np.float32)
    filled = np.arange(k) < np.diff(co_users.indptr)[:, None]
    neighbors[filled], weights[filled] = co_users.indices, co_users.data
    items = combined_graph(
        [
            binary_knn_graph(matrix, mask[:, m], parameters.item_neighbors)
            for m, matrix in enumerate(features)
        ],
        modality_shares(parameters.item_graph_weights, modalities),
        mask,
    ).tocoo()
    item_graph = EdgeList(
        torch.from_numpy(items.col).long(),
        torch.from_numpy(items.row).long(),
        torch.from_numpy(items.data),
    )
    return NaiveGraphs(edges, neighbors.tolist(), torch.from_numpy(weights), item_graph)


def naive_evaluation_loader(config: Config, loader: Any) -> Any:
    """Return RecBole's loader with as many users a batch as the public code takes.

    Args:
        config: the config that the loader was made with.
        loader: RecBole's loader of validation or test data.
    """
    before = config["eval_batch_size"]
    config["eval_batch_size"] = NAIVE_USERS_PER_BATCH * loader._dataset.item_num
    try:
        return FullSortEvalDataLoader(config, loader._dataset, loader._sampler, shuffle=False)
    finally:
        config["eval_batch_size"] = before
