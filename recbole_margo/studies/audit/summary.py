"""What a run learned and what the audit found, as plain data for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.evaluation.rank_correlation import RankCorrelation
from recbole_margo.studies.audit.audit import CatalogueAudit
from recbole_margo.studies.audit.item_contents import ItemContents

CSV_COLUMNS = (
    "item",
    "title",
    "modality",
    "present",
    "weight",
    "weight_std",
    "pairs",
    "triplets",
    "confidence",
    "evidence",
    "evidence_low",
    "evidence_high",
    "contradicted",
    "contradicted_low",
    "contradicted_high",
    "feature_norm",
    "suspect",
    "least_reliable_rank",
    "most_reliable_rank",
)


def audit_summary(
    audit: CatalogueAudit, contents: ItemContents, count: int, min_pairs: int
) -> dict[str, Any]:
    """Return the least and the most reliable items of each modality, and how many are surely so.

    Args:
        audit: the audit.
        contents: titles and texts.
        count: items of each list at most.
        min_pairs: training pairs that an item needs to be ranked.
    """
    return {
        "items": len(audit.items),
        "pairs": int(audit.pairs.sum()),
        "ranked_by": audit.ranked_by,
        "min_pairs": min_pairs,
        "modalities": [
            _modality(audit, contents, index, count, min_pairs)
            for index in range(len(audit.modalities))
        ],
    }


def _modality(
    audit: CatalogueAudit, contents: ItemContents, index: int, count: int, min_pairs: int
) -> dict[str, Any]:
    ranked = audit.rankable(index, min_pairs)
    suspect, trusted = audit.suspect(index, min_pairs), audit.trusted(index, min_pairs)
    least, most = audit.least_reliable(index, min_pairs), audit.most_reliable(index, min_pairs)
    # With few items the two lists must not share any.
    most = most[~np.isin(most, least[:count])]
    popularity = RankCorrelation.of(
        audit.reliability()[0][ranked, index], audit.pairs[ranked], resamples=1
    )
    return {
        "modality": audit.modalities[index],
        "present": int(audit.present[:, index].sum()),
        "ranked": int(ranked.sum()),
        "average": audit.average(index, min_pairs),
        "contradicted": audit.average_contradicted(index, min_pairs),
        "popularity_correlation": popularity.rho,
        "surely_below": int(audit.surely_below(index, min_pairs).sum()),
        "surely_above": int(audit.surely_above(index, min_pairs).sum()),
        "suspect": int(suspect.sum()),
        "trusted": int(trusted.sum()),
        "least": [
            {**_item(audit, contents, item, index), "sure": bool(suspect[item])}
            for item in least[:count]
        ],
        "most": [
            {**_item(audit, contents, item, index), "sure": bool(trusted[item])}
            for item in most[:count]
        ],
    }


def _item(audit: CatalogueAudit, contents: ItemContents, item: int, index: int) -> dict[str, Any]:
    """Return what the report shows of an item."""
    token = str(audit.items[item])
    value, low, high = (part[item, index] for part in audit.reliability())
    return {
        "item": token,
        "title": contents.titles.get(token, ""),
        "text": contents.texts.get(token, ""),
        "pairs": int(audit.pairs[item]),
        "weight": float(audit.weights[item, index]),
        "weight_std": float(audit.weight_deviations[item, index]),
        "reliability": float(value),
        "low": float(low),
        "high": float(high),
        "contradicted": float(audit.contradicted[item, index]),
        "contradicted_low": float(audit.contradicted_low[item, index]),
        "contradicted_high": float(audit.contradicted_high[item, index]),
        "confidence": float(audit.confidence[item]),
    }


def audit_rows(
    audit: CatalogueAudit, contents: ItemContents, norms: NDArray[np.float64], min_pairs: int
) -> list[dict[str, Any]]:
    """Return one row per item and modality, with the columns of `CSV_COLUMNS`; NaN if unknown.

    Args:
        audit: the audit.
        contents: titles.
        norms: feature norms [N, M].
        min_pairs: training pairs that an item needs to be ranked.
    """
    places = [
        (
            _places(audit.least_reliable(index, min_pairs)),
            _places(audit.most_reliable(index, min_pairs)),
        )
        for index in range(len(audit.modalities))
    ]
    suspects = [audit.suspect(index, min_pairs) for index in range(len(audit.modalities))]
    rows = []
    for item, token in enumerate(audit.items):
        for index, modality in enumerate(audit.modalities):
            least, most = places[index]
            rows.append(
                {
                    "item": str(token),
                    "title": contents.titles.get(str(token), ""),
                    "modality": modality,
                    "present": int(audit.present[item, index]),
                    "weight": audit.weights[item, index],
                    "weight_std": audit.weight_deviations[item, index],
                    "pairs": int(audit.pairs[item]),
                    "triplets": int(audit.triplets[item]),
                    "confidence": audit.confidence[item],
                    "evidence": audit.evidence[item, index],
                    "evidence_low": audit.evidence_low[item, index],
                    "evidence_high": audit.evidence_high[item, index],
                    "contradicted": audit.contradicted[item, index],
                    "contradicted_low": audit.contradicted_low[item, index],
                    "contradicted_high": audit.contradicted_high[item, index],
                    "feature_norm": norms[item, index],
                    "suspect": int(suspects[index][item]),
                    "least_reliable_rank": least.get(item),
                    "most_reliable_rank": most.get(item),
                }
            )
    return rows


def _places(items: Sequence[int] | NDArray[np.intp]) -> dict[int, int]:
    return {int(item): place for place, item in enumerate(items, start=1)}
