"""The report of an audit: one document an editor can read offline, a table, numbers, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from recbole_margo.report import (
    Bullets,
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
from recbole_margo.studies.audit.audit import AuditResult
from recbole_margo.studies.audit.equal_rows import coarse, equal_table
from recbole_margo.studies.audit.figures import evidence_figure, relations_figure, weights_figure
from recbole_margo.studies.audit.item_csv import audit_csv
from recbole_margo.studies.audit.result import LearnedAudit
from recbole_margo.studies.audit.row_tables import (
    answers,
    modalities_table,
    quiet,
    repair_table,
    rows_table,
    short_table,
)
from recbole_margo.studies.audit.tables import (
    catalogue_table,
    items_table,
    least_reliable_table,
    relations_table,
    stability_table,
    weights_table,
)

METHOD = (
    "Every row is judged without itself: a regression on the other items predicts from the row "
    "who uses the item, and that is compared with who does. A row that was swapped cannot have "
    "bought its evidence by being trained on, because nothing is trained on it.",
    "Fits others as well: the share of the other items whose users the row fits as well as those "
    "of its own item. It is a p-value: uniform for a row that has nothing to do with its item.",
    "Says nothing: the probability that the row is such a one, from the distribution of all "
    "p-values of the modality (a local false discovery rate). False alarms so far: the mean "
    "probability that the rows up to this one fit after all, or the least such mean further down, "
    "so that it never falls. Where a modality as a whole is strong these are rows of other items; "
    "where it is weak, many right rows say nothing.",
    "Score: the mean of two, how well the prediction meets the item's users beyond those of "
    "others, and how much the row is like those of the other items of its users (neighbor "
    "agreement). It is about 0 for a row that has nothing to do with its item. The lists are "
    "ordered by it, the lowest first: neither of the two alone finds swapped rows better "
    "everywhere. Fits others as well and says nothing come from the first of the two alone and "
    "need not fall down the list.",
    "Rows that fit: one minus Storey's estimate of the share of rows that say nothing. Verdict: "
    "no sign that they belong if the interval reaches 5 % or below, fits from 50 % on, else weak "
    "but real.",
    "It knows users' choices alone: nothing can be said of an item without users, or whether a row "
    "is good; a row may fit by luck, and an item that is used for other reasons than its content "
    "may look wrong. Look at the item before you act.",
)
PROMISE = (
    "Rows that fit help most where a recommender has little else: new items and new users. Do not "
    "expect much of the ranking of well-known items, for which a trained model takes even a wrong "
    "row as the item's number. On Last.fm 2K, 30 % of all texts and 30 % of all audio rows wrong "
    "cost MARGO 6 % of its Recall@20; leaving those rows out did not bring it back. "
    "`recbole-margo robustness` measures it on your data.",
)
MEANING = {
    "evidence": (
        "Reliability is relative: for each item the modalities share 1. A low number says that "
        "another modality of the item explains better who bought, watched or liked it. It does not "
        "say that the content is bad, and a high one does not say that it is good: with two "
        "modalities, a poor text makes the image look reliable. Look at the item before you act.",
        "The absolute check is the column 'contradicted': how often the modality alone ranked the "
        "user's item below a random one that the user does not know. 50 % is guessing. An item "
        "whose every modality is often contradicted is liked for reasons that its content does not "
        "tell.",
    ),
    "contradicted": (
        "The model has one modality, so that there is nothing to weigh it against: reliability is "
        "the share of comparisons with a random unknown item that the modality alone decides for "
        "the user's item. 0.5 is guessing.",
    ),
}
CAUTIONS = (
    "Evidence comes from the training interactions, which the model has fitted: contradictions are "
    "rarer here than they would be for new users. Compare items with each other, not with 0 %.",
    "The suspects come first: items that are surely less reliable and surely contradicted more "
    "often than the average. All others follow. Both are ordered by the end of the 95 % interval "
    "that is nearer to the average, not by the number itself: an item with few users has a wide "
    "interval and does not come first by luck. Items with too few training pairs are not ranked; "
    "audit.csv has them too.",
    "The model has fitted the rows that it is asked about: with content of three items in ten "
    "swapped on purpose, about half of the first twenty by trained evidence were the swapped ones, "
    "and all of the first fifty texts of the list without a model.",
)
CAPTIONS = {
    "weights": "Learned weights by model and modality. DRAGON's are shares of its user factors.",
    "relations": "Weights against popularity, length of the feature row and evidence. "
    "The line joins means of bins of items.",
    "evidence": "Reliability of each item against its number of training pairs; the dashed line is "
    "the average.",
}


def write_audit(folder: Path, result: AuditResult) -> list[Path]:
    """Write everything that is shown of an audit; what is there already is replaced.

    Returns:
        The files: `audit.html`, `audit.md`, `audit.csv`, `audit.json`; of trained models
        `reliability.json`, and figures as PNG and SVG.
    """
    learned = result.learned
    listed = [row.item for part in result.modalities for row in part.listed]
    listed += [
        one.item
        for part in result.modalities
        for group in part.equal[: result.settings.items]
        for one in group.items[:2]
    ]
    if learned is not None:
        listed += [row.item for part in learned.modalities for row in (*part.least, *part.most)]
    document = audit_document(result, result.contents.thumbnails(listed))
    texts = {"audit.csv": audit_csv(result), "audit.json": json_text(result.as_plain())}
    if learned is not None:
        texts["reliability.json"] = json_text(learned.as_plain())
    return write_document(folder, "audit", document, texts)


def audit_document(result: AuditResult, pictures: Mapping[str, str]) -> Document:
    """Return the audit as a document that answers three questions.

    Args:
        result: what was found.
        pictures: pictures by item token, as `data:` addresses.
    """
    lists: list[Part] = []
    for part in result.by_trouble:
        if part.equal:
            said = coarse(part.modality, part.equal, part.present)
            table = _shown(equal_table(part.modality, part.equal, result.settings.items, pictures))
            lists.append(Fold(said, (table,)) if said else table)
    for part in result.by_trouble:
        table = _shown(rows_table(result, part, pictures))
        lists.append(Fold(quiet(part), (table,)) if quiet(part) else table)
    sections = [
        Section(
            "Which modality is in trouble?",
            (
                Bullets(tuple(answers(result))),
                modalities_table(result),
                Fold("How this is measured, and what it cannot tell", (Paragraphs(METHOD),)),
            ),
        ),
        Section("Which items to repair first?", tuple(lists)),
        Section("What would repairing change?", (repair_table(result), Paragraphs(PROMISE))),
    ]
    if result.learned is not None:
        sections.append(Section("What was learned", _learned(result.learned, pictures)))
    title = f"Catalogue audit of {clean(result.dataset)}"
    return Document(title, tuple(_facts(result)), tuple(sections))


def audit_sections(result: AuditResult, count: int) -> list[Section]:
    """Return the sections of an audit for a terminal.

    Args:
        count: items of a list at most.
    """
    parts = result.by_trouble
    lists: list[Part] = []
    for one in parts:
        if one.equal:
            said = coarse(one.modality, one.equal, one.present)
            table = _told(equal_table(one.modality, one.equal, count, None))
            lists.append(Paragraphs((f"{said}.",)) if said else table)
    lists += [
        Paragraphs((f"{quiet(one)}.",)) if quiet(one) else _told(short_table(one, count))
        for one in parts
    ]
    sections = [
        Section("Which modality is in trouble?", (Paragraphs(tuple(answers(result))),)),
        Section(None, (modalities_table(result),)),
        Section("Which items to repair first?", tuple(lists)),
        Section("What would repairing change?", (repair_table(result),)),
    ]
    learned = result.learned
    if learned is not None:
        tables = [weights_table(learned.statistics), relations_table(learned.relations)]
        tables += [stability_table(learned.stability)] if learned.stability else []
        tables.append(catalogue_table(learned))
        tables += [least_reliable_table(one, count) for one in learned.modalities]
        sections.append(Section("What was learned", tuple(map(_told, tables))))
    return sections


def _told(table: Table) -> Part:
    if table.rows:
        return table
    return Paragraphs((f"{table.title}: {' '.join(table.notes) or 'no item can be ranked'}",))


def _learned(result: LearnedAudit, pictures: Mapping[str, str]) -> tuple[Part, ...]:
    figures = {
        name: Figure(name, CAPTIONS[name], partial(draw, result), (CAPTIONS[name],))
        for name, draw in (
            ("weights", weights_figure),
            ("relations", relations_figure),
            ("evidence", evidence_figure),
        )
    }
    lists = tuple(
        _shown(items_table(part, which, pictures))
        for part in result.modalities
        for which in ("least", "most")
    )
    notes = Paragraphs((*MEANING[result.catalogue.ranked_by], *CAUTIONS))
    return (
        figures["weights"],
        weights_table(result.statistics),
        figures["relations"],
        relations_table(result.relations),
        *([stability_table(result.stability)] if result.stability else []),
        catalogue_table(result),
        figures["evidence"],
        Fold("What the trained evidence says, and what it does not", (notes,)),
        Fold("Items by trained evidence", lists),
    )


def _shown(table: Table) -> Part:
    return table if table.rows else Paragraphs((table.title, *table.notes))


def _facts(result: AuditResult) -> Iterator[tuple[str, str]]:
    rows, learned = result.rows, result.learned
    yield "modalities", ", ".join(map(clean, rows.modalities))
    yield "catalogue", f"{len(rows.items):,} items, {rows.users.sum():,} training interactions"
    yield "listed", f"items with at least {result.settings.min_pairs} training users"
    if learned is None:
        yield "model", "none is needed"
        return
    settings = learned.settings
    yield "model", f"{learned.label}, seeds {', '.join(map(str, learned.seeds))}"
    yield (
        "trained evidence",
        f"each training interaction compared with {settings.negatives} random items that the user "
        f"does not know; 95 % intervals, {settings.resamples:,} resamples of each item's users",
    )
