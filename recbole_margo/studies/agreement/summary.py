"""What the replays of second stages found, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from recbole_margo.studies.agreement.agreement import COORDINATES, Replay
from recbole_margo.studies.runs.trained_run import TrainedRun

SUMMARY_FORMAT = 1
SETTINGS = ("alpha", "tau", "beta", "stop_gradient", "two_stage", "weight_learning_rate")


def summarize_agreement(
    measured: Sequence[tuple[str, TrainedRun, Replay]],
) -> dict[str, Any]:
    """Return the summary that `recbole_margo.studies.agreement.report` shows.

    Args:
        measured: label, run and replay of each.

    Returns:
        `runs` with a row per epoch and coordinates, and `labels`, which pool the batches of all
        seeds, per epoch and as a whole.
    """
    labels = list(dict.fromkeys(label for label, _, _ in measured))
    return {
        "format": SUMMARY_FORMAT,
        "dataset": " ".join(sorted({str(run.record["dataset"]) for _, run, _ in measured})),
        "coordinates": list(COORDINATES),
        "labels": [
            _label(label, [(run, replay) for name, run, replay in measured if name == label])
            for label in labels
        ],
        "runs": [_run(label, run, replay) for label, run, replay in measured],
    }


def _label(label: str, of_label: Sequence[tuple[TrainedRun, Replay]]) -> dict[str, Any]:
    longest = max(replay.epochs for _, replay in of_label)
    replays = [replay for _, replay in of_label]
    return {
        "label": label,
        "seeds": [run.seed for run, _ in of_label],
        "whole": pooled(replays, slice(None)),
        "epochs": [
            {"epoch": epoch + 1, "seeds": len(those), **pooled(those, slice(epoch, epoch + 1))}
            for epoch in range(longest)
            if (those := [replay for replay in replays if replay.epochs > epoch])
        ],
    }


def _run(label: str, run: TrainedRun, replay: Replay) -> dict[str, Any]:
    return {
        "label": label,
        "seed": run.seed,
        "folder": str(run.folder),
        "dataset": run.record["dataset"],
        "modalities": run.record["modalities"],
        "settings": {name: run.record["hyperparameters"][name] for name in SETTINGS},
        "batches_per_epoch": int(replay.triplets.shape[1]),
        "seconds": replay.seconds,
        "measuring_seconds": replay.measuring_seconds,
        "whole": pooled([replay], slice(None)),
        "epochs": [
            {"epoch": epoch + 1, **pooled([replay], slice(epoch, epoch + 1))}
            for epoch in range(replay.epochs)
        ],
    }


def pooled(replays: Sequence[Replay], epochs: slice) -> dict[str, Any]:
    """Return shares and quartiles over the batches of some epochs of one or more replays.

    Args:
        replays: the replays.
        epochs: which of their epochs.

    Returns:
        Counts, and under each of `COORDINATES` what depends on them.
    """
    columns: dict[str, NDArray[Any]] = {}
    for name in ("cosine", "agrees", "conflicts", "triplets", "silent"):
        parts = [getattr(replay, name)[epochs] for replay in replays]
        columns[name] = np.concatenate([part.reshape(-1, *part.shape[2:]) for part in parts])
    triplets = int(columns["triplets"].sum())
    return {
        "batches": len(columns["triplets"]),
        "triplets": triplets,
        "silent_triplets": int(columns["silent"].sum()),
        **{
            name: _in_coordinates(columns, index, triplets)
            for index, name in enumerate(COORDINATES)
        },
    }


def _in_coordinates(
    columns: Mapping[str, NDArray[Any]], index: int, triplets: int
) -> dict[str, Any]:
    agreeing, batches = int(columns["agrees"][:, index].sum()), len(columns["agrees"])
    conflicts = int(columns["conflicts"][:, index].sum())
    cosine = columns["cosine"][:, index]
    cosine = cosine[~np.isnan(cosine)]
    quartiles = np.quantile(cosine, (0.25, 0.5, 0.75)).tolist() if len(cosine) else [None] * 3
    return {
        "agreeing_batches": agreeing,
        "share_agreeing": share(agreeing, batches),
        "cosine_mean": float(cosine.mean()) if len(cosine) else None,
        "cosine_quartiles": quartiles,
        "triplets_in_conflict": conflicts,
        "share_in_conflict": share(conflicts, triplets),
    }


def share(count: int, total: int) -> dict[str, float]:
    """Return a share with Wilson's 95 % interval.

    Args:
        count: how many.
        total: of how many, at least one.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    interval = binomtest(count, total).proportion_ci(0.95, method="wilson")
    return {"value": count / total, "low": float(interval.low), "high": float(interval.high)}
