"""Does an item's row belong to it? Held-out scores of items, and the share of rows that fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from recbole_margo.evidence.held_out_prediction import held_out_prediction
from recbole_margo.evidence.item_targets import unit_rows
from recbole_margo.evidence.neighbor_agreement import neighbor_agreement

# A p-value compares an item's own target with those of at most so many others.
OTHERS_COMPARED = 4096
ITEMS_AT_ONCE = 1024
# A shorter direction, and a smaller deviation, are what rounding leaves.
NEGLIGIBLE = 1e-6
# Above this p-value, rows that fit are rare: the share of true nulls is read off there.
STOREY_LAMBDA = 0.5
RESAMPLES, CONFIDENCE = 1000, 0.95


@dataclass(frozen=True)
class ContentScore:
    """How well each item's users follow from its features, by a fit without the item.

    Attributes:
        scores: z [I], of mean 0 and variance 1 for a row that has nothing to do with its item; 0
            where nothing is known.
        known: which items have a row, company and a direction [I], bool.
        p_values: the probability that the target of a random item agrees as well with what the
            row says [I]; uniform for a row that has nothing to do with its item, 1 where nothing
            is known.
    """

    scores: NDArray[np.float64]
    known: NDArray[np.bool_]
    p_values: NDArray[np.float64]


def content_score(
    features: NDArray[np.floating],
    present: NDArray[np.bool_],
    targets: NDArray[np.float32],
    seed: int = 0,
) -> ContentScore:
    r"""Compare what an item's features say of its users with who they are.

    .. math:: z_i = \frac{\cos(\hat T_i, T_i) - \mathrm{mean}_j \cos(\hat T_i, T_j)}
        {\mathrm{sd}_j \cos(\hat T_i, T_j)}

    over all targets T_j less their mean, where :math:`\hat T_i` is what `held_out_prediction` says
    beyond the mean, from the row of item i by a regression on the other items. A row that was
    swapped with another's cannot have bought its own evidence by being trained on.

    Args:
        features: of one modality [I, D].
        present: which items have the modality [I].
        targets: T [I, K] of `item_targets`.
        seed: decides with which others an item is compared, and as in `held_out_prediction`.

    Returns:
        The scores. Nothing is known of items that have no row, share no user with another item, or
        of any item where fewer than three have both.
    """
    scores, p_values = np.zeros(len(targets)), np.ones(len(targets))
    known = np.zeros(len(targets), dtype=np.bool_)
    items = np.flatnonzero(present & targets.any(axis=1))
    if len(items) < 3:
        return ContentScore(scores, known, p_values)
    own = targets[items]
    predicted = held_out_prediction(features, own, seed, items).predicted
    own -= own.mean(axis=0, dtype=np.float64).astype(np.float32)
    own, guessed = (unit_rows(rows, NEGLIGIBLE) for rows in (own, predicted))
    # Mean and variance over j of <p, t_j>, without the products themselves.
    mean = own.mean(axis=0)
    spread = own.T @ own / np.float32(len(own)) - np.outer(mean, mean)
    average = guessed @ mean
    deviation = np.sqrt(np.maximum(np.einsum("ik,ik->i", guessed @ spread, guessed), 0.0))
    cosines = np.einsum("ik,ik->i", guessed, own)
    said = deviation > NEGLIGIBLE
    scores[items[said]] = ((cosines - average) / np.where(said, deviation, 1.0))[said]
    known[items[said]] = True
    p_values[items[said]] = _p_values(guessed, own, cosines, seed)[said]
    return ContentScore(scores, known, p_values)


def _p_values(
    guessed: NDArray[np.float32],
    own: NDArray[np.float32],
    cosines: NDArray[np.float32],
    seed: int,
) -> NDArray[np.float64]:
    """Return the share of compared others, and the item itself, not below its own cosine [N]."""
    items = len(own)
    others = np.arange(items)
    if items > OTHERS_COMPARED:
        others = np.random.default_rng(seed).choice(items, OTHERS_COMPARED, replace=False)
    p_values, compared = np.empty(items), own[others].T
    for start in range(0, items, ITEMS_AT_ONCE):
        block = np.arange(start, min(start + ITEMS_AT_ONCE, items))
        as_good = guessed[block] @ compared >= cosines[block, np.newaxis]
        # The item itself counts once, as it must, whether or not it is among the others.
        as_good[block[:, np.newaxis] == others] = False
        count = len(others) - np.isin(block, others)
        p_values[block] = (as_good.sum(axis=1) + 1) / (count + 1)
    return p_values


@dataclass(frozen=True)
class FittingShare:
    """The share of a modality's items whose row fits the users of the item.

    Attributes:
        estimate: 1 - pi_0, by Storey's estimate of the proportion of true nulls.
        low: lower end of a bootstrap interval over items.
        high: its upper end.
        items: how many items it was estimated from.
    """

    estimate: float
    low: float
    high: float
    items: int


@dataclass(frozen=True)
class ItemEvidence:
    """Whether the rows of one modality belong to their items, as far as users can tell.

    Attributes:
        scores: the mean of content score and neighbor agreement, the latter brought to the
            deviation of the former [I]: the order in which rows are suspicious, from the lowest.
            About 0 for a row that has nothing to do with its item.
        content: the content score, which is calibrated item by item.
        agreement: the neighbor agreement [I].
        q_values: of the content score's p-values by Benjamini and Hochberg [I]; 1 where nothing is
            known. Rows with q <= .05 belong to their items with 5 % false discoveries.
        fitting: the share of items whose row fits.
    """

    scores: NDArray[np.float64]
    content: ContentScore
    agreement: NDArray[np.float64]
    q_values: NDArray[np.float64]
    fitting: FittingShare


def item_evidence(
    interactions: sp.csr_matrix,
    features: NDArray[np.floating],
    present: NDArray[np.bool_],
    targets: NDArray[np.float32],
    seed: int = 0,
) -> ItemEvidence:
    """Weigh the rows of one modality against the interactions, without any recommender.

    The mean of two scores of equal deviation is not behind the better by more than .011
    of ROC-AUC on the data it was measured on (docs/results/evidence.md): a regression sees what
    many items have in common, the direct comparison what few have.

    Args:
        interactions: binary training interactions R [U, I].
        features: of one modality [I, D].
        present: which items have the modality [I].
        targets: T [I, K] of `item_targets`, the same for every modality.
        seed: as in `content_score`.
    """
    content = content_score(features, present, targets, seed)
    agreement = neighbor_agreement(interactions, features, present)
    scores = np.zeros(len(targets))
    if content.known.any():
        of_content, of_agreement = (
            part[content.known].std() for part in (content.scores, agreement)
        )
        ratio = of_content / of_agreement if of_agreement > 0 else 0.0
        scores[content.known] = (content.scores + ratio * agreement)[content.known] / 2
    q_values = np.ones(len(targets))
    p_values = content.p_values[content.known]
    if len(p_values):
        q_values[content.known] = false_discovery_control(p_values)
    return ItemEvidence(scores, content, agreement, q_values, _fitting_share(p_values, seed))


def _fitting_share(p_values: NDArray[np.float64], seed: int) -> FittingShare:
    """Return 1 - pi_0 with a percentile interval.

    Source: Storey, "A direct approach to false discovery rates", JRSS B 64, 2002, Eq. 6.
    """
    items = len(p_values)
    if not items:
        return FittingShare(0.0, 0.0, 1.0, 0)
    above = float((p_values > STOREY_LAMBDA).mean())
    # A bootstrap of a share is a binomial draw.
    drawn = np.random.default_rng(seed).binomial(items, above, RESAMPLES) / items
    tail = 50 * (1 - CONFIDENCE)
    shares = [np.clip(1 - share / (1 - STOREY_LAMBDA), 0, 1) for share in (above, drawn)]
    low, high = np.percentile(shares[1], [tail, 100 - tail])
    return FittingShare(float(shares[0]), float(low), float(high), items)
