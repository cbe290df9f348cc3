"""The tables of what trained models say of a catalogue, and how an audit writes its numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from recbole_margo.report import NOTHING, Cell, Columns, Interval, Table, cells, clean, shorten
from recbole_margo.studies.audit.item_contents import NamedItem
from recbole_margo.studies.audit.learned_weights import WeightStability, WeightStatistics
from recbole_margo.studies.audit.result import (
    LearnedAudit,
    ListedItem,
    ModalityAudit,
    WeightRelation,
)

TITLE_SIGNS, TEXT_SIGNS = 40, 160
UNSURE = {
    "least": "Pale bars: not a suspect.",
    "most": "Pale bars: not surely more reliable and contradicted less often than the average.",
}


def weights_table(statistics: Sequence[WeightStatistics]) -> Table:
    """Return the weights of each run: mean, dispersion, entropy."""
    rows = tuple(
        cells(
            clean(run.label),
            run.seed,
            clean(part.modality),
            f"{part.count:,} {run.rows}",
            fixed(part.mean),
            fixed(part.std),
            percent(part.share_decided),
            fixed(run.entropy_bits) if number == 0 else "",
            percent(run.relative_entropy) if number == 0 else "",
        )
        for run in statistics
        for number, part in enumerate(run.modalities)
    )
    headers = (
        *("model", "seed", "modality", "weights of", "mean", "standard deviation", "above 0.9"),
        *("entropy (bits)", "of the largest entropy"),
    )
    notes = (
        "Over items (DRAGON: users) with two modalities or more; with one the weight is 1 by "
        "definition. The entropy is a mean over them; the largest is log2 of the number of "
        "modalities that an item has.",
        "DRAGON has no item weights. Its user factors are shown as shares, |W| / sum of |W|, as in "
        "Figure 5 of MARGO's paper.",
    )
    return Table("Learned weights", headers, rows, notes)


def relations_table(relations: Sequence[WeightRelation]) -> Table:
    """Return the rank correlations of the weights."""
    columns: Columns[WeightRelation] = {
        "weight of": lambda one: clean(one.modality),
        "with": lambda one: one.other,
        "Spearman's ρ": lambda one: signed(one.correlation.rho),
        "95 % interval": lambda one: interval(one.correlation.low, one.correlation.high, signed),
        "items": lambda one: f"{one.correlation.count:,}",
    }
    note = (
        "Spearman's rank correlation of an item's weight and the other value, with the 95 % "
        "interval of the bootstrap over items. With two modalities the rows of one mirror those of "
        f"the other where the value is the same. {NOTHING}: the value is the same for all items."
    )
    return Table.of("What the weights go along with", relations, columns, (note,))


def stability_table(stability: Sequence[WeightStability]) -> Table:
    """Return how far the seeds agree."""
    columns: Columns[WeightStability] = {
        "weight of": lambda one: clean(one.modality),
        "seeds": lambda one: one.seeds,
        "mean ρ": lambda one: signed(one.mean),
        "smallest ρ": lambda one: signed(one.smallest),
    }
    note = (
        "Spearman's rank correlation of the items' weights of two seeds, over all pairs of seeds. "
        "Near 0 the seeds do not agree on which items weigh a modality more."
    )
    return Table.of("Do the seeds agree?", stability, columns, (note,))


def catalogue_table(result: LearnedAudit) -> Table:
    """Return how many items of each modality are surely less or more reliable than the average."""
    columns: Columns[ModalityAudit] = {
        "modality": lambda part: clean(part.modality),
        "items that have it": lambda part: f"{part.present:,}",
        "ranked": lambda part: f"{part.ranked:,}",
        "average reliability": lambda part: fixed(part.average),
        "average contradicted": lambda part: percent(part.contradicted),
        "ρ with popularity": lambda part: signed(part.popularity_correlation),
        "surely below": lambda part: f"{part.surely_below:,}",
        "suspect": lambda part: f"{part.suspect:,}",
        "surely above": lambda part: f"{part.surely_above:,}",
        "trusted": lambda part: f"{part.trusted:,}",
    }
    several = result.catalogue.ranked_by == "evidence"
    notes = (
        f"Ranked are items with at least {result.settings.min_pairs} training pairs"
        + (" and two modalities or more" if several else "")
        + ". Surely below (above): the whole 95 % interval of the reliability is below (above) the "
        "average; of items that are average, 2.5 % each would be by chance. Suspect: surely below, "
        "and surely contradicted more often than the average. Trusted: the opposite.",
        "ρ with popularity: Spearman's rank correlation of an item's reliability and its training "
        "pairs. Far from 0, compare items with others of about as many pairs.",
    )
    return Table.of("The catalogue", result.modalities, columns, notes)


def least_reliable_table(part: ModalityAudit, count: int) -> Table:
    """Return the least reliable items of a modality, for a terminal."""
    columns: Columns[ListedItem] = {
        **short_names(part.least),
        "pairs": lambda row: row.pairs,
        "reliability": lambda row: fixed(row.reliability),
        "95 % interval": lambda row: interval(row.low, row.high, fixed),
        "contradicted": lambda row: percent(row.contradicted),
        "weight": lambda row: fixed(row.weight),
        "suspect": lambda row: "yes" if row.sure else "no",
    }
    title = f"Least reliable {clean(part.modality)} (average {fixed(part.average)})"
    return Table.of(title, part.least[:count], columns)


def items_table(part: ModalityAudit, which: str, pictures: Mapping[str, str]) -> Table:
    """Return the items of one list of a modality, for a page.

    Args:
        which: `least` or `most`.
        pictures: `data:` addresses by item token.
    """
    listed = part.least if which == "least" else part.most

    def bar(row: ListedItem) -> Cell:
        drawing = Interval(row.low, row.high, row.reliability, part.average, faint=not row.sure)
        return Cell(interval(row.low, row.high, fixed), interval=drawing)

    def contradicted(row: ListedItem) -> Cell:
        below = interval(row.contradicted_low, row.contradicted_high, percent)
        return Cell(percent(row.contradicted), below=below)

    def weight(row: ListedItem) -> str:
        return fixed(row.weight) + (f" ± {row.weight_std:.3f}" if known(row.weight_std) else "")

    columns: Columns[ListedItem] = {
        "item": lambda row: item_cell(row, pictures),
        "reliability": lambda row: fixed(row.reliability),
        "95 % interval": bar,
        "contradicted": contradicted,
        "learned weight": weight,
        "confidence": lambda row: fixed(row.confidence),
        "training pairs": lambda row: f"{row.pairs:,}",
    }
    note = "" if all(row.sure for row in listed) else UNSURE[which]
    note = note if listed else f"No items to list as {which} reliable."
    title = f"{which.capitalize()} reliable {clean(part.modality)}"
    return Table.of(title, listed, columns, (note,) if note else (), texts=("item",))


def item_cell(row: NamedItem, pictures: Mapping[str, str]) -> Cell:
    """Return title, token and the beginning of the text; what says the same is said once."""
    # Texts of items mostly begin with their titles.
    extra = shorten(clean(row.text).removeprefix(clean(row.title)), TEXT_SIGNS)
    name = shorten(row.title or row.item, TEXT_SIGNS)
    aside = shorten(row.item, TEXT_SIGNS) if row.title else ""
    return Cell(name, best=True, aside=aside, below=extra, picture=pictures.get(row.item, ""))


def short_names(listed: Sequence[NamedItem]) -> Columns[NamedItem]:
    """Return the columns that name items on a terminal."""
    columns: dict[str, Callable[[NamedItem], object]] = {
        "item": lambda row: shorten(row.item, TITLE_SIGNS)
    }
    if any(row.title for row in listed):
        columns["title"] = lambda row: shorten(row.title, TITLE_SIGNS)
    return columns


def known(value: float | None) -> bool:
    """Return whether a value is a finite number."""
    return value is not None and math.isfinite(value)


def fixed(value: float | None) -> str:
    """Return a number with three decimals."""
    return f"{value:.3f}" if known(value) else NOTHING


def signed(value: float | None) -> str:
    """Return a number with its sign and two decimals."""
    return f"{value:+.2f}" if known(value) else NOTHING


def percent(value: float | None) -> str:
    """Return a share in percent."""
    return NOTHING if value is None or not known(value) else f"{100 * value:.1f} %"


def interval(low: float, high: float, shown: Callable[[float], str]) -> str:
    """Return an interval in brackets, its ends as `shown` says."""
    return f"[{shown(low)}, {shown(high)}]" if known(low) and known(high) else NOTHING
