"""Does an item's row belong to it? Asked of a regression that never saw the item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recbole_margo.evidence.held_out_prediction import held_out_prediction
from recbole_margo.evidence.item_targets import unit_rows

# A p-value compares an item's own target with those of at most so many others.
OTHERS_COMPARED = 4096
ITEMS_AT_ONCE = 1024
# A shorter direction, and a smaller deviation, are what rounding leaves.
NEGLIGIBLE = 1e-6


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
        penalty: lambda of the ridge regression, see `HeldOutPrediction`.
        explained: share of the targets' variance that the features of other items predict.
    """

    scores: NDArray[np.float64]
    known: NDArray[np.bool_]
    p_values: NDArray[np.float64]
    penalty: float
    explained: float


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
        return ContentScore(scores, known, p_values, np.inf, 0.0)
    own = targets[items]
    held_out = held_out_prediction(features, own, seed, items)
    own -= own.mean(axis=0, dtype=np.float64).astype(np.float32)
    own, guessed = (unit_rows(rows, NEGLIGIBLE) for rows in (own, held_out.predicted))
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
    return ContentScore(scores, known, p_values, held_out.penalty, held_out.explained)


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
