"""Whether the rows of a catalogue belong to their items, asked of users and of no trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.isotonic import isotonic_regression

from recbole_margo.evidence.item_evidence import FittingShare, item_evidence
from recbole_margo.evidence.item_targets import item_targets
from recbole_margo.inspection.alignment import Verdict
from recbole_margo.store.feature_files import equal_groups
from recbole_margo.studies.audit.catalogue import BoolArray, FloatArray

# Up to here an interval of the share of fitting rows may reach by chance: shuffled rows had a lower
# end of at most .02 in 28 tries on three data sets. From `MOST` on, most rows of a modality fit.
CHANCE, MOST = 0.05, 0.5
# Of fewer rows nothing is said as a whole.
FEWEST = 20


@dataclass(frozen=True)
class RowEvidence:
    r"""How well the row of each item and modality fits the users of the item; NaN where unknown.

    Attributes:
        items: item tokens [N].
        modalities: names of the modalities [M].
        present: presence mask [N, M].
        users: training users of each item [N].
        scores: held-out content score and neighbor agreement, summed [N, M]: rows are suspicious
            in this order, from the lowest (`item_evidence`).
        content: the held-out content score z [N, M].
        p_values: share of the other items whose users the row fits as well as its own item's
            [N, M].
        q_values: of these by Benjamini and Hochberg [N, M].
        unrelated: estimated probability that the row says nothing of its item's users [N, M].
        fitting: of each modality, the share of items whose row fits [M].
        equal: of each modality, the places of items with the same row, by group [M].
    """

    items: NDArray[np.str_]
    modalities: tuple[str, ...]
    present: BoolArray
    users: NDArray[np.intp]
    scores: FloatArray
    content: FloatArray
    p_values: FloatArray
    q_values: FloatArray
    unrelated: FloatArray
    fitting: tuple[FittingShare, ...]
    equal: tuple[tuple[NDArray[np.intp], ...], ...]

    @classmethod
    def of(
        cls,
        interactions: sp.csr_matrix,
        features: Sequence[NDArray[np.floating]],
        present: BoolArray,
        items: Sequence[str],
        modalities: Sequence[str],
        seed: int = 0,
    ) -> RowEvidence:
        """Weigh the rows of all modalities against the training interactions.

        Args:
            interactions: binary training interactions R [U, I]; row 0 and column 0 are PAD.
            features: rows of each modality [I, D_m].
            present: presence mask [I, M].
            items: tokens of all items but PAD [I - 1].
            modalities: names of the modalities [M].
        """
        targets = item_targets(interactions)
        columns, fitting, equal = [], [], []
        for column, matrix in enumerate(features):
            found = item_evidence(interactions, matrix, present[:, column], targets, seed)
            known = found.content.known
            unrelated = np.full(len(known), np.nan)
            unrelated[known] = unrelated_probabilities(
                found.content.p_values[known], found.fitting.estimate
            )
            numbers = (found.scores, found.content.scores, found.content.p_values, found.q_values)
            columns.append([*(np.where(known, one, np.nan)[1:] for one in numbers), unrelated[1:]])
            fitting.append(found.fitting)
            there = np.flatnonzero(present[1:, column])
            equal.append(tuple(there[group] for group in equal_groups(matrix[1:][there])))
        scores, content, p_values, q_values, chances = (
            np.stack(parts, axis=1) for parts in zip(*columns, strict=True)
        )
        users = np.asarray(interactions.astype(bool).sum(axis=0)).ravel()[1:].astype(np.intp)
        return cls(
            np.asarray(items, dtype=str),
            tuple(modalities),
            present[1:],
            users,
            scores,
            content,
            p_values,
            q_values,
            chances,
            tuple(fitting),
            tuple(equal),
        )

    @property
    def known(self) -> BoolArray:
        """Which rows can be judged [N, M]."""
        known: BoolArray = np.isfinite(self.content)
        return known

    def verdict(self, modality: int) -> Verdict | None:
        """Return what is to be said of a modality as a whole, None if too few rows are judged."""
        share = self.fitting[modality]
        if share.items < FEWEST:
            return None
        if share.low <= CHANCE:
            return Verdict.NO_SIGN
        return Verdict.FITS if share.estimate >= MOST else Verdict.WEAK

    def order(self, modality: int, min_users: int) -> NDArray[np.intp]:
        """Return the items with users enough [n], the most suspicious row first.

        Args:
            min_users: training users that an item needs to be listed.
        """
        listed = np.flatnonzero(self.known[:, modality] & (self.users >= min_users))
        keys = (self.items[listed], -self.users[listed], self.scores[listed, modality])
        return listed[np.lexsort(keys)]

    def false_alarms(self, modality: int, order: NDArray[np.intp]) -> FloatArray:
        """Return the estimated false discovery rate of stopping at each row of a list [n].

        It is the mean probability that a row up to there fits its item after all, and where a later
        stop has a smaller one, that: as a q-value, it never falls down the list.
        """
        rates = np.cumsum(1 - self.unrelated[order, modality]) / np.arange(1, len(order) + 1)
        found: FloatArray = np.minimum.accumulate(rates[::-1])[::-1]
        return found


def unrelated_probabilities(p_values: FloatArray, fitting: float) -> FloatArray:
    r"""Return the probability that a row with this p-value says nothing of its item.

    .. math:: P(\text{unrelated} \mid p) = \min(1, \pi_0 / f(p))

    with the density f of all p-values, which falls with p, by Grenander's estimator: the slopes of
    the least concave majorant of their distribution. It is Efron's local false discovery rate.

    Args:
        p_values: [n].

    Source: Strimmer, "A unified approach to false discovery rate estimation", BMC Bioinformatics 9,
    2008.
    """
    if not len(p_values):
        return np.zeros(0)
    values, place, counts = np.unique(p_values, return_inverse=True, return_counts=True)
    widths = np.diff(values, prepend=0.0)
    heights = counts / (len(p_values) * widths)
    density = isotonic_regression(heights, sample_weight=widths, increasing=False)
    probabilities: FloatArray = np.minimum(1.0, (1 - fitting) / density[place.reshape(-1)])
    return probabilities
