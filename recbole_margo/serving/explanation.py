"""Why an item has its score: parts that add up to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recbole_margo.serving.bundle import Bundle

# Rows whose held-out test has a larger q-value show no sign that they belong to their item.
DOUBTFUL = 0.5


@dataclass(frozen=True)
class Contribution:
    """One part of a score.

    Attributes:
        name: a modality, `id`, or `score` where the model's score has no parts.
        value: what it adds to the score.
        share: its part of the sum of all absolute values, in [0, 1].
        weight: the item's weight of the modality, if the model has one.
        q_value: of the held-out test that the row belongs to the item, if it could be judged.
        missing: whether the item lacks the modality.
    """

    name: str
    value: float
    share: float
    weight: float | None = None
    q_value: float | None = None
    missing: bool = False

    @property
    def doubtful(self) -> bool:
        """Whether there is no sign that the row belongs to the item."""
        return self.q_value is not None and self.q_value > DOUBTFUL and not self.missing


@dataclass(frozen=True)
class Explanation:
    """The parts of a score.

    Attributes:
        user: raw id.
        item: raw id.
        title: the item's title, empty if it has none.
        score: the score, the sum of the contributions.
        seen: whether the user knows the item.
        contributions: one per part.
    """

    user: str
    item: str
    title: str
    score: float
    seen: bool
    contributions: tuple[Contribution, ...]

    def sentences(self) -> list[str]:
        """Return the explanation in words."""
        what = f"{self.title} ({self.item})" if self.title else self.item
        lines = [f"{what} has the score {self.score:.4f} for {self.user}."]
        for part in self.contributions:
            weight = "" if part.weight is None else f", weight {part.weight:.2f}"
            lack = ", which the item lacks" if part.missing else ""
            lines.append(f"{part.name}: {part.value:+.4f} ({part.share:.0%}{weight}){lack}")
        lines += [
            f"Caution: there is no sign that the {part.name} belongs to this item "
            f"(q = {part.q_value:.2f})."
            for part in self.contributions
            if part.doubtful
        ]
        return lines


def explain_score(bundle: Bundle, user: int, item: int) -> Explanation:
    r"""Split a score by the blocks of the tables.

    .. math:: r_{ui} = \sum_b \langle e_u^b, e_i^b \rangle

    For MARGO, a block is a modality with the item's weight in it: w_i^m r_ui^m.

    Args:
        bundle: the bundle.
        user: row of the user.
        item: row of the item.
    """
    products = np.asarray(bundle.users[user], np.float64) * bundle.items[item]
    blocks = bundle.facts.blocks
    values = [float(products[block.start : block.stop].sum()) for block in blocks]
    total = sum(map(abs, values)) or 1.0
    starts = bundle.seen_starts
    return Explanation(
        user=bundle.user_ids[user],
        item=bundle.item_ids[item],
        title=bundle.titles[item],
        score=sum(values),
        seen=item in bundle.seen_items[starts[user] : starts[user + 1]],
        contributions=tuple(
            _contribution(bundle, item, block.name, value, abs(value) / total)
            for block, value in zip(blocks, values, strict=True)
        ),
    )


def _contribution(bundle: Bundle, item: int, name: str, value: float, share: float) -> Contribution:
    reliability = bundle.reliability
    if reliability is None or name not in bundle.facts.modalities:
        return Contribution(name, value, share)
    m = bundle.facts.modalities.index(name)
    q_value = float(reliability.q_values[item, m])
    return Contribution(
        name,
        value,
        share,
        weight=float(reliability.weights[item, m]),
        q_value=None if math.isnan(q_value) else q_value,
        missing=not reliability.present[item, m],
    )
