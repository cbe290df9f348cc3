"""The report of an inspection: one document, and the lines that a terminal shows."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from recbole_margo.inspection.alignment import Verdict
from recbole_margo.inspection.dataset_inspection import DatasetInspection
from recbole_margo.inspection.figures import dataset_figure
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
    figure = Figure("inspection", CAPTION, partial(dataset_figure, found.figure), (CAPTION,))
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
    return Table("Rows against items", (*headers, "shuffled rows"), rows, texts=("verdict",))


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
    rows = tuple(
        tuple(
            map(
                Cell,
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
                ),
            )
        )
        for name, one in found.modalities.items()
    )
    headers = "modality,items,coverage,of training,columns,rank,90% variance"
    headers += ",norm (10%-90%),duplicates,near duplicates"
    return Table("Modalities", tuple(headers.split(",")), rows)
