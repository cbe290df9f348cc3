"""The catalogue audit: how far each item's modalities can be trusted, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.evaluation.user_bootstrap import ratio_intervals, sum_by_item
from recbole_margo.evidence.pair_evidence import PairEvidence

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class CatalogueAudit:
    r"""Learned weights and evidence of all items but PAD; NaN where there is nothing to say.

    With the sums over the triplets t of an item's training pairs (`PairEvidence`), the evidence is
    :math:`\sum_t c_t z_t^m / \sum_t c_t` and the share that contradicts
    :math:`\sum_t [d_t^m < 0] / T`. Of several models, the triplets of all count.

    Args:
        items: item tokens [N].
        modalities: names of the modalities [M].
        present: presence mask [N, M].
        weights: mean of the learned weights over the models [N, M].
        weight_deviations: their sample standard deviation over the models [N, M], NaN for one.
        pairs: training pairs, that is users [N].
        triplets: triplets T of one model [N].
        confidence: mean of c [N].
        evidence: evidence [N, M]; NaN for an item with fewer than two modalities.
        evidence_low: lower end of its 95 % interval [N, M].
        evidence_high: upper end [N, M].
        contradicted: share of the triplets that contradict [N, M].
        contradicted_low: lower end of its 95 % interval [N, M].
        contradicted_high: upper end [N, M].
    """

    items: NDArray[np.str_]
    modalities: tuple[str, ...]
    present: NDArray[np.bool_]
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
            dataset: RecBole's training `Dataset`, for the tokens.
            negatives: sampled negatives per training pair.
            resamples: of the bootstrap over users.
            seed: of sampling and bootstrap.
        """
        found = PairEvidence.of_models(models, negatives, seed)
        mask = models[0].modality_mask.cpu().numpy()
        sums = [
            sum_by_item(found.items, part, len(mask))
            for part in (
                found.reliability,
                found.contradictions,
                found.confidence[:, None],
                found.triplets[:, None],
            )
        ]
        vectors, against, trust, triplets = sums
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
            confidence=_ratio(trust, triplets)[1:, 0],
            evidence=np.where(rows & choice, _ratio(vectors, trust)[1:], np.nan),
            evidence_low=np.where(rows & choice, low[1:, :count], np.nan),
            evidence_high=np.where(rows & choice, high[1:, :count], np.nan),
            contradicted=np.where(rows, _ratio(against, triplets)[1:], np.nan),
            contradicted_low=np.where(rows, low[1:, count:], np.nan),
            contradicted_high=np.where(rows, high[1:, count:], np.nan),
        )

    @property
    def choice(self) -> NDArray[np.bool_]:
        """Which items have two modalities or more [N]."""
        several: NDArray[np.bool_] = self.present.sum(axis=1) > 1
        return several

    @property
    def ranked_by(self) -> str:
        """What the items are ranked by: `evidence`, or with one modality `contradicted`."""
        return "evidence" if len(self.modalities) > 1 else "contradicted"

    def reliability(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return what the items are ranked by, more is better, and its interval, each [N, M]."""
        if self.ranked_by == "evidence":
            return self.evidence, self.evidence_low, self.evidence_high
        return 1 - self.contradicted, 1 - self.contradicted_high, 1 - self.contradicted_low

    def rankable(self, modality: int, min_pairs: int) -> NDArray[np.bool_]:
        """Return which items have evidence and pairs enough to be ranked [N]."""
        known: NDArray[np.bool_] = np.isfinite(self.reliability()[0][:, modality])
        return known & (self.pairs >= min_pairs)

    def average(self, modality: int, min_pairs: int) -> float:
        """Return the mean reliability of the items that are ranked; NaN if there is none."""
        values = self.reliability()[0][self.rankable(modality, min_pairs), modality]
        return float(values.mean()) if len(values) else float("nan")

    def average_contradicted(self, modality: int, min_pairs: int) -> float:
        """Return the mean share of contradictions of the items that are ranked."""
        values = self.contradicted[self.rankable(modality, min_pairs), modality]
        return float(values.mean()) if len(values) else float("nan")

    def surely_below(self, modality: int, min_pairs: int) -> NDArray[np.bool_]:
        """Return which ranked items have an interval of the reliability below the average [N]."""
        _, _, high = self.reliability()
        below: NDArray[np.bool_] = high[:, modality] < self.average(modality, min_pairs)
        return below & self.rankable(modality, min_pairs)

    def surely_above(self, modality: int, min_pairs: int) -> NDArray[np.bool_]:
        """Return which ranked items have an interval of the reliability above the average [N]."""
        _, low, _ = self.reliability()
        above: NDArray[np.bool_] = low[:, modality] > self.average(modality, min_pairs)
        return above & self.rankable(modality, min_pairs)

    def suspect(self, modality: int, min_pairs: int) -> NDArray[np.bool_]:
        """Return which items are surely less reliable and surely contradicted more often [N]."""
        often = self.contradicted_low[:, modality] > self.average_contradicted(modality, min_pairs)
        return self.surely_below(modality, min_pairs) & often

    def trusted(self, modality: int, min_pairs: int) -> NDArray[np.bool_]:
        """Return which items are surely more reliable and surely contradicted less often [N]."""
        rarely = self.contradicted_high[:, modality] < self.average_contradicted(
            modality, min_pairs
        )
        return self.surely_above(modality, min_pairs) & rarely

    def least_reliable(self, modality: int, min_pairs: int) -> NDArray[np.intp]:
        """Return items: the suspects, then the others, each by the upper end of the interval."""
        _, _, high = self.reliability()
        first = self.suspect(modality, min_pairs)
        return self._order(modality, min_pairs, first, high[:, modality], sign=1)

    def most_reliable(self, modality: int, min_pairs: int) -> NDArray[np.intp]:
        """Return items: the trusted, then the others, each by the lower end of the interval."""
        _, low, _ = self.reliability()
        first = self.trusted(modality, min_pairs)
        return self._order(modality, min_pairs, first, low[:, modality], sign=-1)

    def _order(
        self, modality: int, min_pairs: int, first: NDArray[np.bool_], end: FloatArray, sign: int
    ) -> NDArray[np.intp]:
        ranked = np.flatnonzero(self.rankable(modality, min_pairs))
        value = self.reliability()[0][ranked, modality]
        # Among equal ends the value decides, then the number of pairs, then the token.
        keys = (self.items[ranked], -self.pairs[ranked], sign * value, sign * end[ranked])
        return ranked[np.lexsort((*keys, ~first[ranked]))]


def _intervals(
    found: PairEvidence, mask: NDArray[np.bool_], resamples: int, seed: int
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
        shape = (len(pairs), len(columns))
        ends = ratio_intervals(
            np.hstack(
                [found.reliability[pairs][:, columns], found.contradictions[pairs][:, columns]]
            ),
            np.hstack(
                [
                    np.broadcast_to(found.confidence[pairs, None], shape),
                    np.broadcast_to(found.triplets[pairs, None], shape),
                ]
            ),
            found.items[pairs],
            len(mask),
            resamples,
            seed,
        )
        items = np.unique(found.items[pairs])
        for target, end in zip((low, high), ends, strict=True):
            target[np.ix_(items, both)] = end[items]
    return low, high


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """Return the quotient [I, K], NaN where the divisor [I, 1] is 0."""
    divisor = np.broadcast_to(below, above.shape)
    return np.divide(above, divisor, out=np.full_like(above, np.nan), where=divisor > 0)
