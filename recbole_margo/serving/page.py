"""The pages of the service: recommendations as cards, and the audit of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2

from recbole_margo.errors import UnknownIdError
from recbole_margo.report.table import shorten
from recbole_margo.serving.bundle import Bundle
from recbole_margo.serving.catalogue import Catalogue
from recbole_margo.serving.explanation import Explanation

SHOWN_HISTORY, SUGGESTED_USERS = 30, 200
TITLE_CHARACTERS = 200


@dataclass(frozen=True)
class Card:
    """A recommended item.

    Attributes:
        rank: from 1.
        name: its title, or its raw id.
        explanation: the parts of its score.
    """

    rank: int
    name: str
    explanation: Explanation

    @property
    def doubtful(self) -> tuple[str, ...]:
        """Names of the modalities that show no sign that they belong to the item."""
        return tuple(part.name for part in self.explanation.contributions if part.doubtful)


def user_page(catalogue: Catalogue, user: str, n: int) -> tuple[str, int]:
    """Return the page of a user, and its HTTP status.

    Args:
        catalogue: of the bundle.
        user: raw id; empty: nobody yet.
        n: how many recommendations.
    """
    recommender, bundle = catalogue.recommender, catalogue.bundle
    shown: dict[str, Any] = {"user": user, "message": "", "history": [], "cards": []}
    status = 200
    if user:
        try:
            row = recommender.user_row(user)
        except UnknownIdError:
            shown["message"], status = "No user of this model has that id.", 404
        else:
            known = recommender.seen(row)
            shown["history"] = [name_of(bundle, int(item)) for item in known[:SHOWN_HISTORY]]
            shown["more"] = max(len(known) - SHOWN_HISTORY, 0)
            ranked = recommender.recommend([user], min(n, len(bundle.item_ids)))[0].items
            shown["cards"] = [
                Card(
                    rank,
                    name_of(bundle, recommender.item_row(one.item)),
                    recommender.explain(user, one.item),
                )
                for rank, one in enumerate(ranked, start=1)
            ]
    shown["parts"] = [block.name for block in bundle.facts.blocks]
    shown["wholly_doubtful"] = catalogue.doubtful_modalities
    shown["suggested"] = bundle.user_ids[:SUGGESTED_USERS]
    return _rendered("users.html.jinja", bundle, **shown), status


def catalogue_page(catalogue: Catalogue, n: int) -> str:
    """Return the page with the audit of the catalogue.

    Args:
        catalogue: of the bundle.
        n: items of each modality.
    """
    return _rendered("catalogue.html.jinja", catalogue.bundle, audit=catalogue.audit(n))


def name_of(bundle: Bundle, row: int) -> str:
    """Return an item's title, or its raw id, without control characters and not too long."""
    return shown_text(bundle.titles[row] or bundle.item_ids[row])


def shown_text(text: str) -> str:
    """Return a text of others on one line, without control or direction characters."""
    return shorten(text, TITLE_CHARACTERS)


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
    return _templates().get_template(template).render(facts=bundle.facts, **values)
