"""The answers of an audit in sentences and tables: which modality, which items, to what end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from recbole_margo.inspection.alignment import Verdict
from recbole_margo.report import NOTHING, Cell, Columns, Table, cells, clean, shorten
from recbole_margo.studies.audit.audit import (
    MOST_NAMED,
    AuditResult,
    EqualItem,
    RowAudit,
    SuspiciousRow,
)
from recbole_margo.studies.audit.tables import (
    TITLE_SIGNS,
    fixed,
    interval,
    item_cell,
    known,
    percent,
    short_names,
    signed,
)

HOW_TO_LIST = {
    Verdict.FITS: "Begin at the top, at the lowest score, and stop where the false alarms are more "
    "than you care to look at.",
    Verdict.WEAK: "The modality says little of most items: a row of this list need not be wrong.",
    Verdict.NO_SIGN: "All rows are in doubt, not these alone: look at the modality as a whole "
    "first.",
}
EXAMPLES = 3
# A mix-up gives a row to two items and a placeholder is one row of many. Where so many different
# rows have three items or more, the rows are coarse or items have variants.
COARSE = 10


def answers(result: AuditResult) -> Iterator[str]:
    """Yield a sentence about each modality, those in trouble first."""
    for part in result.by_trouble:
        name = clean(part.modality)
        share = f"{part.fitting.estimate:.0%} of its rows fit the users of their items"
        yield {
            Verdict.FITS: f"{name} fits: {share}.",
            Verdict.WEAK: f"{name} is weak but real: {share}; of the others nothing can be said.",
            Verdict.NO_SIGN: f"{name}: no sign that its rows belong to their items. Were they made "
            "for other ids, in another order, or from the wrong source?",
            None: f"{name}: {part.judged:,} of its rows can be judged, too few to say anything of "
            "the whole.",
        }[part.verdict]


def modalities_table(result: AuditResult) -> Table:
    """Return the state of each modality as a whole."""

    def ends(part: RowAudit) -> str:
        return interval(part.fitting.low, part.fitting.high, percent) if part.judged else NOTHING

    columns: Columns[RowAudit] = {
        "modality": lambda part: clean(part.modality),
        "verdict": lambda part: part.verdict.value if part.verdict else NOTHING,
        "rows that fit": lambda part: percent(part.fitting.estimate) if part.judged else NOTHING,
        "95 % interval": ends,
        "matching": lambda part: percent(part.matching),
        "rows judged": lambda part: f"{part.judged:,} of {part.present:,}",
    }
    note = (
        "The verdict is on whether each row belongs to its item, however little it says. How much "
        "a modality says of what users take next is the verdict of recbole-margo inspect: rows "
        "that fit here may be weak but real there."
    )
    return Table.of("Modalities", result.by_trouble, columns, (note,), texts=("verdict",))


def repair_table(result: AuditResult) -> Table:
    """Return what is at stake in each modality."""
    columns: Columns[RowAudit] = {
        "modality": lambda part: clean(part.modality),
        "rows that say nothing": lambda p: f"{p.unrelated:,.0f}" if p.judged else NOTHING,
        "of the interactions": lambda p: percent(p.interactions) if p.judged else NOTHING,
        "matching now": lambda part: percent(part.matching),
        f"with the first {result.settings.items} repaired": lambda p: percent(p.matching_repaired),
        "of rows that fit": lambda part: percent(part.matching_fitting),
    }
    note = (
        "Matching: how often a row fits its own item's users better than those of another item; "
        "50 % is guessing. A row that says nothing is wrong, or it is right and tells nothing of "
        "what users like."
    )
    return Table.of("What is at stake", result.by_trouble, columns, (note,))


def quiet(part: RowAudit) -> str:
    """Return the sentence in the place of a list in which no row stands out, empty if one does."""
    if part.stands_out or not part.listed:
        return ""
    return (
        f"{clean(part.modality)}: no row stands out; those that fit least fit after all, as far as "
        "can be told"
    )


def short_table(part: RowAudit, count: int) -> Table:
    """Return the first rows of a list, for a terminal."""
    columns: Columns[SuspiciousRow] = {**short_names(part.listed), **_numbers(part)}
    return Table.of(_title(part), part.listed[:count], columns, _notes(part))


def rows_table(result: AuditResult, part: RowAudit, pictures: Mapping[str, str]) -> Table:
    """Return the list of a modality for a page; what trained models say comes last.

    Args:
        pictures: `data:` addresses by item token.
    """
    columns: Columns[SuspiciousRow] = {
        "item": lambda row: item_cell(row, pictures),
        **_numbers(part),
        **_trained(result, part),
    }
    notes = _notes(part)
    if not part.listed:
        notes = (f"No item has a row and at least {result.settings.min_pairs} training users.",)
    return Table.of(_title(part), part.listed, columns, notes, texts=("item",))


def _numbers(part: RowAudit) -> Columns[SuspiciousRow]:
    columns: Columns[SuspiciousRow] = {
        "score": lambda row: signed(row.score),
        "fits others as well": lambda row: percent(row.p_value),
        "says nothing": lambda row: f"{row.unrelated:.0%}",
        "false alarms so far": lambda row: f"{row.false_alarms:.0%}",
        "training users": lambda row: f"{row.users:,}",
    }
    if not any(row.same_as for row in part.listed):
        return columns
    return {**columns, "same as": lambda row: shorten(row.same_as, TITLE_SIGNS)}


def _trained(result: AuditResult, part: RowAudit) -> Columns[SuspiciousRow]:
    if result.learned is None:
        return {}
    audit, column = result.learned.catalogue, result.rows.modalities.index(part.modality)
    value, low, high = audit.reliability(column)

    def reliability(row: SuspiciousRow) -> Cell:
        at = row.index
        ends = interval(low[at], high[at], fixed) if known(low[at]) else ""
        return Cell(fixed(value[at]), below=ends)

    return {
        "reliability (trained)": reliability,
        "contradicted (trained)": lambda row: percent(audit.contradicted[row.index, column]),
        "learned weight": lambda row: fixed(audit.weights[row.index, column]),
    }


def _notes(part: RowAudit) -> tuple[str, ...]:
    return (HOW_TO_LIST[part.verdict],) if part.verdict else ()


def _title(part: RowAudit) -> str:
    return f"{clean(part.modality)}: the rows that fit least"


def coarse(part: RowAudit) -> str:
    """Return the sentence in the place of a list of equal rows that are no mistakes, else empty."""
    if sum(len(group) > 2 for group in part.equal) < COARSE:
        return ""
    return (
        f"{clean(part.modality)}: {sum(map(len, part.equal)):,} of {part.present:,} items share "
        "their row, mostly not by mistake: they are variants, or the rows hold too little to tell "
        "items apart"
    )


def equal_table(part: RowAudit, count: int, pictures: Mapping[str, str] | None) -> Table:
    """Return the items that share a row with a few others; notes tell of rows that many share.

    Args:
        count: rows at most.
        pictures: by item token, for a page; None: for a terminal.
    """
    few = [group for group in part.equal if len(group) <= MOST_NAMED]
    several = any(len(group) > 2 for group in few[:count])

    def named(one: EqualItem) -> Cell:
        if pictures is not None:
            return item_cell(one, pictures)
        return Cell(" ".join(shorten(each, TITLE_SIGNS) for each in (one.item, one.title) if each))

    rows = tuple(
        cells(
            named(first),
            named(second),
            *([_listed(others)] if several else []),
            signed(first.score),
            signed(second.score),
        )
        for first, second, *others in few[:count]
    )
    headers = ("item", "same as", *(["and as"] * several), "score", "score of the other")
    title = f"{clean(part.modality)}: the very same row twice"
    notes = tuple(_equal_notes(part, few, count))
    return Table(title, headers, rows, notes, texts=("item", "same as"))


def _listed(items: Sequence[EqualItem]) -> str:
    return ", ".join(shorten(one.item, TITLE_SIGNS) for one in items)


def _equal_notes(part: RowAudit, few: Sequence[object], count: int) -> Iterator[str]:
    if few:
        yield (
            "One of the two may have the other's content: look first at the one with the lower "
            "score. Products that are alike may share theirs."
        )
    if len(few) > count:
        yield f"{len(few) - count:,} more such rows are in audit.csv, column same_as."
    many = sorted((group for group in part.equal if len(group) > MOST_NAMED), key=len, reverse=True)
    for group in many[:EXAMPLES]:
        named = _listed(group[:EXAMPLES])
        yield f"{len(group):,} items share one row: {named}, ... A placeholder?"
    if len(many) > EXAMPLES:
        yield f"{len(many) - EXAMPLES:,} more rows are shared by more than {MOST_NAMED} items."
