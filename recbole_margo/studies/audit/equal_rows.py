"""Items that have the very same row of a modality, such as a picture that was given to two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.report import Cell, Table, clean, shorten
from recbole_margo.studies.audit.item_contents import ItemContents
from recbole_margo.studies.audit.tables import TITLE_SIGNS, item_cell, signed

# More items than this share a placeholder rather than a mistake, and are told in one line.
MOST_NAMED = 5
EXAMPLES = 3
# A mix-up gives a row to two items and a placeholder is one row of many. Where so many different
# rows have three items or more, the rows are coarse or items have variants.
COARSE = 10


@dataclass(frozen=True)
class EqualItem:
    """One of several items with the same row.

    Attributes:
        score: how well the row fits this item's users, as in the list; NaN where unknown.
    """

    item: str
    title: str
    text: str
    score: float


@dataclass(frozen=True)
class EqualRows:
    """Items with the same row, bit for bit; the one whose users it fits least comes first."""

    items: tuple[EqualItem, ...]

    def as_plain(self) -> dict[str, Any]:
        """Return it as it stands in `audit.json`."""
        return {"items": [{"item": one.item, "score": one.score} for one in self.items]}


def equal_rows(
    groups: Sequence[NDArray[np.intp]],
    tokens: NDArray[np.str_],
    scores: NDArray[np.float64],
    contents: ItemContents,
) -> tuple[EqualRows, ...]:
    """Return the groups of a modality, that with the row that fits an item least first.

    Args:
        groups: places of items with the same row.
        tokens: of all items [N].
        scores: of the modality's rows [N].
    """

    def one(place: int) -> EqualItem:
        token = str(tokens[place])
        title, text = contents.titles.get(token, ""), contents.texts.get(token, "")
        return EqualItem(token, title, text, float(scores[place]))

    # lexsort puts NaN last.
    sorted_groups = [group[np.lexsort((tokens[group], scores[group]))] for group in groups]
    order = np.lexsort(
        (
            [tokens[group[0]] for group in sorted_groups],
            [scores[group[0]] for group in sorted_groups],
        )
    )
    return tuple(EqualRows(tuple(map(one, sorted_groups[place]))) for place in order)


def same_as(groups: Sequence[EqualRows]) -> dict[str, str]:
    """Return for each item with another's row that other's token, the one whose users it fits best.

    Of many items it says how many, as `63 items`.
    """
    found = {}
    for group in groups:
        count = len(group.items)
        known = [one for one in group.items if np.isfinite(one.score)] or list(group.items)
        for one in group.items:
            best = known[-1] if known[-1] is not one else group.items[0]
            found[one.item] = best.item if count <= MOST_NAMED else f"{count:,} items"
    return found


def coarse(modality: str, groups: Sequence[EqualRows], present: int) -> str:
    """Return the sentence in the place of a list of equal rows that are no mistakes, else empty.

    Args:
        present: items that have the modality.
    """
    if sum(len(group.items) > 2 for group in groups) < COARSE:
        return ""
    shared = sum(len(group.items) for group in groups)
    return (
        f"{clean(modality)}: {shared:,} of {present:,} items share their row, mostly not by "
        "mistake: they are variants, or the rows hold too little to tell items apart"
    )


def equal_table(
    modality: str, groups: Sequence[EqualRows], count: int, pictures: Mapping[str, str] | None
) -> Table:
    """Return the items that share a row with a few others; notes tell of rows that many share.

    Args:
        count: rows at most.
        pictures: by item token, for a page; None: for a terminal.
    """
    few = [group for group in groups if len(group.items) <= MOST_NAMED]
    shown = few[:count]
    several = any(len(group.items) > 2 for group in shown)

    def cells(first: EqualItem, second: EqualItem, *others: EqualItem) -> tuple[Cell, ...]:
        named = ", ".join(shorten(one.item, TITLE_SIGNS) for one in others)
        return (
            _shown(first, pictures),
            _shown(second, pictures),
            *([Cell(named)] * several),
            Cell(signed(first.score)),
            Cell(signed(second.score)),
        )

    headers = ("item", "same as", *(["and as"] * several), "score", "score of the other")
    rows = tuple(cells(*group.items) for group in shown)
    title = f"{clean(modality)}: the very same row twice"
    return Table(title, headers, rows, tuple(_notes(groups, few, count)), texts=("item", "same as"))


def _shown(one: EqualItem, pictures: Mapping[str, str] | None) -> Cell:
    if pictures is not None:
        return item_cell(one, pictures.get(one.item, ""))
    return Cell(" ".join(shorten(part, TITLE_SIGNS) for part in (one.item, one.title) if part))


def _notes(groups: Sequence[EqualRows], few: Sequence[EqualRows], count: int) -> Iterator[str]:
    if few:
        yield (
            "One of the two may have the other's content: look first at the one with the lower "
            "score. Products that are alike may share theirs."
        )
    if len(few) > count:
        yield f"{len(few) - count:,} more such rows are in audit.csv, column same_as."
    many = [group for group in groups if len(group.items) > MOST_NAMED]
    many.sort(key=lambda group: -len(group.items))
    for group in many[:EXAMPLES]:
        named = ", ".join(shorten(one.item, TITLE_SIGNS) for one in group.items[:EXAMPLES])
        yield f"{len(group.items):,} items share one row: {named}, ... A placeholder?"
    if len(many) > EXAMPLES:
        yield f"{len(many) - EXAMPLES:,} more rows are shared by more than {MOST_NAMED} items."
