"""The catalogue audit: how far each item's modalities can be trusted, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.evaluation.bootstrap import ratio, ratio_intervals, sum_by_item
from recbole_margo.evidence.pair_evidence import PairEvidence

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Ranking:
    """The items of one modality by their reliability.

    Args:
        ranked: which items have evidence and pairs enough to be ranked [N].
        average: mean reliability of the ranked items; NaN if there is none.
        surely_below: ranked, with the interval of the reliability below the average [N].
        surely_above: ranked, with the interval of the reliability above the average [N].
        suspect: surely below, and surely contradicted more often than the average [N].
        trusted: surely above, and surely contradicted less often than the average [N].
        least: the suspects, then the other ranked items, each by the upper end of the interval.
        most: the trusted, then the other ranked items, each by the lower end of the interval.
    """

    ranked: BoolArray
    average: float
    contradicted: float
    surely_below: BoolArray
    surely_above: BoolArray
    suspect: BoolArray
    trusted: BoolArray
    least: NDArray[np.intp]
    most: NDArray[np.intp]


@dataclass(frozen=True)
class CatalogueAudit:
    r"""Learned weights and evidence of all items but PAD; NaN where there is nothing to say.

    With the sums over the triplets t of an item's training pairs (`PairEvidence`), the evidence is
    :math:`\sum_t c_t z_t^m / \sum_t c_t` and the share that contradicts
    :math:`\sum_t [d_t^m < 0] / T`. Of several models, the triplets of all count.

    Args:
        weights: mean of the learned weights over the models [N, M].
        weight_deviations: their sample standard deviation over the models [N, M], NaN for one.
        pairs: training pairs, that is users [N].
        triplets: triplets T of one model [N].
        confidence: mean of c [N].
        evidence: evidence [N, M]; NaN for an item with fewer than two modalities.
        evidence_low: lower end of its 95 % interval [N, M].
        contradicted: share of the triplets that contradict [N, M].
        contradicted_low: lower end of its 95 % interval [N, M].
    """

    items: NDArray[np.str_]
    modalities: tuple[str, ...]
    present: BoolArray
    weights: FloatArray
    weight_deviations: FloatArray
    pairs: NDArray[np.intp]
    triplets: FloatArray
    confidence: FloatArray
    evidence: FloatArray
    evidence_low: FloatArray
    evidence_high: FloatArray
    contradicted: FloatArray
    contradicted_low: FloatArray
    contradicted_high: FloatArray

    @classmethod
    def of_models(
        cls,
        models: Sequence[Any],
        dataset: Any,
        negatives: int = 20,
        resamples: int = 1000,
        seed: int = 0,
    ) -> CatalogueAudit:
        """Audit the items of trained MARGOs.

        Args:
            models: MARGOs of several seeds on the same interactions, or one.
            negatives: sampled negatives per training pair.
            resamples: of the bootstrap over users.
        """
        found = PairEvidence.of_models(models, negatives, seed)
        mask = models[0].modality_mask.cpu().numpy()
        vectors, against, trust, triplets = (
            sum_by_item(found.items, part, len(mask))
            for part in (
                found.reliability,
                found.contradictions,
                found.confidence[:, None],
                found.triplets[:, None],
            )
        )
        low, high = _intervals(found, mask, resamples, seed)
        count = mask.shape[1]
        rows, choice = mask[1:], (mask.sum(axis=1, keepdims=True) > 1)[1:]
        weights = np.stack([model.item_weights().detach().cpu().numpy() for model in models])[:, 1:]
        several = len(models) > 1
        deviations = weights.std(axis=0, ddof=1) if several else np.full(rows.shape, np.nan)
        return cls(
            items=dataset.field2id_token[dataset.iid_field][1:].astype(str),
            modalities=tuple(models[0].modalities),
            present=rows,
            weights=weights.mean(axis=0, dtype=np.float64),
            weight_deviations=deviations,
            pairs=np.bincount(found.items, minlength=len(mask))[1:],
            triplets=triplets[1:, 0] / len(models),
            confidence=ratio(trust, triplets)[1:, 0],
            evidence=np.where(rows & choice, ratio(vectors, trust)[1:], np.nan),
            evidence_low=np.where(rows & choice, low[1:, :count], np.nan),
            evidence_high=np.where(rows & choice, high[1:, :count], np.nan),
            contradicted=np.where(rows, ratio(against, triplets)[1:], np.nan),
            contradicted_low=np.where(rows, low[1:, count:], np.nan),
            contradicted_high=np.where(rows, high[1:, count:], np.nan),
        )

    @property
    def choice(self) -> BoolArray:
        """Which items have two modalities or more [N]."""
        several: BoolArray = self.present.sum(axis=1) > 1
        return several

    @property
    def ranked_by(self) -> str:
        """The number that ranks the items: `evidence`, or with one modality `contradicted`."""
        return "evidence" if len(self.modalities) > 1 else "contradicted"

    def reliability(self, modality: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return what the items are ranked by, more is better, and its interval, each [N]."""
        if self.ranked_by == "evidence":
            value, low, high = self.evidence, self.evidence_low, self.evidence_high
        else:
            value = 1 - self.contradicted
            low, high = 1 - self.contradicted_high, 1 - self.contradicted_low
        return value[:, modality], low[:, modality], high[:, modality]

    def ranking(self, modality: int, min_pairs: int) -> Ranking:
        """Rank the items of a modality.

        Args:
            min_pairs: training pairs that an item needs to be ranked.
        """
        value, low, high = self.reliability(modality)
        ranked = np.isfinite(value) & (self.pairs >= min_pairs)
        average = _mean(value[ranked])
        contradicted = _mean(self.contradicted[ranked, modality])
        below, above = ranked & (high < average), ranked & (low > average)
        suspect = below & (self.contradicted_low[:, modality] > contradicted)
        trusted = above & (self.contradicted_high[:, modality] < contradicted)

        def ordered(first: BoolArray, end: FloatArray, sign: int) -> NDArray[np.intp]:
            items = np.flatnonzero(ranked)
            # Among equal ends the value decides, then the number of pairs, then the token.
            keys = (self.items[items], -self.pairs[items], sign * value[items], sign * end[items])
            return items[np.lexsort((*keys, ~first[items]))]

        return Ranking(
            ranked,
            average,
            contradicted,
            below,
            above,
            suspect,
            trusted,
            least=ordered(suspect, high, 1),
            most=ordered(trusted, low, -1),
        )


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _intervals(
    found: PairEvidence, mask: BoolArray, resamples: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Return the ends of the intervals [I, 2 M]: of the evidence, and of what contradicts.

    Items are resampled among those with the same modalities: what a modality scores depends on
    which others it is compared with.
    """
    low = np.full((len(mask), 2 * mask.shape[1]), np.nan)
    high = low.copy()
    counted = found.triplets > 0
    patterns, of_item = np.unique(mask, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        pairs = np.flatnonzero(counted & (of_item.reshape(-1)[found.items] == number))
        if not pattern.any() or not len(pairs):
            continue
        columns = np.flatnonzero(pattern)
        both = np.concatenate([columns, columns + mask.shape[1]])
        above = (found.reliability[pairs][:, columns], found.contradictions[pairs][:, columns])
        below = (found.confidence[pairs, None], found.triplets[pairs, None])
        ends = ratio_intervals(
            np.hstack(above),
            np.hstack([np.broadcast_to(part, above[0].shape) for part in below]),
            found.items[pairs],
            len(mask),
            resamples,
            seed,
        )
        items = np.unique(found.items[pairs])
        for target, end in zip((low, high), ends, strict=True):
            target[np.ix_(items, both)] = end[items]
    return low, high
