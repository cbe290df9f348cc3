"""The typed result of the replays of second stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from recbole_margo.store.plain import as_plain, from_plain
from recbole_margo.studies.agreement.replay import COORDINATES, Replay
from recbole_margo.studies.runs.trained_run import TrainedRun

SUMMARY_FORMAT = 1
Quartiles = tuple[float | None, float | None, float | None]


@dataclass(frozen=True)
class Share:
    """A share with Wilson's 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, count: int, total: int) -> Share:
        """Return the share of `count` in `total`, which is at least one.

        Source: Wilson, "Probable inference, the law of succession, and statistical inference",
        1927.
        """
        interval = binomtest(count, total).proportion_ci(0.95, method="wilson")
        return cls(count / total, float(interval.low), float(interval.high))


@dataclass(frozen=True)
class CoordinateAgreement:
    """How the gradients of some batches agree in one of `COORDINATES`.

    Args:
        agreeing_batches: batches whose inner product is not negative.
        cosine_mean: mean cosine of the batches; None where every one has a gradient of 0.
        triplets_in_conflict: triplets whose inner product is negative.
    """

    agreeing_batches: int
    share_agreeing: Share
    cosine_mean: float | None
    cosine_quartiles: Quartiles
    triplets_in_conflict: int
    share_in_conflict: Share


@dataclass(frozen=True)
class PooledBatches:
    """The batches of some epochs of one or more replays.

    Args:
        silent_triplets: triplets on which the calibration loss has no gradient.
    """

    batches: int
    triplets: int
    silent_triplets: int
    coordinates: Mapping[str, CoordinateAgreement]

    @classmethod
    def of(cls, replays: Sequence[Replay], epochs: slice) -> PooledBatches:
        """Pool the batches of some epochs of replays."""
        triplets = sum(int(replay.triplets[epochs].sum()) for replay in replays)
        found = {}
        for index, name in enumerate(COORDINATES):
            cosine, agrees, conflicts = (
                np.concatenate(
                    [getattr(replay, column)[epochs, :, index].reshape(-1) for replay in replays]
                )
                for column in ("cosine", "agrees", "conflicts")
            )
            known = cosine[~np.isnan(cosine)]
            quartiles: Quartiles = (None, None, None)
            if len(known):
                low, median, high = np.quantile(known, (0.25, 0.5, 0.75)).tolist()
                quartiles = (low, median, high)
            found[name] = CoordinateAgreement(
                int(agrees.sum()),
                Share.of(int(agrees.sum()), len(agrees)),
                float(known.mean()) if len(known) else None,
                quartiles,
                int(conflicts.sum()),
                Share.of(int(conflicts.sum()), triplets),
            )
        silent = sum(int(replay.silent[epochs].sum()) for replay in replays)
        return cls(len(agrees), triplets, silent, found)

    def as_plain(self) -> dict[str, Any]:
        """Return it as it stands in `agreement.json`."""
        counts = {name: getattr(self, name) for name in ("batches", "triplets", "silent_triplets")}
        return {**counts, **as_plain(self.coordinates)}


@dataclass(frozen=True)
class EpochAgreement:
    """One epoch, of as many seeds as trained it."""

    epoch: int
    seeds: int
    pooled: PooledBatches


@dataclass(frozen=True)
class LabelAgreement:
    """The replays of one label, those of all seeds pooled."""

    label: str
    seeds: tuple[int, ...]
    whole: PooledBatches
    epochs: tuple[EpochAgreement, ...]


@dataclass(frozen=True)
class StageSettings:
    """The hyper-parameters of a run that its second stage depends on."""

    alpha: float
    tau: float
    beta: float
    stop_gradient: bool
    two_stage: bool
    weight_learning_rate: float | None


@dataclass(frozen=True)
class RunAgreement:
    """The replay of one run."""

    label: str
    seed: int
    folder: str
    dataset: str
    modalities: tuple[str, ...]
    settings: StageSettings
    batches_per_epoch: int
    seconds: float
    measuring_seconds: float
    whole: PooledBatches
    epochs: tuple[EpochAgreement, ...]

    @classmethod
    def of(cls, label: str, run: TrainedRun, replay: Replay) -> RunAgreement:
        """Summarise the replay of a run."""
        return cls(
            label,
            run.seed,
            str(run.folder),
            run.result.dataset,
            tuple(run.result.modalities or ()),
            from_plain(StageSettings, run.result.hyperparameters),
            int(replay.triplets.shape[1]),
            replay.seconds,
            replay.measuring_seconds,
            PooledBatches.of([replay], slice(None)),
            _by_epoch([replay]),
        )


@dataclass(frozen=True)
class AgreementResult:
    """The findings of all replays."""

    dataset: str
    labels: tuple[LabelAgreement, ...]
    runs: tuple[RunAgreement, ...]

    @classmethod
    def of(cls, measured: Sequence[tuple[str, TrainedRun, Replay]]) -> AgreementResult:
        """Summarise replays with the labels of their runs."""
        labels = []
        for label in dict.fromkeys(label for label, _, _ in measured):
            replays = [replay for name, _, replay in measured if name == label]
            seeds = tuple(run.seed for name, run, _ in measured if name == label)
            whole = PooledBatches.of(replays, slice(None))
            labels.append(LabelAgreement(label, seeds, whole, _by_epoch(replays)))
        datasets = sorted({str(run.result.dataset) for _, run, _ in measured})
        runs = tuple(RunAgreement.of(*one) for one in measured)
        return cls(" ".join(datasets), tuple(labels), runs)

    def as_plain(self) -> dict[str, Any]:
        """Return it as it stands in `agreement.json`."""

        def plain(one: LabelAgreement | RunAgreement) -> object:
            of_label = isinstance(one, LabelAgreement)
            epochs = [
                {
                    "epoch": each.epoch,
                    **({"seeds": each.seeds} if of_label else {}),
                    **each.pooled.as_plain(),
                }
                for each in one.epochs
            ]
            return {**as_plain(one), "whole": one.whole.as_plain(), "epochs": epochs}

        return {
            "format": SUMMARY_FORMAT,
            "dataset": self.dataset,
            "coordinates": list(COORDINATES),
            "labels": [plain(one) for one in self.labels],
            "runs": [plain(one) for one in self.runs],
        }


def _by_epoch(replays: Sequence[Replay]) -> tuple[EpochAgreement, ...]:
    found = []
    for epoch in range(max(replay.epochs for replay in replays)):
        those = [replay for replay in replays if replay.epochs > epoch]
        pooled = PooledBatches.of(those, slice(epoch, epoch + 1))
        found.append(EpochAgreement(epoch + 1, len(those), pooled))
    return tuple(found)
