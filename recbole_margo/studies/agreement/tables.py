"""The tables of how the gradients of MARGO's two losses agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbole_margo.report.files import csv_text
from recbole_margo.report.table import NOTHING, Cell, Table, clean

COORDINATE_NAMES = {
    "weights": "weights",
    "simplex": "weights that sum to 1",
    "logits": "logits",
}
CSV_COLUMNS = (
    "label",
    "seed",
    "epoch",
    "coordinates",
    "batches",
    "batches_agreeing",
    "share_agreeing",
    "share_agreeing_low",
    "share_agreeing_high",
    "cosine_mean",
    "cosine_quartile_1",
    "cosine_median",
    "cosine_quartile_3",
    "triplets",
    "triplets_silent",
    "triplets_in_conflict",
    "share_in_conflict",
)
COORDINATE_NOTES = (
    "weights: each weight is a variable of its own, as in the paper's section III-D; there no "
    "triplet of MARGO can be in conflict.",
    "weights that sum to 1: only the part of the gradients along which an item's weights can "
    "move while they sum to 1.",
    "logits: what the optimiser is handed.",
)
COUNTING_NOTES = (
    "A batch agrees if the inner product of its two gradients, each summed over its triplets, is "
    "not negative; 0 counts as agreement. A triplet is in conflict if the inner product of its own "
    "two gradients is negative.",
    "Silent triplets have no calibration gradient, so they are never in conflict.",
    "The intervals are Wilson's, 95 %, as if batches were independent; batches of one training "
    "are not, so read them as a lower bound of the uncertainty.",
)


def agreement_table(summary: Mapping[str, Any]) -> Table:
    """Return one row per label and coordinates, over all epochs and seeds.

    Args:
        summary: the summary, see docs/agreement.md.
    """
    rows = []
    for entry in summary["labels"]:
        for name in summary["coordinates"]:
            rows.append((Cell(clean(entry["label"])), *_cells(entry, name)))
    headers = (
        "run",
        "gradients on",
        "seeds",
        "batches",
        "agree [95 %]",
        "median cosine (quartiles)",
        "triplets in conflict",
        "silent triplets",
    )
    notes = (*COORDINATE_NOTES, *COUNTING_NOTES)
    return Table("Batches that agree, over all epochs", headers, tuple(rows), notes)


def _cells(entry: Mapping[str, Any], name: str) -> tuple[Cell, ...]:
    whole = entry["whole"]
    found = whole[name]
    agreeing = found["share_agreeing"]
    interval = f"[{percent(agreeing['low'])}, {percent(agreeing['high'])}]"
    silent = whole["silent_triplets"] / whole["triplets"]
    texts = (
        COORDINATE_NAMES[name],
        str(len(entry["seeds"])),
        f"{whole['batches']:,}",
        f"{exact_percent(found['agreeing_batches'], whole['batches'])} {interval}",
        quartiles_text(found["cosine_quartiles"]),
        exact_percent(found["triplets_in_conflict"], whole["triplets"]),
        f"{percent(silent)} %",
    )
    return tuple(Cell(text) for text in texts)


def runs_table(summary: Mapping[str, Any]) -> Table:
    """Return one row per replay: what was trained, and what measuring cost.

    Args:
        summary: the summary.
    """
    rows = []
    for run in summary["runs"]:
        settings = run["settings"]
        epochs = len(run["epochs"])
        training = run["seconds"] - run["measuring_seconds"]
        texts = (
            f"{clean(run['label'])}, seed {run['seed']}",
            f"{settings['alpha']:g}",
            f"{settings['tau']:g}",
            "yes" if settings["stop_gradient"] else "no",
            "stage 1" if settings["two_stage"] else "initial values",
            str(epochs),
            str(run["batches_per_epoch"]),
            f"{training / epochs:.2f}",
            f"{run['measuring_seconds'] / epochs:.2f}",
        )
        rows.append(tuple(Cell(text) for text in texts))
    headers = (
        "replay",
        "alpha",
        "tau",
        "stop-gradient",
        "starts from",
        "epochs",
        "batches / epoch",
        "s / epoch, training",
        "s / epoch, measuring",
    )
    return Table("Replays", headers, tuple(rows))


def percent(value: float) -> str:
    """Return a share in percent with one decimal, without the sign."""
    return f"{100 * value:.1f}"


def exact_percent(count: int, total: int) -> str:
    """Return a share in percent that is rounded to 0 or 100 only where it is 0 or 100."""
    if count == 0 or count == total:
        return f"{100 * count // total} %"
    value = 100 * count / total
    if value < 0.01:
        return "< 0.01 %"
    if value > 99.99:
        return "> 99.99 %"
    return f"{value:.2f} %"


def quartiles_text(quartiles: Sequence[float | None]) -> str:
    """Return the median with the other quartiles in parentheses."""
    low, median, high = quartiles
    if low is None or median is None or high is None:
        return NOTHING
    return f"{median:+.3f} ({low:+.3f}, {high:+.3f})"


def agreement_csv(summary: Mapping[str, Any]) -> str:
    """Return one row per run, epoch and coordinates, unrounded.

    Args:
        summary: the summary.
    """
    rows = (
        (clean(run["label"]), run["seed"], epoch["epoch"], name, *_csv_values(epoch, epoch[name]))
        for run in summary["runs"]
        for epoch in run["epochs"]
        for name in summary["coordinates"]
    )
    return csv_text(CSV_COLUMNS, rows)


def _csv_values(epoch: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[Any, ...]:
    agreeing = found["share_agreeing"]
    return (
        epoch["batches"],
        found["agreeing_batches"],
        agreeing["value"],
        agreeing["low"],
        agreeing["high"],
        found["cosine_mean"],
        *found["cosine_quartiles"],
        epoch["triplets"],
        epoch["silent_triplets"],
        found["triplets_in_conflict"],
        found["share_in_conflict"]["value"],
    )
