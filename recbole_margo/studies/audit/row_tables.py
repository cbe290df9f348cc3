"""The answers of an audit in sentences and tables: which modality, which items, to what end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from recbole_margo.inspection.alignment import Verdict
from recbole_margo.report import NOTHING, Cell, Table, clean, shorten
from recbole_margo.studies.audit.audit import AuditResult, RowAudit, SuspiciousRow
from recbole_margo.studies.audit.tables import (
    TITLE_SIGNS,
    fixed,
    interval,
    item_cell,
    known,
    percent,
    signed,
)

HOW_TO_LIST = {
    Verdict.FITS: "Begin at the top, at the lowest score, and stop where the false alarms are more "
    "than you care to look at.",
    Verdict.WEAK: "The modality says little of most items: a row of this list need not be wrong.",
    Verdict.NO_SIGN: "All rows are in doubt, not these alone: look at the modality as a whole "
    "first.",
}


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
    rows = tuple(
        tuple(
            map(
                Cell,
                (
                    clean(part.modality),
                    part.verdict.value if part.verdict else NOTHING,
                    percent(part.fitting.estimate) if part.judged else NOTHING,
                    interval(part.fitting.low, part.fitting.high, percent)
                    if part.judged
                    else NOTHING,
                    percent(part.matching),
                    f"{part.judged:,} of {part.present:,}",
                ),
            )
        )
        for part in result.by_trouble
    )
    headers = ("modality", "verdict", "rows that fit", "95 % interval", "matching")
    notes = (
        "The verdict is on whether each row belongs to its item, however little it says. How much "
        "a modality says of what users take next is the verdict of recbole-margo inspect: rows "
        "that fit here may be weak but real there.",
    )
    return Table("Modalities", (*headers, "rows judged"), rows, notes, texts=("verdict",))


def repair_table(result: AuditResult) -> Table:
    """Return what is at stake in each modality."""
    rows = tuple(
        tuple(
            map(
                Cell,
                (
                    clean(part.modality),
                    f"{part.unrelated:,.0f}" if part.judged else NOTHING,
                    percent(part.interactions) if part.judged else NOTHING,
                    percent(part.matching),
                    percent(part.matching_repaired),
                    percent(part.matching_fitting),
                ),
            )
        )
        for part in result.by_trouble
    )
    headers: tuple[str, ...] = (
        "modality",
        "rows that say nothing",
        "of the interactions",
        "matching now",
    )
    headers += (f"with the first {result.settings.items} repaired", "of rows that fit")
    notes = (
        "Matching: how often a row fits its own item's users better than those of another item; "
        "50 % is guessing. A row that says nothing is wrong, or it is right and tells nothing of "
        "what users like.",
    )
    return Table("What is at stake", headers, rows, notes)


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
    titled = any(row.title for row in part.listed)
    rows = tuple(
        (
            Cell(shorten(row.item, TITLE_SIGNS)),
            *[Cell(shorten(row.title, TITLE_SIGNS))] * titled,
            *_numbers(row),
            *_same(part, row),
        )
        for row in part.listed[:count]
    )
    headers = ("item", *(("title",) * titled), *NUMBERS, *_same_header(part))
    return Table(_title(part), headers, rows, _notes(part))


def rows_table(result: AuditResult, part: RowAudit, pictures: Mapping[str, str]) -> Table:
    """Return the list of a modality for a page; what trained models say comes last.

    Args:
        result: the audit.
        part: one of its modalities.
        pictures: pictures by item token, as `data:` addresses.
    """
    learned = result.learned
    headers: tuple[str, ...] = ("item", *NUMBERS, *_same_header(part))
    if learned is not None:
        headers += ("reliability (trained)", "contradicted (trained)", "learned weight")
    column = result.rows.modalities.index(part.modality)

    def trained(row: SuspiciousRow) -> tuple[Cell, ...]:
        if learned is None:
            return ()
        audit = learned.catalogue
        value, low, high = (float(one[row.index]) for one in audit.reliability(column))
        against = float(audit.contradicted[row.index, column])
        weight = float(audit.weights[row.index, column])
        return (
            Cell(fixed(value), below=interval(low, high, fixed) if known(low) else ""),
            Cell(percent(against)),
            Cell(fixed(weight)),
        )

    rows = tuple(
        (
            item_cell(row, pictures.get(row.item, "")),
            *_numbers(row),
            *_same(part, row),
            *trained(row),
        )
        for row in part.listed
    )
    notes = _notes(part)
    if not rows:
        notes = (f"No item has a row and at least {result.settings.min_pairs} training users.",)
    return Table(_title(part), headers, rows, notes, texts=("item",))


NUMBERS = ("score", "fits others as well", "says nothing", "false alarms so far", "training users")


def _notes(part: RowAudit) -> tuple[str, ...]:
    return (HOW_TO_LIST[part.verdict],) if part.verdict else ()


def _title(part: RowAudit) -> str:
    return f"{clean(part.modality)}: the rows that fit least"


def _same_header(part: RowAudit) -> tuple[str, ...]:
    return ("same as",) if any(row.same_as for row in part.listed) else ()


def _same(part: RowAudit, row: SuspiciousRow) -> tuple[Cell, ...]:
    return (Cell(shorten(row.same_as, TITLE_SIGNS)),) if _same_header(part) else ()


def _numbers(row: SuspiciousRow) -> tuple[Cell, ...]:
    return (
        Cell(signed(row.score)),
        Cell(percent(row.p_value)),
        Cell(f"{row.unrelated:.0%}"),
        Cell(f"{row.false_alarms:.0%}"),
        Cell(f"{row.users:,}"),
    )
