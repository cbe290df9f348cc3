"""The items of a bundle: one item's facts, and the audit of the whole catalogue."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recbole_margo.serving.bundle import Bundle
from recbole_margo.serving.explanation import DOUBTFUL, fitting_of
from recbole_margo.serving.recommender import Recommender

# Items whom fewer users know are not judged.
MIN_USERS = 5


@dataclass(frozen=True)
class ModalityOfItem:
    """One modality of an item.

    Attributes:
        q_value: of the held-out test that the row belongs to the item, if the item can be judged.
        score: the held-out score, about 0 for a row that has nothing to do with its item.
    """

    name: str
    present: bool
    weight: float
    q_value: float | None
    score: float | None = None

    @property
    def doubtful(self) -> bool:
        """Whether there is no sign that the row belongs to the item."""
        return self.present and self.q_value is not None and self.q_value > DOUBTFUL


@dataclass(frozen=True)
class ItemCard:
    """The facts of an item.

    Attributes:
        title: its title, empty if it has none.
        users: how many users know it.
        modalities: one each, none where the model does not weigh them.
    """

    item: str
    title: str
    users: int
    modalities: tuple[ModalityOfItem, ...]
    thumbnail: bool


@dataclass(frozen=True)
class ModalityAudit:
    """How far one modality of a catalogue can be trusted.

    Attributes:
        items: how many items have it.
        judged: how many of them have enough users to be judged.
        doubtful: how many of these show no sign that the row belongs to the item, each by itself;
            `fitting` estimates how many there are.
        least: the least reliable of these, the lowest held-out score first.
        fitting: share of the rows that fit their items and the ends of its 95 % interval, as
            `recbole-margo audit` estimates it; None in bundles that do not have it.
    """

    name: str
    items: int
    mean_weight: float
    judged: int
    doubtful: int
    least: tuple[ItemCard, ...]
    fitting: tuple[float, float, float] | None = None

    @property
    def is_doubtful(self) -> bool:
        """Whether most of the rows that can be judged show no sign that they belong."""
        return 2 * self.doubtful > self.judged


class Catalogue:
    """The items of a bundle; what is computed of all is computed once."""

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender
        self.bundle: Bundle = recommender.bundle

    @cached_property
    def users(self) -> NDArray[np.intp]:
        """How many users know each item [I]."""
        return np.bincount(self.bundle.seen_items, minlength=len(self.bundle.item_ids))

    def card(self, item: str) -> ItemCard:
        """Return what is known of an item; an `UnknownIdError` if nothing is."""
        return self._card(self.recommender.item_row(item))

    def thumbnail(self, row: int) -> bytes:
        """Return the JPEG file of an item, given by row, empty if it has none."""
        return b"" if self.bundle.thumbnails is None else self.bundle.thumbnails.of(row)

    def audit(self, n: int) -> tuple[ModalityAudit, ...]:
        """Return an audit of each modality, none where the model does not weigh them."""
        return tuple(
            replace(part, least=tuple(self._card(int(row)) for row in rows[:n]))
            for part, rows in self._parts
        )

    @cached_property
    def doubtful_modalities(self) -> tuple[str, ...]:
        """Names of the modalities most of whose rows show no sign that they belong."""
        return tuple(part.name for part, _ in self._parts if part.is_doubtful)

    @cached_property
    def _parts(self) -> tuple[tuple[ModalityAudit, NDArray[np.intp]], ...]:
        """Audits without items, and the rows of items that can be judged, the worst first."""
        reliability = self.bundle.reliability
        if reliability is None:
            return ()
        found = []
        for m, name in enumerate(self.bundle.facts.modalities):
            present, scores = reliability.present[:, m], reliability.scores[:, m]
            judged = np.flatnonzero(present & ~np.isnan(scores) & (self.users >= MIN_USERS))
            weights = reliability.weights[present, m]
            part = ModalityAudit(
                name,
                items=int(present.sum()),
                mean_weight=float(weights.mean()) if len(weights) else 0.0,
                judged=len(judged),
                doubtful=int((reliability.q_values[judged, m] > DOUBTFUL).sum()),
                least=(),
                fitting=fitting_of(reliability, m),
            )
            found.append((part, judged[np.argsort(scores[judged], kind="stable")]))
        return tuple(found)

    def _card(self, row: int) -> ItemCard:
        bundle, reliability = self.bundle, self.bundle.reliability
        modalities: tuple[ModalityOfItem, ...] = ()
        if reliability is not None:
            modalities = tuple(
                ModalityOfItem(
                    name,
                    bool(reliability.present[row, m]),
                    float(reliability.weights[row, m]),
                    _number(reliability.q_values[row, m]),
                    _number(reliability.scores[row, m]),
                )
                for m, name in enumerate(bundle.facts.modalities)
            )
        return ItemCard(
            bundle.item_ids[row],
            bundle.titles[row],
            int(self.users[row]),
            modalities,
            bool(self.thumbnail(row)),
        )


def _number(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(value)
