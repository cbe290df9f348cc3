"""The report of an audit: one document an editor can read offline, a table, numbers, figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from recbole_margo.output_folder import make_output_folder
from recbole_margo.report import (
    Document,
    Figure,
    Paragraphs,
    Part,
    Section,
    Table,
    clean,
    json_text,
    write_document,
)
from recbole_margo.studies.audit.figures import evidence_figure, relations_figure, weights_figure
from recbole_margo.studies.audit.item_contents import ItemContents
from recbole_margo.studies.audit.labelled_runs import audited_runs, labelled_runs
from recbole_margo.studies.audit.result import AuditResult, AuditSettings, audit_runs
from recbole_margo.studies.audit.tables import (
    audit_csv,
    catalogue_table,
    items_table,
    relations_table,
    stability_table,
    weights_table,
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
    "The lists say where to look first, not what is wrong: in a test with content swapped on "
    "purpose, three items in ten, about half of the first twenty were the swapped ones.",
)
CAPTIONS = {
    "weights": "Learned weights by model and modality. DRAGON's are shares of its user factors.",
    "relations": "Weights against popularity, length of the feature row and evidence. "
    "The line joins means of bins of items.",
    "evidence": "Reliability of each item against its number of training pairs; the dashed line is "
    "the average.",
}


def audit_folder(
    folder: str | Path,
    output_dir: str | Path | None = None,
    settings: AuditSettings | None = None,
    label: str | None = None,
    images: Path | None = None,
) -> AuditResult:
    """Show what the MARGO of a folder learned, and audit the catalogue with it.

    Args:
        folder: of one run, of a run of `train`, or of a comparison.
        output_dir: where the report goes; default `reliability` in the folder.
        settings: how; none: the defaults.
        label: of the runs that are audited; none: `MARGO`, or the only ones that can be.
        images: a folder of images named by item, or a table with their paths.

    Raises:
        RecBoleMargoError: if there is no such run, or its data have changed.
    """
    chosen = settings or AuditSettings()
    chosen.check()
    runs = labelled_runs(folder)
    name, audited = audited_runs(runs, label)
    # The cheap things that can be wrong come before the models.
    dataset = audited[0].dataset
    tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field][1:]]
    contents = ItemContents.find(audited[0].config, tokens, images)
    output = make_output_folder(Path(output_dir) if output_dir else Path(folder) / "reliability")
    result = audit_runs(runs, name, audited, contents, chosen)
    write_audit(output, result)
    return result


def write_audit(folder: Path, result: AuditResult) -> list[Path]:
    """Write everything that is shown of an audit; what is there already is replaced.

    Returns:
        The files: `audit.html`, `audit.md`, `audit.csv`, `reliability.json`, and figures as PNG and
        SVG.
    """
    listed = [row.item for part in result.modalities for row in (*part.least, *part.most)]
    document = audit_document(result, result.contents.thumbnails(listed))
    texts = {"audit.csv": audit_csv(result), "reliability.json": json_text(result.as_plain())}
    return write_document(folder, "audit", document, texts)


def audit_document(result: AuditResult, pictures: Mapping[str, str]) -> Document:
    """Return the audit as a document.

    Args:
        result: what was found.
        pictures: pictures by item token, as `data:` addresses.
    """
    figures = {
        name: Figure(name, CAPTIONS[name], partial(draw, result), (CAPTIONS[name],))
        for name, draw in (
            ("weights", weights_figure),
            ("relations", relations_figure),
            ("evidence", evidence_figure),
        )
    }
    notes = Paragraphs((*MEANING[result.catalogue.ranked_by], *CAUTIONS))
    sections = [Section(None, (catalogue_table(result), notes, figures["evidence"]))]
    for part in result.modalities:
        lists = tuple(_shown(items_table(part, which, pictures)) for which in ("least", "most"))
        sections.append(Section(f"{clean(part.modality)}: what to look at", lists))
    learned: list[Part] = [
        figures["weights"],
        weights_table(result.statistics),
        figures["relations"],
        relations_table(result.relations),
    ]
    if result.stability:
        learned.append(stability_table(result.stability))
    sections.append(Section("What was learned", tuple(learned)))
    title = f"Catalogue audit of {clean(result.dataset)}"
    return Document(title, tuple(_facts(result)), tuple(sections))


def _shown(table: Table) -> Part:
    return table if table.rows else Paragraphs(table.notes)


def _facts(result: AuditResult) -> Iterator[tuple[str, str]]:
    audit, settings = result.catalogue, result.settings
    yield "model", result.label
    yield "seeds", ", ".join(map(str, result.seeds))
    yield "modalities", ", ".join(audit.modalities)
    yield "catalogue", f"{len(audit.items):,} items"
    yield (
        "evidence",
        f"{audit.pairs.sum():,} training pairs of user and item, each compared with "
        f"{settings.negatives} random items that the user does not know",
    )
    yield "intervals", f"95 %, {settings.resamples:,} resamples of each item's users"
