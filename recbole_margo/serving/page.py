"""The pages of the service: recommendations as cards, and the audit of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import jinja2

from recbole_margo.errors import UnknownIdError
from recbole_margo.report.document import shorten
from recbole_margo.serving.bundle import Bundle
from recbole_margo.serving.catalogue import MIN_USERS, Catalogue
from recbole_margo.serving.explanation import HISTORY, Explanation, Reason

SHOWN_HISTORY, SUGGESTED_USERS, FOUND_USERS, EXAMPLE_USERS = 30, 200, 20, 8
TITLE_CHARACTERS, SHOWN_REASONS = 200, 2


@dataclass(frozen=True)
class Card:
    """An item as it is shown.

    Attributes:
        name: its title, or its raw id.
        explanation: the parts of its score, of a recommended item.
    """

    item: str
    name: str
    pictured: bool
    explanation: Explanation | None = None

    @property
    def doubtful(self) -> tuple[str, ...]:
        """Names of the modalities that show no sign that they belong to the item."""
        parts = self.explanation.contributions if self.explanation else ()
        return tuple(part.name for part in parts if part.doubtful)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """The largest reasons of the score, and the largest of single items of the history."""
        found = self.explanation.reasons if self.explanation else ()
        of_items = [reason for reason in found if reason.source == HISTORY]
        shown = (*found[:SHOWN_REASONS], *of_items[:SHOWN_REASONS])
        return tuple(reason for reason in found if reason in shown)


@dataclass(frozen=True)
class UserView:
    """The content of the page of a user.

    Attributes:
        user: raw id; empty: nobody yet.
        n: length of the list that was asked for.
        found: users whose id holds that of a user who is not known.
        history: items that the user knows, the first of them.
        cards: what is recommended.
    """

    user: str
    n: int
    known: bool = False
    found: tuple[str, ...] = ()
    history: tuple[Card, ...] = ()
    more_history: int = 0
    cards: tuple[Card, ...] = ()


def user_page(catalogue: Catalogue, user: str, n: int) -> tuple[str, int]:
    """Return the page of a user, by raw id, empty for nobody yet; and its HTTP status."""
    bundle = catalogue.bundle
    view = _view(catalogue, user, n)
    page = _rendered(
        "users.html.jinja",
        bundle,
        **vars(view),
        parts=[block.name for block in bundle.facts.blocks],
        wholly_doubtful=catalogue.doubtful_modalities,
        suggested=bundle.user_ids[:SUGGESTED_USERS],
        examples=bundle.user_ids[:EXAMPLE_USERS],
    )
    return page, 404 if user and not view.known else 200


def _view(catalogue: Catalogue, user: str, n: int) -> UserView:
    recommender, bundle = catalogue.recommender, catalogue.bundle
    if not user:
        return UserView(user, n)
    try:
        seen = recommender.seen(recommender.user_row(user))
    except UnknownIdError:
        like = (known for known in bundle.user_ids if user.casefold() in known.casefold())
        return UserView(user, n, found=tuple(islice(like, FOUND_USERS)))
    ranked = recommender.recommend([user], min(n, len(bundle.item_ids)))[0].items
    return UserView(
        user,
        n,
        known=True,
        history=tuple(_card(catalogue, int(item)) for item in seen[:SHOWN_HISTORY]),
        more_history=max(len(seen) - SHOWN_HISTORY, 0),
        cards=tuple(
            _card(catalogue, recommender.item_row(one.item), recommender.explain(user, one.item))
            for one in ranked
        ),
    )


def catalogue_page(catalogue: Catalogue, n: int, nonce: str) -> str:
    """Return the page with the audit of the catalogue, the most doubtful modality first.

    Args:
        n: items of each modality.
        nonce: without which the browser runs no script of the page.
    """
    audit = sorted(catalogue.audit(n), key=lambda part: -part.doubtful / max(part.judged, 1))
    shown = {"audit": audit, "nonce": nonce, "least_users": MIN_USERS}
    return _rendered("catalogue.html.jinja", catalogue.bundle, **shown)


def shown_text(text: str) -> str:
    """Return a text of others on one line, without control or direction characters."""
    return shorten(text, TITLE_CHARACTERS)


def _card(catalogue: Catalogue, row: int, explanation: Explanation | None = None) -> Card:
    bundle = catalogue.bundle
    name = shown_text(bundle.titles[row]) or shown_text(bundle.item_ids[row])
    return Card(bundle.item_ids[row], name, bool(catalogue.thumbnail(row)), explanation)


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("recbole_margo.serving"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["shown"] = shown_text
    return environment


def _rendered(template: str, bundle: Bundle, **values: Any) -> str:
    pictures = bundle.thumbnails is not None
    return (
        _templates().get_template(template).render(facts=bundle.facts, pictures=pictures, **values)
    )
