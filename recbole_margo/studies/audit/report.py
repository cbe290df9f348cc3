"""The report of an audit: one document an editor can read offline, a table, numbers, figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib import figure as matplotlib_figure
from numpy.typing import NDArray

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
    csv_text,
    json_text,
)
from recbole_margo.studies.audit.audit import AuditResult, same_as
from recbole_margo.studies.audit.figures import evidence_figure, relations_figure, weights_figure
from recbole_margo.studies.audit.result import LearnedAudit
from recbole_margo.studies.audit.row_tables import (
    answers,
    coarse,
    equal_table,
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
from recbole_margo.studies.runs.study import StudyReport

# Items of a list on a terminal.
PRINTED = 10
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
WHICH, FIRST = "Which modality is in trouble?", "Which items to repair first?"
CHANGE, LEARNED = "What would repairing change?", "What was learned"


def audit_report(result: AuditResult) -> StudyReport:
    """Return everything that is shown of an audit.

    Its files are `audit.html`, `audit.md`, `audit.csv`, `audit.json`; of trained models
    `reliability.json`, and figures as PNG and SVG.
    """
    learned = result.learned
    listed = [row.item for part in result.modalities for row in part.listed]
    listed += [
        one.item
        for part in result.modalities
        for group in part.equal[: result.settings.items]
        for one in group[:2]
    ]
    texts = {"audit.csv": audit_csv(result), "audit.json": json_text(result.as_plain())}
    if learned is not None:
        listed += [row.item for part in learned.modalities for row in (*part.least, *part.most)]
        texts["reliability.json"] = json_text(learned.as_plain())
    document = audit_document(result, result.contents.thumbnails(listed))
    return StudyReport("audit", document, texts, _printed(result))


def audit_document(result: AuditResult, pictures: Mapping[str, str]) -> Document:
    """Return the audit as a document that answers three questions.

    Args:
        pictures: `data:` addresses by item token.
    """
    state = (
        Bullets(tuple(answers(result))),
        modalities_table(result),
        Fold("How this is measured, and what it cannot tell", (Paragraphs(METHOD),)),
    )
    sections = [
        Section(WHICH, state),
        Section(FIRST, _lists(result, result.settings.items, pictures)),
        Section(CHANGE, (repair_table(result), Paragraphs(PROMISE))),
    ]
    if result.learned is not None:
        sections.append(Section(LEARNED, _learned(result.learned, pictures)))
    title = f"Catalogue audit of {clean(result.dataset)}"
    return Document(title, tuple(_facts(result)), tuple(sections))


def _printed(result: AuditResult) -> list[Section]:
    """Return the sections for a terminal."""
    sections = [
        Section(WHICH, (Paragraphs(tuple(answers(result))), modalities_table(result))),
        Section(FIRST, _lists(result, PRINTED, None)),
        Section(CHANGE, (repair_table(result),)),
    ]
    learned = result.learned
    if learned is not None:
        tables = (
            weights_table(learned.statistics),
            relations_table(learned.relations),
            *_stability(learned),
            catalogue_table(learned),
            *(least_reliable_table(one, PRINTED) for one in learned.modalities),
        )
        sections.append(Section(LEARNED, tuple(map(_shown, tables))))
    return sections


def _lists(result: AuditResult, count: int, pictures: Mapping[str, str] | None) -> tuple[Part, ...]:
    """Return the lists of rows, or the sentences in their place, which a page can unfold.

    Args:
        pictures: by item token, for a page; None: for a terminal.
    """

    def listed(said: str, table: Table) -> Part:
        if not said:
            return _shown(table)
        return Paragraphs((f"{said}.",)) if pictures is None else Fold(said, (_shown(table),))

    parts = result.by_trouble
    equal = (listed(coarse(one), equal_table(one, count, pictures)) for one in parts if one.equal)
    tables = (
        short_table(one, count) if pictures is None else rows_table(result, one, pictures)
        for one in parts
    )
    return (*equal, *(listed(quiet(one), table) for one, table in zip(parts, tables, strict=True)))


def _learned(result: LearnedAudit, pictures: Mapping[str, str]) -> tuple[Part, ...]:
    def figure(name: str, draw: Callable[[LearnedAudit], matplotlib_figure.Figure | None]) -> Part:
        return Figure(name, CAPTIONS[name], partial(draw, result), (CAPTIONS[name],))

    lists = tuple(
        _shown(items_table(part, which, pictures))
        for part in result.modalities
        for which in ("least", "most")
    )
    notes = Paragraphs((*MEANING[result.catalogue.ranked_by], *CAUTIONS))
    return (
        figure("weights", weights_figure),
        weights_table(result.statistics),
        figure("relations", relations_figure),
        relations_table(result.relations),
        *_stability(result),
        catalogue_table(result),
        figure("evidence", evidence_figure),
        Fold("What the trained evidence says, and what it does not", (notes,)),
        Fold("Items by trained evidence", lists),
    )


def _stability(result: LearnedAudit) -> tuple[Table, ...]:
    return (stability_table(result.stability),) if result.stability else ()


def _shown(table: Table) -> Part:
    """Return a table, or in the place of an empty one its notes."""
    notes = " ".join(table.notes) or "no item can be ranked"
    return table if table.rows else Paragraphs((f"{table.title}: {notes}",))


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


def audit_csv(result: AuditResult) -> str:
    """Return one row per item and modality; an unknown number is an empty cell."""
    rows, titles = result.rows, result.contents.titles
    columns = {} if result.learned is None else _learned_columns(result.learned)
    columns |= _row_columns(result)
    found = (
        (
            clean(token),
            clean(titles.get(str(token), "")),
            clean(modality),
            int(rows.present[item, index]),
            *(_number(column[item, index]) for column in columns.values()),
        )
        for item, token in enumerate(rows.items)
        for index, modality in enumerate(rows.modalities)
    )
    return csv_text(("item", "title", "modality", "present", *columns), found)


def _learned_columns(result: LearnedAudit) -> dict[str, NDArray[Any]]:
    """Return what trained models say of each item and modality [N, M], by column of the CSV."""
    audit, rankings = result.catalogue, result.rankings
    shape = audit.present.shape
    return {
        "weight": audit.weights,
        "weight_std": audit.weight_deviations,
        "pairs": _of_items(audit.pairs, shape),
        "triplets": _of_items(audit.triplets.astype(int), shape),
        "confidence": _of_items(audit.confidence, shape),
        "evidence": audit.evidence,
        "evidence_low": audit.evidence_low,
        "evidence_high": audit.evidence_high,
        "contradicted": audit.contradicted,
        "contradicted_low": audit.contradicted_low,
        "contradicted_high": audit.contradicted_high,
        "feature_norm": result.norms,
        "suspect": np.stack([one.suspect for one in rankings], axis=1).astype(int),
        "least_reliable_rank": _ranks([one.least for one in rankings], shape),
        "most_reliable_rank": _ranks([one.most for one in rankings], shape),
    }


def _row_columns(result: AuditResult) -> dict[str, NDArray[Any]]:
    """Return the evidence of the rows [N, M], by column of the CSV."""
    rows = result.rows
    shape, indices = rows.present.shape, range(len(rows.modalities))
    place = {str(token): item for item, token in enumerate(rows.items)}
    same, sharing = np.full(shape, "", object), np.full(shape, "", object)
    sharing[rows.present] = 1
    for index, part in enumerate(result.modalities):
        for token, other in same_as(part.equal).items():
            same[place[token], index] = clean(other)
        for group in rows.equal[index]:
            sharing[group, index] = len(group)
    return {
        "training_users": _of_items(rows.users, shape),
        "held_out_score": rows.scores,
        "held_out_z": rows.content,
        "p_value": rows.p_values,
        "q_value": rows.q_values,
        "says_nothing": rows.unrelated,
        "repair_rank": _ranks(
            [rows.order(index, result.settings.min_pairs) for index in indices], shape
        ),
        "same_as": same,
        "same_row_items": sharing,
    }


def _of_items(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return np.broadcast_to(values[:, np.newaxis], shape)


def _ranks(orders: Sequence[NDArray[np.intp]], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the rank from 1 of what each modality's order holds, empty for others."""
    ranks = np.full(shape, "", object)
    for index, order in enumerate(orders):
        ranks[order, index] = np.arange(1, len(order) + 1)
    return ranks


def _number(value: Any) -> Any:
    if isinstance(value, np.floating) and not np.isfinite(value):
        return ""
    # Deviations over seeds are of single precision, and written in full.
    return f"{value:.6g}" if isinstance(value, float) else value
