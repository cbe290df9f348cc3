"""The report of how the gradients of MARGO's two losses agree: tables, a figure, one document."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
from matplotlib import figure as matplotlib_figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from recbole_margo.report import (
    NOTHING,
    Columns,
    Document,
    Figure,
    Paragraphs,
    Section,
    Table,
    clean,
    csv_text,
    json_text,
    shorten,
)
from recbole_margo.report.figures import legend_below, look, panel_grid
from recbole_margo.studies.agreement.replay import COORDINATES
from recbole_margo.studies.agreement.result import (
    AgreementResult,
    LabelAgreement,
    PooledBatches,
    Quartiles,
    RunAgreement,
    Share,
)
from recbole_margo.studies.runs.study import StudyReport

COORDINATE_NAMES = {"weights": "weights", "simplex": "weights that sum to 1", "logits": "logits"}
# More markers than this hide the line that they lie on.
MARKERS_A_LINE = 8
LABEL_LENGTH = 30
CSV_COLUMNS = (
    *("label", "seed", "epoch", "coordinates", "batches", "batches_agreeing"),
    *("share_agreeing", "share_agreeing_low", "share_agreeing_high"),
    *("cosine_mean", "cosine_quartile_1", "cosine_median", "cosine_quartile_3"),
    *("triplets", "triplets_silent", "triplets_in_conflict", "share_in_conflict"),
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
INTRODUCTION = (
    "MARGO's second stage trains the modality weights of the items with two losses: the ranking "
    "loss L_rec and the calibration loss L_cal. The paper argues in section III-D that their "
    "gradients on the weights never conflict. Each run's second stage was trained once more, and "
    "the two gradients were compared on every batch and on every triplet.",
)
FIGURE_NOTES = (
    "First row: share of an epoch's batches that agree, with Wilson's 95 % interval. Second row: "
    "median cosine of the two gradients over the batches, with quartiles. Third row: share of the "
    "triplets that are in conflict. Batches of all seeds are pooled; where the second stages of "
    "the seeds have different lengths, later epochs have fewer of them.",
)
ALTERNATIVE = (
    "Lines over the epochs of stage 2, a row each for batches that agree, cosine and triplets "
    "in conflict, a column per coordinates. agreement.csv holds the numbers."
)


def agreement_figure(result: AgreementResult) -> matplotlib_figure.Figure:
    """Draw share of batches, cosine and share of triplets over epochs, a column per coordinates."""
    count = len(COORDINATES)
    figure, found = panel_grid(3 * count, count, 7.4 / 3, 0.0, sharex=True, sharey="row")
    panels = np.array(found, dtype=object).reshape(3, count)
    for column, name in zip(panels.T, COORDINATES, strict=True):
        for index, entry in enumerate(result.labels):
            _draw_label(column, entry, name, index)
        column[0].set_title(f"gradients on\n{COORDINATE_NAMES[name]}")
        column[2].set_xlabel("epoch of stage 2")
    longest = max(len(entry.epochs) for entry in result.labels)
    panels[0, 0].set_xlim(0.5 - 0.01 * longest, 0.5 + 1.01 * longest)
    for panel in panels.flat:
        panel.grid(axis="y")
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    _scale_rows(panels)
    legend_below(figure, 4)
    figure.suptitle(f"{clean(result.dataset)}: do L_rec and L_cal pull the weights the same way?")
    return figure


def _scale_rows(panels: NDArray[Any]) -> None:
    """Name the units and mark where the gradients stand at right angles."""
    panels[0, 0].set(ylabel="batches that agree", ylim=(-0.03, 1.03))
    panels[1, 0].set(ylabel="cosine of the gradients\n(median, quartiles)")
    panels[2, 0].set(ylabel="triplets in conflict")
    # From 0 on, with room for a line that lies on it.
    top = max(panels[2, 0].get_ylim()[1], 0.01)
    panels[2, 0].set_ylim(-0.03 * top, top)
    for row in (0, 2):
        panels[row, 0].yaxis.set_major_formatter(PercentFormatter(1.0))
    for panel in panels[1]:
        panel.axhline(0.0, color="0.4", linewidth=0.8, linestyle=":")


def _draw_label(column: NDArray[Any], entry: LabelAgreement, name: str, index: int) -> None:
    seeds, color = len(entry.seeds), look(index)["color"]
    style: dict[str, Any] = {
        "label": f"{shorten(entry.label, LABEL_LENGTH)} ({seeds} seed{'s' if seeds > 1 else ''})",
        **look(index),
        "markersize": 4,
        "markevery": max(1, len(entry.epochs) // MARKERS_A_LINE),
        "linewidth": 1.4,
    }
    epochs = [one.epoch for one in entry.epochs]
    found = [one.pooled.coordinates[name] for one in entry.epochs]
    quartiles = np.array([one.cosine_quartiles for one in found], dtype=np.float64)
    agreeing = _ends([one.share_agreeing for one in found])
    in_conflict = _ends([one.share_in_conflict for one in found])
    for panel, values in zip(column, (agreeing, quartiles.T, in_conflict), strict=True):
        panel.plot(epochs, values[1], **style)
        if len(epochs) == 1:
            panel.vlines(epochs, values[0], values[2], color=color, linewidth=1.2)
        panel.fill_between(epochs, values[0], values[2], color=color, alpha=0.2, linewidth=0)


def _ends(shares: list[Share]) -> NDArray[np.float64]:
    ends: NDArray[np.float64] = np.array([[one.low, one.value, one.high] for one in shares]).T
    return ends


def agreement_report(result: AgreementResult) -> StudyReport:
    """Return everything that is shown of the replays.

    Its files are `agreement.json`, `.csv`, `.md`, `.html`, `.png` and `.svg`.
    """
    figure = Figure("agreement", ALTERNATIVE, partial(agreement_figure, result))
    table = Section(None, (agreement_table(result),))
    sections = (
        Section(None, (Paragraphs(INTRODUCTION),)),
        table,
        Section("Over training", (Paragraphs(FIGURE_NOTES), figure)),
        Section(None, (runs_table(result),)),
    )
    return StudyReport(
        "agreement",
        Document(f"Agreement of MARGO's losses on {clean(result.dataset)}", (), sections),
        {"agreement.json": json_text(result.as_plain()), "agreement.csv": agreement_csv(result)},
        (table,),
    )


def agreement_table(result: AgreementResult) -> Table:
    """Return one row per label and coordinates, over all epochs and seeds."""

    def agreeing(entry: LabelAgreement, name: str) -> str:
        found, batches = entry.whole.coordinates[name], entry.whole.batches
        low, high = (100 * end for end in (found.share_agreeing.low, found.share_agreeing.high))
        return f"{exact_percent(found.agreeing_batches, batches)} [{low:.1f}, {high:.1f}]"

    def conflict(entry: LabelAgreement, name: str) -> str:
        found = entry.whole.coordinates[name].triplets_in_conflict
        return exact_percent(found, entry.whole.triplets)

    def silent(whole: PooledBatches) -> str:
        return f"{100 * (whole.silent_triplets / whole.triplets):.1f} %"

    def cosine(entry: LabelAgreement, name: str) -> str:
        return quartiles_text(entry.whole.coordinates[name].cosine_quartiles)

    columns: Columns[tuple[LabelAgreement, str]] = {
        "run": lambda of: clean(of[0].label),
        "gradients on": lambda of: COORDINATE_NAMES[of[1]],
        "seeds": lambda of: len(of[0].seeds),
        "batches": lambda of: f"{of[0].whole.batches:,}",
        "agree [95 %]": lambda of: agreeing(*of),
        "median cosine (quartiles)": lambda of: cosine(*of),
        "triplets in conflict": lambda of: conflict(*of),
        "silent triplets": lambda of: silent(of[0].whole),
    }
    notes = (*COORDINATE_NOTES, *COUNTING_NOTES)
    rows = itertools.product(result.labels, COORDINATES)
    return Table.of("Batches that agree, over all epochs", rows, columns, notes)


def runs_table(result: AgreementResult) -> Table:
    """Return one row per replay: what was trained, and what measuring cost."""

    def per_epoch(run: RunAgreement, seconds: float) -> str:
        return f"{seconds / len(run.epochs):.2f}"

    columns: Columns[RunAgreement] = {
        "replay": lambda run: f"{clean(run.label)}, seed {run.seed}",
        "alpha": lambda run: f"{run.settings.alpha:g}",
        "tau": lambda run: f"{run.settings.tau:g}",
        "stop-gradient": lambda run: "yes" if run.settings.stop_gradient else "no",
        "starts from": lambda run: "stage 1" if run.settings.two_stage else "initial values",
        "epochs": lambda run: len(run.epochs),
        "batches / epoch": lambda run: run.batches_per_epoch,
        "s / epoch, training": lambda run: per_epoch(run, run.seconds - run.measuring_seconds),
        "s / epoch, measuring": lambda run: per_epoch(run, run.measuring_seconds),
    }
    return Table.of("Replays", result.runs, columns)


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


def quartiles_text(quartiles: Quartiles) -> str:
    """Return the median with the other quartiles in parentheses."""
    low, median, high = quartiles
    if low is None or median is None or high is None:
        return NOTHING
    return f"{median:+.3f} ({low:+.3f}, {high:+.3f})"


def agreement_csv(result: AgreementResult) -> str:
    """Return one row per run, epoch and coordinates, unrounded."""
    rows = (
        (clean(run.label), run.seed, one.epoch, name, *_csv_values(one.pooled, name))
        for run in result.runs
        for one in run.epochs
        for name in COORDINATES
    )
    return csv_text(CSV_COLUMNS, rows)


def _csv_values(pooled: PooledBatches, name: str) -> tuple[float | None, ...]:
    found = pooled.coordinates[name]
    return (
        pooled.batches,
        found.agreeing_batches,
        found.share_agreeing.value,
        found.share_agreeing.low,
        found.share_agreeing.high,
        found.cosine_mean,
        *found.cosine_quartiles,
        pooled.triplets,
        pooled.silent_triplets,
        found.triplets_in_conflict,
        found.share_in_conflict.value,
    )
