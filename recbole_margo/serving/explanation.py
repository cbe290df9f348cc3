"""Why an item has its score: parts that add up to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recbole_margo.serving.bundle import Bundle, ModalityReliability

# Rows whose held-out test has a larger q-value show no sign that they belong to their item.
DOUBTFUL = 0.5
HISTORY, TASTE, ALIKE = "history", "taste", "users alike"
# Reasons that are put into words.
SPOKEN = 3


@dataclass(frozen=True)
class Contribution:
    """One part of a score.

    Attributes:
        name: a modality, `id`, or `score` where the model's score has no parts.
        share: its part of the sum of all absolute values, in [0, 1].
        weight: the item's weight of the modality, if the model has one.
        q_value: of the held-out test that the row belongs to the item, if it could be judged.
        missing: whether the item lacks the modality.
        fitting: share of the modality's rows that fit their items, and the ends of its 95 %
            interval, if it was measured.
    """

    name: str
    value: float
    share: float
    weight: float | None = None
    q_value: float | None = None
    missing: bool = False
    fitting: tuple[float, float, float] | None = None

    @property
    def doubtful(self) -> bool:
        """Whether there is no sign that the row belongs to the item."""
        return self.q_value is not None and self.q_value > DOUBTFUL and not self.missing


@dataclass(frozen=True)
class Reason:
    """One part of a score by where it comes from, of backbones that are linear in a history.

    Attributes:
        source: `history`, of one item of the user's; `taste`, of the user's own embedding; or
            `users alike`, of what these know and the user does not.
        share: its part of the sum of all absolute values of reasons.
        item: raw id of the item of the history.
    """

    name: str
    source: str
    value: float
    share: float
    item: str = ""
    title: str = ""

    def words(self) -> str:
        """Return where it comes from, in words."""
        if self.source != HISTORY:
            return f"{self.source}, {self.name}"
        what = f"{self.title} ({self.item})" if self.title else self.item
        return f"because of {what}, {self.name}"


@dataclass(frozen=True)
class Explanation:
    """The parts of a score.

    Attributes:
        title: the item's title, empty if it has none.
        score: the score, the sum of the contributions.
        reasons: the same sum by item of the history and part, the largest first; empty where the
            model is not linear in a history.
    """

    user: str
    item: str
    title: str
    score: float
    seen: bool
    contributions: tuple[Contribution, ...]
    reasons: tuple[Reason, ...] = ()

    def as_plain(self) -> dict[str, Any]:
        """Return the fields as plain values, and which contributions are doubtful."""
        plain = asdict(self)
        for part, shown in zip(self.contributions, plain["contributions"], strict=True):
            shown["doubtful"] = part.doubtful
        return plain

    def sentences(self) -> list[str]:
        """Return the explanation in words."""
        what = f"{self.title} ({self.item})" if self.title else self.item
        lines = [f"{what} has the score {self.score:.4f} for {self.user}."]
        for part in self.contributions:
            weight = "" if part.weight is None else f", weight {part.weight:.2f}"
            lines.append(
                f"{part.name}: lacks"
                if part.missing
                else f"{part.name}: {part.value:+.4f} ({part.share:.0%}{weight})"
            )
        if self.reasons:
            lines.append("The same score by where it comes from, the largest parts:")
        lines += [
            f"{reason.words()}: {reason.value:+.4f} ({reason.share:.0%})"
            for reason in self.reasons[:SPOKEN]
        ]
        for part in self.contributions:
            if part.doubtful:
                rows = ""
                if part.fitting is not None:
                    share, low, high = part.fitting
                    rows = f"; {share:.0%} of all rows fit, 95 % interval {low:.0%} to {high:.0%}"
                lines.append(
                    f"Caution, {part.name}: there is no sign that its row belongs to this item "
                    f"(q = {part.q_value:.2f}{rows})."
                )
        return lines


def explain_score(bundle: Bundle, user: int, item: int) -> Explanation:
    r"""Split a score by the blocks of the tables.

    .. math:: r_{ui} = \sum_b \langle e_u^b, e_i^b \rangle

    For MARGO, a block is a modality with the item's weight in it: w_i^m r_ui^m.
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
        reasons=_reasons(bundle, user, item, values),
    )


def _reasons(bundle: Bundle, user: int, item: int, values: Sequence[float]) -> tuple[Reason, ...]:
    parts = bundle.history
    if parts is None:
        return ()
    edges = slice(*parts.starts[user : user + 2])
    history, weights = parts.items[edges], np.asarray(parts.weights[edges], np.float64)
    row = np.asarray(bundle.items[item], np.float64)
    found: list[tuple[str, str, float, int]] = []
    for b, (block, value) in enumerate(zip(bundle.facts.blocks, values, strict=True)):
        columns = slice(block.start, block.stop)
        own = float(parts.own[user, columns] @ row[columns])
        products = parts.sources[history, columns] @ row[columns]
        of_history = weights[:, b if weights.shape[1] > 1 else 0] * products
        rest = value - own - float(of_history.sum())
        found += [
            (block.name, HISTORY, float(each), int(known))
            for each, known in zip(of_history, history, strict=True)
        ]
        found.append((block.name, TASTE, own, -1))
        # Of a backbone without users alike, what is left is rounding.
        found.append((block.name, ALIKE, rest, -1))
    total = sum(abs(value) for _, _, value, _ in found) or 1.0
    return tuple(
        Reason(
            name,
            source,
            value,
            abs(value) / total,
            bundle.item_ids[known] if known >= 0 else "",
            bundle.titles[known] if known >= 0 else "",
        )
        for name, source, value, known in sorted(found, key=lambda reason: -abs(reason[2]))
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
        fitting=fitting_of(reliability, m),
    )


def fitting_of(reliability: ModalityReliability, m: int) -> tuple[float, float, float] | None:
    """Return the share of a modality's rows that fit and the ends of its interval, if known."""
    if reliability.fitting is None or np.isnan(reliability.fitting[m]).any():
        return None
    share, low, high = map(float, reliability.fitting[m])
    return share, low, high
