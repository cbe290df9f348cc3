"""The catalogue audit as one page that an editor can read offline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recbole_margo.report import html
from recbole_margo.report.table import clean
from recbole_margo.studies.audit.tables import (
    audit_table,
    fixed,
    interval,
    percent,
    relations_table,
    shorten,
    stability_table,
    weights_table,
)

TEXT_SIGNS = 160
# The style of the pages makes every image as wide as the page.
THUMBNAIL = "width:auto;min-width:0;max-width:96px;max-height:96px;margin:0 auto"
ITEM = "min-width:14rem;max-width:28rem;white-space:normal;text-align:left"
LEFT = ' style="text-align:left"'
BAR_WIDTH, BAR_HEIGHT = 150, 16
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
UNSURE = {
    "least": "Pale bars: not a suspect.",
    "most": "Pale bars: not surely more reliable and contradicted less often than the average.",
}
CAPTIONS = {
    "weights": "Learned weights by model and modality. DRAGON's are shares of its user factors.",
    "relations": "Weights against popularity, length of the feature row and evidence. "
    "The line joins means of bins of items.",
    "evidence": "Reliability of each item against its number of training pairs; the dashed line is "
    "the average.",
}


def audit_page(
    summary: Mapping[str, Any], drawings: Mapping[str, bytes], thumbnails: Mapping[str, str]
) -> str:
    """Return the audit as an HTML page.

    Args:
        summary: what was found, see docs/audit.md.
        drawings: figures as SVG, of `weights`, `relations` and `evidence`.
        thumbnails: pictures by item token, as `data:` addresses.
    """
    audit = summary["audit"]
    body = list(html.facts(_facts(summary)))
    body += html.section(
        None,
        html.table(audit_table(audit)),
        html.notes([*MEANING[audit["ranked_by"]], *CAUTIONS]),
        _figure("evidence", drawings),
    )
    for part in audit["modalities"]:
        body += html.section(
            f"{clean(part['modality'])}: what to look at",
            _items(part, "least", thumbnails),
            _items(part, "most", thumbnails),
        )
    body += html.section("What was learned", _figure("weights", drawings))
    body += html.tables([weights_table(summary["models"])])
    body += _figure("relations", drawings)
    body += html.tables([relations_table(summary["relations"])])
    if summary["stability"]:
        body += html.tables([stability_table(summary["stability"])])
    return html.page(f"Catalogue audit of {clean(summary['dataset'])}", body)


def _facts(summary: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    settings = summary["settings"]
    yield "model", summary["label"]
    yield "seeds", ", ".join(map(str, summary["seeds"]))
    yield "modalities", ", ".join(summary["modalities"])
    yield "catalogue", f"{summary['audit']['items']:,} items"
    yield (
        "evidence",
        (
            f"{summary['audit']['pairs']:,} training pairs of user and item, each compared with "
            f"{settings['negatives']} random items that the user does not know"
        ),
    )
    yield "intervals", f"95 %, {settings['resamples']:,} resamples of each item's users"


def _figure(name: str, drawings: Mapping[str, bytes]) -> Iterator[str]:
    if name in drawings:
        yield from html.figure(drawings[name], CAPTIONS[name])
        yield from html.notes([CAPTIONS[name]])


def _items(part: Mapping[str, Any], which: str, thumbnails: Mapping[str, str]) -> Iterator[str]:
    rows = part[which]
    if not rows:
        yield from html.notes([f"No items to list as {which} reliable."])
        return
    title = f"{which.capitalize()} reliable {clean(part['modality'])}"
    pictures = any(row["item"] in thumbnails for row in rows)
    headers = [*["picture"] * pictures, "item", "reliability", "95 % interval"]
    headers += ["contradicted", "learned weight", "confidence", "training pairs"]
    yield f"<h3>{html.text(title)}</h3>"
    yield f'<div class="wide" role="region" aria-label="{html.text(title)}" tabindex="0">'
    yield "<table>"
    cells = (
        f'<th scope="col"{LEFT if header == "item" else ""}>{html.text(header)}</th>'
        for header in headers
    )
    yield f"<thead><tr>{''.join(cells)}</tr></thead><tbody>"
    for row in rows:
        yield _row(row, part["average"], thumbnails, pictures)
    yield "</tbody></table></div>"
    if not all(row["sure"] for row in rows):
        yield from html.notes([UNSURE[which]])


def _row(
    row: Mapping[str, Any], average: float, thumbnails: Mapping[str, str], pictures: bool
) -> str:
    cells = []
    if pictures:
        cells.append(f"<td>{_picture(row, thumbnails)}</td>")
    cells.append(f'<td style="{ITEM}">{_description(row)}</td>')
    shown = interval(row["low"], row["high"], fixed)
    spread = f" ± {row['weight_std']:.3f}" if row["weight_std"] == row["weight_std"] else ""
    against = interval(row["contradicted_low"], row["contradicted_high"], percent)
    numbers = (
        fixed(row["reliability"]),
        f"{_bar(row, average)}<br>{html.text(shown)}",
        f"{html.text(percent(row['contradicted']))}<br>{html.text(against)}",
        html.text(fixed(row["weight"]) + spread),
        fixed(row["confidence"]),
        f"{row['pairs']:,}",
    )
    return f"<tr>{''.join(cells)}{''.join(f'<td>{number}</td>' for number in numbers)}</tr>"


def _picture(row: Mapping[str, Any], thumbnails: Mapping[str, str]) -> str:
    address = thumbnails.get(row["item"])
    if address is None:
        return ""
    what = row["title"] or f"item {row['item']}"
    return f'<img style="{THUMBNAIL}" alt="{html.text(what)}" src="{html.text(address)}">'


def _description(row: Mapping[str, Any]) -> str:
    """Return title, token and the beginning of the text; what says the same is said once."""
    name = f"<b>{html.text(row['title'] or row['item'])}</b>"
    token = f' <span class="note">{html.text(row["item"])}</span>' if row["title"] else ""
    # Texts of items mostly begin with their titles.
    extra = shorten(clean(row["text"]).removeprefix(clean(row["title"])), TEXT_SIGNS)
    return f"{name}{token}" + (f'<br><span class="note">{html.text(extra)}</span>' if extra else "")


def _bar(row: Mapping[str, Any], average: float) -> str:
    """Return a drawing of the interval between 0 and 1, with the average as a dashed line."""

    def place(value: float) -> str:
        return f"{4 + value * (BAR_WIDTH - 8):.1f}"

    middle = BAR_HEIGHT / 2
    opacity = 1.0 if row["sure"] else 0.45
    low, high = place(row["low"]), place(row["high"])
    return (
        f'<svg width="{BAR_WIDTH}" height="{BAR_HEIGHT}" aria-hidden="true" stroke="currentColor" '
        f'fill="currentColor"><path d="M{place(0)} {middle}H{place(1)}" opacity=".25"/>'
        f'<path d="M{place(average)} 0V{BAR_HEIGHT}" stroke-dasharray="2 2"/>'
        f'<g opacity="{opacity}"><path d="M{low} {middle}H{high}" stroke-width="3"/>'
        f'<circle cx="{place(row["reliability"])}" cy="{middle}" r="3.5"/></g></svg>'
    )
