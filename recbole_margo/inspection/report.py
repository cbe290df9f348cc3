"""The report of an inspection: one document, and the lines that a terminal shows."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FuncFormatter

from recbole_margo.inspection.alignment import Verdict
from recbole_margo.inspection.dataset_inspection import DatasetInspection
from recbole_margo.report import (
    Bullets,
    Cell,
    Document,
    Figure,
    Fold,
    Paragraphs,
    Part,
    Section,
    Table,
    clean,
    json_text,
    write_document,
)
from recbole_margo.report.document import shorten
from recbole_margo.report.figures import COLORS, HATCHES, panel_grid

# Told apart by line style and marker too, for print without colours.
LINES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("users", {"color": COLORS[0], "linewidth": 1.8}),
    ("items", {"color": COLORS[1], "linewidth": 1.8, "linestyle": "--"}),
)
REAL: dict[str, Any] = {"color": COLORS[0], "markersize": 8}
SHUFFLED: dict[str, Any] = {"color": COLORS[1], "markersize": 5, "markerfacecolor": "none"}

# A name is cut where it would squeeze the panel.
LONGEST_NAME = 18
METHOD = (
    "Verdict: the items that users took after training are compared with those they took in "
    "training. The rate is how often the one is among the 20 nearest neighbours of the other by "
    "content, a mean over users; by chance is the same after permuting the rows. p is the share of "
    "999 permutations that are as good.",
    "fits: p is at most .01, and the rate at least twice that of chance. weak but real: p is at "
    "most .01, but what the rows say is little; they belong to their items. no sign that they "
    "belong: permuted rows do as well, or rows shifted by one do better.",
    "Recall@20: users are recommended the items whose nearest neighbours they had in training, by "
    "content alone. On validation and test interactions; shuffled is the mean of ten permutations.",
)
CAPTION = (
    "How active users and how popular items are, how concentrated the interactions are, Recall@20 "
    "of each modality beside ten permutations, and the lengths of the feature rows."
)


def dataset_figure(found: DatasetInspection) -> Drawing:
    """Draw a dataset."""
    heights = [3.2, max(3.2, 1.4 + 0.45 * len(found.modalities))]
    rows = 2 if found.modalities else 1
    figure, panels = panel_grid(2 * rows, 2, heights[:rows], 0.3)
    for panel, draw in zip(panels, DRAWN, strict=False):
        draw(panel, found)
    figure.suptitle(f"Dataset {found.dataset}")
    return figure


def _draw_degrees(panel: Axes, found: DatasetInspection) -> None:
    """Draw which share of users and items has at least so many training interactions."""
    for (name, style), degrees in zip(LINES, found.degrees, strict=True):
        values, counts = np.unique(degrees[degrees > 0], return_counts=True)
        share = counts[::-1].cumsum()[::-1] / len(degrees)
        panel.plot(values, share, label=name, **style)
    panel.set(
        xscale="log",
        yscale="log",
        title="How active users and how popular items are",
        xlabel="at least this many training interactions",
        ylabel="% of users / items",
    )
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    panel.legend()
    panel.grid()


def _draw_concentration(panel: Axes, found: DatasetInspection) -> None:
    """Draw which share of the interactions falls on the most active users and popular items."""
    for (_, style), degrees in zip(LINES, found.degrees, strict=True):
        counted = np.concatenate([[0], np.sort(degrees)[::-1].cumsum()])
        panel.plot(np.linspace(0, 100, len(counted)), 100 * counted / counted[-1], **style)
    panel.set(
        title="How concentrated the interactions are",
        xlabel="% of users / items, those with most first",
        ylabel="% of interactions",
    )
    panel.grid()


def _draw_alignment(panel: Axes, found: DatasetInspection) -> None:
    """Draw Recall@20 of content kNN, and its mean and range when the rows are shuffled."""
    places = np.arange(len(found.modalities))
    for place, one in zip(places, found.modalities.values(), strict=True):
        if one.alignment is None:
            continue
        real, shuffled = one.alignment.recall, one.alignment.shuffled
        mean = one.alignment.shuffled_mean
        panel.plot([mean, real], [place, place], color="0.6", linewidth=1.5, zorder=1)
        panel.plot(shuffled, [place] * len(shuffled), "o", **SHUFFLED)
        panel.plot([real], [place], "D", **REAL)
        panel.annotate(
            f"{real:.3f}", (real, place), (0, 8), textcoords="offset points", ha="center", size=9
        )
    panel.plot([], [], "D", label="rows as they are", **REAL)
    panel.plot([], [], "o", label="rows shuffled", **SHUFFLED)
    names = [
        f"{shorten(name, LONGEST_NAME)}\n{one.coverage:.0%} of items"
        for name, one in found.modalities.items()
    ]
    panel.set_yticks(places, names)
    panel.set_ylim(len(places) - 0.4, -0.6)
    panel.set_xlim(0.0, 1.12 * panel.get_xlim()[1])
    panel.set(title="Do rows belong to items?", xlabel="Recall@20 of content kNN")
    # Below the panel, where it never covers a point.
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    panel.grid(axis="x")


def _draw_norms(panel: Axes, found: DatasetInspection) -> None:
    """Draw the distribution of the rows' lengths, each modality relative to its median."""
    # By hand: how a box plot is told to lie has changed between versions of matplotlib.
    places = np.arange(len(found.norms))
    for place, norms in zip(places, found.norms.values(), strict=True):
        low, first, median, third, high = np.quantile(norms, [0.01, 0.25, 0.5, 0.75, 0.99])
        for start, end in ((low, first), (high, third)):
            panel.plot([start / median, end / median], [place, place], "k-|", markevery=[0])
        panel.barh(
            place,
            (third - first) / median,
            left=first / median,
            height=0.5,
            color=COLORS[place % len(COLORS)],
            hatch=HATCHES[place % len(HATCHES)],
            edgecolor="black",
            alpha=0.6,
        )
        panel.plot([1.0, 1.0], [place - 0.25, place + 0.25], "k-", linewidth=2)
    names = [
        f"{shorten(name, LONGEST_NAME)}\nmedian {_short(float(np.median(norms)))}"
        for name, norms in found.norms.items()
    ]
    panel.set_yticks(places, names)
    panel.set_ylim(len(places) - 0.4, -0.6)
    panel.set(
        title="How long the feature vectors are",
        xlabel="length / median length\n(box: quartiles, whiskers: 1 % and 99 %)",
    )
    panel.grid(axis="x")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


DRAWN = (_draw_degrees, _draw_concentration, _draw_alignment, _draw_norms)


def write_inspection(folder: Path, found: DatasetInspection) -> list[Path]:
    """Write `inspection.json`, `.md` and `.html` and the figure; what is there is replaced."""
    texts = {"inspection.json": json_text(found.to_json())}
    return write_document(folder, "inspection", inspection_document(found), texts)


def inspection_document(found: DatasetInspection) -> Document:
    """Return an inspection as a document."""
    counts = found.interactions
    splits = ", ".join(f"{name} {count:,}" for name, count in counts.interactions.items())
    facts = (
        ("users", f"{counts.users:,}, {counts.cold_users:,} without a training interaction"),
        ("items", f"{counts.items:,}, {counts.cold_items:,} without a training interaction"),
        ("interactions", f"{splits}; density {counts.density:.4%}"),
    )
    figure = Figure("inspection", CAPTION, partial(dataset_figure, found), (CAPTION,))
    verdicts: list[Part] = [alignment_table(found)] if found.verdicts else []
    if found.warnings:
        verdicts.append(Bullets(tuple(clean(warning) for warning in found.warnings)))
    if found.verdicts:
        verdicts.append(Fold("How this is measured", (Paragraphs(METHOD),)))
        verdicts.append(Paragraphs((found.next_step,)))
    sections = (
        Section("Do rows and items belong together?", tuple(verdicts)),
        Section(
            "What is in it",
            (
                degrees_table(found),
                *([modalities_table(found)] if found.modalities else []),
                figure,
            ),
        ),
    )
    return Document(f"Dataset {clean(found.dataset)}", facts, sections)


def banner(found: DatasetInspection) -> str:
    """Return a line for each verdict that is no `fits`, framed where rows may not belong."""
    lines = [
        f"{verdict.value}: {', '.join(clean(name) for name in names)}"
        for verdict in (Verdict.NO_SIGN, Verdict.WEAK)
        if (names := found.with_verdict(verdict))
    ]
    if not found.with_verdict(Verdict.NO_SIGN):
        return "".join(f"\n{line}\n" for line in lines)
    width = max(map(len, lines))
    frame = "!" * (width + 6)
    return "\n".join(["", frame, *(f"!! {line:<{width}} !!" for line in lines), frame, ""])


def alignment_table(found: DatasetInspection) -> Table:
    """Return the verdict of each modality and what it rests on."""
    rows = tuple(
        (
            Cell(clean(name)),
            Cell(one.verdict.value, best=one.verdict is not Verdict.FITS),
            Cell(f"{one.neighbors.lift:.2f} x"),
            Cell(f"{one.neighbors.p_value:.3f}"),
            Cell(f"{one.neighbors.rate:.4f}"),
            Cell(f"{one.neighbors.expected:.4f} ± {one.neighbors.deviation:.4f}"),
            Cell(f"{one.recall:.4f}"),
            Cell(f"{one.shuffled_mean:.4f} ± {one.shuffled_deviation:.4f}"),
        )
        for name, one in found.alignments.items()
    )
    headers = ("modality", "verdict", "effect", "p", "neighbor rate", "by chance", "Recall@20")
    notes = (
        "The verdict is on how much the nearest items by content say of what users take next. "
        "Whether each row belongs to its item is the question of recbole-margo audit: what is weak "
        "but real here may fit there.",
    )
    columns = (*headers, "shuffled rows")
    return Table("Rows against items", columns, rows, notes, texts=("verdict",))


def degrees_table(found: DatasetInspection) -> Table:
    """Return quantiles of the training interactions of users and items."""
    counts = found.interactions
    rows = tuple(
        (Cell(name), *(Cell(f"{value:.4g}") for value in values.values()))
        for name, values in (
            ("of a user", counts.user_degrees),
            ("of an item", counts.item_degrees),
        )
    )
    return Table("Training interactions", ("", *counts.user_degrees), rows)


def modalities_table(found: DatasetInspection) -> Table:
    """Return what the rows of each modality are like."""
    rows = [
        (
            clean(name),
            f"{one.items:,}",
            f"{one.coverage:.1%}",
            f"{one.interaction_coverage:.1%}",
            f"{one.dimension:,}",
            f"{one.rank:,} of {min(one.rank_rows, one.dimension):,}",
            f"{one.principal_dimension:,}",
            f"{one.norms['median']:.3g} ({one.norms['10%']:.3g}-{one.norms['90%']:.3g})",
            f"{one.duplicates.exact_items:,}",
            f"{one.duplicates.near_items:,}",
        )
        for name, one in found.modalities.items()
    ]
    headers = "modality,items,coverage,of training,columns,rank,90% variance"
    headers += ",norm (10%-90%),duplicates,near duplicates"
    cells = tuple(tuple(map(Cell, row)) for row in rows)
    return Table("Modalities", tuple(headers.split(",")), cells)
