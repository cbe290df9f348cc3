"""Whether the gradients of MARGO's two losses on its weights agree while stage 2 trains."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.utils import init_seed
from torch import Tensor
from tqdm import tqdm

from recbole_margo.errors import CheckpointError, DataError
from recbole_margo.model.margo import BACKBONE_STAGE, MARGO
from recbole_margo.nn.projection import log_modality_weights
from recbole_margo.store.numpy_archive import read_archive, write_archive
from recbole_margo.studies.runs.trained_run import TrainedRun
from recbole_margo.training.distributed import find_trainer
from recbole_margo.training.outputs import tensorboard_in

# The coordinates in which the gradients are compared; see `weight_gradients`.
COORDINATES = ("weights", "simplex", "logits")
# What rounding may leave of a product that is 0, as a share of its terms.
ROUNDING = 1e-12
REPLAY_FORMAT = 1


def weight_gradients(
    log_weights: Tensor, by_log_weights: Tensor, present: Tensor
) -> dict[str, Tensor]:
    r"""Return the gradient on the weights of items in three coordinates.

    .. math:: g^m = \frac{\partial L}{\partial w^m}, \qquad
        (Pg)^m = g^m - \frac{1}{|m|} \sum_n g^n, \qquad
        \frac{\partial L}{\partial W^m} = w^m (g^m - \langle w, g \rangle)

    `weights` takes each weight for a variable of its own, as the paper's section III-D does;
    `simplex` is the part of it along which the weights can move while they sum to 1; `logits` is
    what the optimiser is handed. A modality that the item misses has no gradient in any of them.

    Args:
        log_weights: log w [..., M].
        by_log_weights: the gradient on log w, which is w g [..., M].
        present: presence mask [..., M], bool.

    Returns:
        Coordinates -> gradient [..., M]. A weight that underflows to 0 has no gradient in
        `weights` and `simplex`.

    Source: MARGO (arXiv 2504.16524), Eq. 3 and section III-D.
    """
    weights = log_weights.exp()
    scaled = by_log_weights.masked_fill(~present, 0.0)
    free = present & (weights > 0)
    of_weights = (scaled / weights.masked_fill(~free, 1.0)).masked_fill(~free, 0.0)
    mean = of_weights.sum(dim=-1, keepdim=True) / free.sum(dim=-1, keepdim=True).clamp(min=1)
    of_logits = scaled - weights * scaled.sum(dim=-1, keepdim=True)
    return {
        "weights": of_weights,
        "simplex": (of_weights - mean).masked_fill(~free, 0.0),
        "logits": of_logits.masked_fill(~present, 0.0),
    }


@dataclass(frozen=True)
class BatchAgreement:
    """How the gradients of the ranking and the calibration loss agree on one batch.

    Args:
        cosine: cosine of the batch's two gradients by `COORDINATES` [3]; NaN where one is 0.
        agrees: whether their inner product is not negative [3].
        conflicts: triplets whose two gradients have a negative inner product [3].
        silent: triplets on which the calibration loss has no gradient.
    """

    cosine: NDArray[np.float64]
    agrees: NDArray[np.bool_]
    conflicts: NDArray[np.int64]
    triplets: int
    silent: int


def batch_agreement(
    model: MARGO,
    positive: Tensor,
    negative: Tensor,
    positive_scores: Tensor,
    negative_scores: Tensor,
) -> BatchAgreement:
    """Compare the gradients of L_rec and L_cal on the weights of a batch's items.

    Neither has a factor: alpha changes no direction, and a model that is trained without the
    calibration loss can be measured too. Gradients are taken in double precision, and flow through
    the confidence exactly if they do so in training. The batch's gradient on an item is the sum
    over the triplets that hold it.

    Args:
        model: a MARGO in its second stage.
        positive: item ids [B].
        negative: ids of the negative items [B].
        positive_scores: r_ui^m [B, M].
        negative_scores: r_uj^m [B, M].

    Source: MARGO (arXiv 2504.16524), Eq. 3-8 and section III-D.
    """
    items = torch.stack([positive, negative])
    of_ranking, of_calibration = _gradients(model, items, positive_scores, negative_scores)
    cosine, agrees, conflicts = [], [], []
    for name in COORDINATES:
        one, other = of_ranking[name], of_calibration[name]
        # From [2, B, M] to [B, 2M]: a triplet moves the weights of both of its items.
        conflicts.append(
            int(_conflict(*(g.transpose(0, 1).flatten(1) for g in (one, other))).sum())
        )
        one, other = (_sum_by_item(items, gradient, model.n_items) for gradient in (one, other))
        agrees.append(not bool(_conflict(one, other)))
        cosine.append(_cosine(one, other))
    silent = (of_calibration["weights"] == 0).all(dim=-1).all(dim=0)
    return BatchAgreement(
        np.array(cosine),
        np.array(agrees),
        np.array(conflicts),
        len(positive),
        int(silent.sum()),
    )


def _gradients(
    model: MARGO, items: Tensor, positive_scores: Tensor, negative_scores: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the gradients [2, B, M] of L_rec and of L_cal, by coordinates, on items [2, B]."""
    present = model.modality_mask[items]
    with torch.no_grad():
        log_weights = log_modality_weights(model.weight_logits[items], present).double()
    with torch.enable_grad():
        log_weights.requires_grad_()
        ranking, calibration, _ = model.weighted_losses(
            log_weights[0],
            log_weights[1],
            positive_scores.double(),
            negative_scores.double(),
            present[0] & present[1],
            model.held_out_evidence(*items),
        )
        (by_ranking,) = torch.autograd.grad(ranking, log_weights, retain_graph=True)
        (by_calibration,) = torch.autograd.grad(calibration, log_weights)
    log_weights = log_weights.detach()
    return (
        weight_gradients(log_weights, by_ranking, present),
        weight_gradients(log_weights, by_calibration, present),
    )


def _sum_by_item(items: Tensor, gradient: Tensor, count: int) -> Tensor:
    """Add the rows [2, B, M] of each item up, [I * M]."""
    table = gradient.new_zeros(count, gradient.shape[-1])
    return table.index_add_(0, items.flatten(), gradient.flatten(0, 1)).flatten()


def _conflict(one: Tensor, other: Tensor) -> Tensor:
    """Tell whether vectors [..., K] have a negative inner product, beyond rounding."""
    terms = one * other
    return terms.sum(dim=-1) < -ROUNDING * terms.abs().sum(dim=-1)


def _cosine(one: Tensor, other: Tensor) -> float:
    norms = torch.linalg.vector_norm(one) * torch.linalg.vector_norm(other)
    return float(one @ other / norms) if norms > 0 else float("nan")


@dataclass(frozen=True)
class Replay:
    """The measurements of the replay of a run's second stage, E epochs of N batches.

    Args:
        cosine: cosine of each batch by `COORDINATES` [E, N, 3]; NaN where a gradient is 0.
        agrees: whether the inner product is not negative [E, N, 3].
        conflicts: triplets in conflict [E, N, 3].
        triplets: number of triplets [E, N].
        silent: triplets on which the calibration loss has no gradient [E, N].
        measuring_seconds: the part of it that was spent measuring.
    """

    cosine: NDArray[np.float64]
    agrees: NDArray[np.bool_]
    conflicts: NDArray[np.int64]
    triplets: NDArray[np.int64]
    silent: NDArray[np.int64]
    seconds: float
    measuring_seconds: float

    @property
    def epochs(self) -> int:
        """Number of epochs E."""
        return len(self.triplets)

    def save(self, path: Path, identity: str) -> None:
        """Write an `.npz`, whole or not at all, without pickle."""
        path.parent.mkdir(parents=True, exist_ok=True)
        values: dict[str, Any] = dataclasses.asdict(self)
        identified = {"identity": np.array(identity), "coordinates": np.array(COORDINATES)}
        write_archive(path, {**identified, **values})

    @classmethod
    def load(cls, path: Path, identity: str) -> Replay | None:
        """Read what `save` wrote; None if it is not there, damaged, or of something else."""
        names = [field.name for field in dataclasses.fields(cls)]
        try:
            values: dict[str, Any] = dict(read_archive(path, ["identity", *names]))
        except DataError:
            return None
        if str(values.pop("identity")) != identity:
            return None
        for name in ("seconds", "measuring_seconds"):
            values[name] = float(values[name])
        return cls(**values)


def replay_identity(run: TrainedRun, epochs: int) -> str:
    """Return a checksum that differs between replays which may have different numbers."""
    parts = [REPLAY_FORMAT, epochs, run.result.as_plain()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def check_has_weights(run: TrainedRun) -> None:
    """Raise a `CheckpointError` if a run cannot be replayed."""
    reason = cannot_replay(run)
    if reason:
        raise CheckpointError(reason)


def cannot_replay(run: TrainedRun) -> str:
    """Return why a run cannot be replayed, empty if it can.

    It is not a MARGO's, its weights cannot move, or its second stage cannot be repeated.
    """
    settings = run.result.hyperparameters
    if run.model_name != MARGO.__name__:
        reason = f"is a run of {run.model_name}, which has no calibration loss"
    elif not settings["item_weights"]:
        reason = "is the ablation w/o weight (`item_weights: false`): it has no second stage"
    elif len(modalities := run.result.modalities or ()) < 2:
        reason = f"has one modality, {', '.join(modalities)}, whose weight is always 1"
    elif settings.get("keep_optimizer") or settings.get("weight_warmup_epochs"):
        reason = "began stage 2 in a way that a replay does not repeat (`keep_optimizer`, "
        reason += "`weight_warmup_epochs`)"
    else:
        return ""
    return (
        f"{run.folder} {reason}; give a run of MARGO with weights, two or more modalities and a "
        "new optimiser"
    )


def replay_stage(run: TrainedRun, epochs: int, description: str = "replay") -> Replay:
    """Train the second stage of a finished run once more and measure every batch.

    It starts where the run's second stage did, from the best epoch of the first one, or without two
    stages from the initial parameters; the run's seed decides new logits, the order of the batches
    and the negative samples. Nothing is validated or tested.

    Raises:
        CheckpointError: if the run has no weights, or its checkpoint or data are not there.
        TrainingError: if the loss is not a finite number.
    """
    check_has_weights(run)
    with tempfile.TemporaryDirectory() as scratch, tensorboard_in(Path(scratch)):
        trainer, train = prepare_replay(run, epochs, scratch)
        return measure_training(trainer, train, description)


def prepare_replay(run: TrainedRun, epochs: int, scratch: str) -> tuple[Any, Any]:
    """Return a trainer whose `fit` is the second stage of a run, and the training loader."""
    values = {"epochs": epochs, "checkpoint_dir": scratch, "log_wandb": False}
    # Training the second stage from given parameters is what the trainer knows as w/o two-stage.
    values["two_stage"] = False
    result = dataclasses.replace(run.result, config={**run.result.config, **values})
    replayed = dataclasses.replace(run, result=result)
    train, config = replayed.loaders[0], replayed.config
    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    if run.result.hyperparameters["two_stage"]:
        model = replayed.load_model(BACKBONE_STAGE)
    else:
        model = config.model_class(config, replayed.dataset).to(config["device"])
    return find_trainer(config.model_class, config["model"])(config, model), train


def measure_training(trainer: Any, train: Any, description: str = "replay") -> Replay:
    """Train and measure every batch; the parameters become what they would without measuring.

    Args:
        trainer: the trainer of a MARGO that has no first stage.
    """
    batches: list[BatchAgreement] = []
    measuring = 0.0
    model: MARGO = trainer.model
    bar = tqdm(
        total=trainer.epochs * len(train),
        desc=description,
        unit="batch",
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
    )

    def measure(
        positive: Tensor, negative: Tensor, positive_scores: Tensor, negative_scores: Tensor
    ) -> None:
        nonlocal measuring
        started = perf_counter()
        found = batch_agreement(model, positive, negative, positive_scores, negative_scores)
        batches.append(found)
        measuring += perf_counter() - started
        bar.update()

    model.on_triplets = measure
    started = perf_counter()
    try:
        with bar:
            trainer.fit(train, verbose=False, saved=False)
    finally:
        model.on_triplets = None
    return _stacked(batches, trainer.epochs, perf_counter() - started, measuring)


def _stacked(
    batches: list[BatchAgreement], epochs: int, seconds: float, measuring: float
) -> Replay:
    columns = {
        field.name: np.array([getattr(batch, field.name) for batch in batches])
        for field in dataclasses.fields(BatchAgreement)
    }
    shaped: dict[str, Any] = {
        name: column.reshape(epochs, -1, *column.shape[1:]) for name, column in columns.items()
    }
    return Replay(**shaped, seconds=seconds, measuring_seconds=measuring)
