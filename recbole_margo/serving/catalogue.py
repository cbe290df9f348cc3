"""What a bundle says of its items: one item's facts, and the audit of the whole catalogue."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recbole_margo.serving.bundle import Bundle
from recbole_margo.serving.explanation import DOUBTFUL
from recbole_margo.serving.recommender import Recommender


@dataclass(frozen=True)
class ModalityOfItem:
    """What is known of one modality of an item.

    Attributes:
        name: the modality.
        present: whether the item has it.
        weight: the item's weight of it.
        q_value: of the held-out test that the row belongs to the item, if there was one.
    """

    name: str
    present: bool
    weight: float
    q_value: float | None

    @property
    def doubtful(self) -> bool:
        """Whether there is no sign that the row belongs to the item."""
        return self.present and self.q_value is not None and self.q_value > DOUBTFUL


@dataclass(frozen=True)
class ItemCard:
    """What is known of an item.

    Attributes:
        item: raw id.
        title: its title, empty if it has none.
        users: how many users know it.
        modalities: one each, none where the model does not weigh them.
    """

    item: str
    title: str
    users: int
    modalities: tuple[ModalityOfItem, ...]

    def as_plain(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class ModalityAudit:
    """How far one modality of a catalogue can be trusted.

    Attributes:
        name: the modality.
        items: how many items have it.
        mean_weight: their mean weight.
        doubtful: how many of them show no sign that the row belongs to the item; none where there
            was no test.
        least: the least reliable items, by q-value and then by weight.
    """

    name: str
    items: int
    mean_weight: float
    doubtful: int | None
    least: tuple[ItemCard, ...]

    def as_plain(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def item_card(recommender: Recommender, item: str) -> ItemCard:
    """Return what is known of an item.

    Args:
        recommender: of the bundle.
        item: raw id.

    Raises:
        UnknownIdError: the item is not known.
    """
    return _card(recommender.bundle, recommender.item_row(item))


def catalogue_audit(bundle: Bundle, n: int) -> tuple[ModalityAudit, ...]:
    """Return an audit of each modality, none where the model does not weigh them.

    Args:
        bundle: the bundle.
        n: how many of the least reliable items.
    """
    reliability = bundle.reliability
    if reliability is None:
        return ()
    found = []
    for m, name in enumerate(bundle.facts.modalities):
        rows = np.flatnonzero(reliability.present[:, m])
        weights = reliability.weights[rows, m]
        tested = len(reliability.q_values) > 0
        q_values = reliability.q_values[rows, m] if tested else np.zeros(len(rows))
        least = rows[np.lexsort((weights, -q_values))[:n]]
        found.append(
            ModalityAudit(
                name,
                len(rows),
                float(weights.mean()) if len(rows) else 0.0,
                int((q_values > DOUBTFUL).sum()) if tested else None,
                tuple(_card(bundle, int(row)) for row in least),
            )
        )
    return tuple(found)


def _card(bundle: Bundle, row: int) -> ItemCard:
    reliability = bundle.reliability
    modalities: tuple[ModalityOfItem, ...] = ()
    if reliability is not None:
        tested = len(reliability.q_values) > 0
        modalities = tuple(
            ModalityOfItem(
                name,
                bool(reliability.present[row, m]),
                float(reliability.weights[row, m]),
                float(reliability.q_values[row, m]) if tested else None,
            )
            for m, name in enumerate(bundle.facts.modalities)
        )
    users = int((bundle.seen_items == row).sum())
    return ItemCard(bundle.item_ids[row], bundle.titles[row], users, modalities)
