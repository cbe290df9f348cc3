"""The tables of what trained models say of a catalogue."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from recbole_margo.report import NOTHING, Cell, Interval, Table, clean, shorten
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


class NamedItem(Protocol):
    """An item with a name and a text."""

    @property
    def item(self) -> str:
        """Its token."""

    @property
    def title(self) -> str:
        """Its title, empty if it has none."""

    @property
    def text(self) -> str:
        """Its text, empty if it has none."""


def weights_table(statistics: Sequence[WeightStatistics]) -> Table:
    """Return the weights of each run: mean, dispersion, entropy."""
    rows = tuple(
        _cells(
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
        "model",
        "seed",
        "modality",
        "weights of",
        "mean",
        "standard deviation",
        "above 0.9",
        "entropy (bits)",
        "of the largest entropy",
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
    rows = tuple(
        _cells(
            clean(one.modality),
            one.other,
            signed(one.correlation.rho),
            interval(one.correlation.low, one.correlation.high, signed),
            f"{one.correlation.count:,}",
        )
        for one in relations
    )
    notes = (
        "Spearman's rank correlation of an item's weight and the other value, with the 95 % "
        "interval of the bootstrap over items. With two modalities the rows of one mirror those of "
        f"the other where the value is the same. {NOTHING}: the value is the same for all items.",
    )
    headers = ("weight of", "with", "Spearman's ρ", "95 % interval", "items")
    return Table("What the weights go along with", headers, rows, notes)


def stability_table(stability: Sequence[WeightStability]) -> Table:
    """Return how far the seeds agree."""
    rows = tuple(
        _cells(clean(one.modality), one.seeds, signed(one.mean), signed(one.smallest))
        for one in stability
    )
    headers = ("weight of", "seeds", "mean ρ", "smallest ρ")
    notes = (
        "Spearman's rank correlation of the items' weights of two seeds, over all pairs of seeds. "
        "Near 0 the seeds do not agree on which items weigh a modality more.",
    )
    return Table("Do the seeds agree?", headers, rows, notes)


def catalogue_table(result: LearnedAudit) -> Table:
    """Return how many items of each modality are surely less or more reliable than the average."""
    rows = tuple(
        _cells(
            clean(part.modality),
            f"{part.present:,}",
            f"{part.ranked:,}",
            fixed(part.average),
            percent(part.contradicted),
            signed(part.popularity_correlation),
            f"{part.surely_below:,}",
            f"{part.suspect:,}",
            f"{part.surely_above:,}",
            f"{part.trusted:,}",
        )
        for part in result.modalities
    )
    headers = (
        "modality",
        "items that have it",
        "ranked",
        "average reliability",
        "average contradicted",
        "ρ with popularity",
        "surely below",
        "suspect",
        "surely above",
        "trusted",
    )
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
    return Table("The catalogue", headers, rows, notes)


def least_reliable_table(part: ModalityAudit, count: int) -> Table:
    """Return the least reliable items of a modality, for a terminal.

    Args:
        part: the audit of the modality.
        count: items at most.
    """
    titled = any(row.title for row in part.least)
    rows = tuple(
        _cells(
            shorten(row.item, TITLE_SIGNS),
            *[shorten(row.title, TITLE_SIGNS)] * titled,
            row.pairs,
            fixed(row.reliability),
            interval(row.low, row.high, fixed),
            percent(row.contradicted),
            fixed(row.weight),
            "yes" if row.sure else "no",
        )
        for row in part.least[:count]
    )
    headers = ("item", *(("title",) * titled), "pairs", "reliability", "95 % interval")
    headers += ("contradicted", "weight", "suspect")
    title = f"Least reliable {clean(part.modality)} (average {fixed(part.average)})"
    return Table(title, headers, rows)


def items_table(part: ModalityAudit, which: str, pictures: Mapping[str, str]) -> Table:
    """Return the items of one list of a modality, for a page.

    Args:
        part: the audit of the modality.
        which: `least` or `most`.
        pictures: pictures by item token, as `data:` addresses.
    """
    listed = part.least if which == "least" else part.most
    rows = tuple(
        (
            item_cell(row, pictures.get(row.item, "")),
            Cell(fixed(row.reliability)),
            _bar(row, part.average),
            Cell(
                percent(row.contradicted),
                below=interval(row.contradicted_low, row.contradicted_high, percent),
            ),
            Cell(fixed(row.weight) + (f" ± {row.weight_std:.3f}" if known(row.weight_std) else "")),
            Cell(fixed(row.confidence)),
            Cell(f"{row.pairs:,}"),
        )
        for row in listed
    )
    numbers = ("reliability", "95 % interval", "contradicted", "learned weight", "confidence")
    if not rows:
        notes: tuple[str, ...] = (f"No items to list as {which} reliable.",)
    else:
        notes = () if all(row.sure for row in listed) else (UNSURE[which],)
    title = f"{which.capitalize()} reliable {clean(part.modality)}"
    headers = ("item", *numbers, "training pairs")
    return Table(title, headers, rows, notes, texts=("item",))


def item_cell(row: NamedItem, picture: str) -> Cell:
    """Return title, token and the beginning of the text; what says the same is said once."""
    # Texts of items mostly begin with their titles.
    extra = shorten(clean(row.text).removeprefix(clean(row.title)), TEXT_SIGNS)
    name = shorten(row.title or row.item, TEXT_SIGNS)
    aside = shorten(row.item, TEXT_SIGNS) if row.title else ""
    return Cell(name, best=True, aside=aside, below=extra, picture=picture)


def _bar(row: ListedItem, average: float) -> Cell:
    drawing = Interval(row.low, row.high, row.reliability, average, faint=not row.sure)
    return Cell(interval(row.low, row.high, fixed), interval=drawing)


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


def _cells(*texts: object) -> tuple[Cell, ...]:
    return tuple(Cell(str(text)) for text in texts)
