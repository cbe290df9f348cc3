"""The CSV of all items and modalities."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.report import clean, csv_text
from recbole_margo.studies.audit.audit import AuditResult
from recbole_margo.studies.audit.equal_rows import same_as
from recbole_margo.studies.audit.result import LearnedAudit

LEARNED_COLUMNS = (
    *("weight", "weight_std", "pairs", "triplets", "confidence"),
    *("evidence", "evidence_low", "evidence_high"),
    *("contradicted", "contradicted_low", "contradicted_high"),
    *("feature_norm", "suspect", "least_reliable_rank", "most_reliable_rank"),
)
ROW_COLUMNS = (
    *("training_users", "held_out_score", "held_out_z", "p_value", "q_value"),
    *("says_nothing", "repair_rank", "same_as", "same_row_items"),
)


def audit_csv(result: AuditResult) -> str:
    """Return one row per item and modality; an unknown number is an empty cell."""
    rows, learned, titles = result.rows, result.learned, result.contents.titles
    orders = [
        _ranks(rows.order(index, result.settings.min_pairs))
        for index in range(len(rows.modalities))
    ]
    others = [same_as(part.equal) for part in result.modalities]
    shared = [
        {one.item: len(group.items) for group in part.equal for one in group.items}
        for part in result.modalities
    ]
    ranks = [[_ranks(one.least), _ranks(one.most)] for one in learned.rankings] if learned else []
    columns = ("item", "title", "modality", "present")
    columns += (*(LEARNED_COLUMNS if learned else ()), *ROW_COLUMNS)

    def cells() -> Iterator[tuple[Any, ...]]:
        for item, token in enumerate(rows.items):
            for index, modality in enumerate(rows.modalities):
                yield (
                    clean(token),
                    clean(titles.get(str(token), "")),
                    clean(modality),
                    int(rows.present[item, index]),
                    *(_learned(learned, item, index) if learned else ()),
                    *((one.get(item, "") for one in ranks[index]) if learned else ()),
                    int(rows.users[item]),
                    *(
                        _number(part[item, index])
                        for part in (
                            rows.scores,
                            rows.content,
                            rows.p_values,
                            rows.q_values,
                            rows.unrelated,
                        )
                    ),
                    orders[index].get(item, ""),
                    clean(others[index].get(str(token), "")),
                    shared[index].get(str(token), 1 if rows.present[item, index] else ""),
                )

    return csv_text(columns, cells())


def _learned(result: LearnedAudit, item: int, index: int) -> Iterator[Any]:
    audit = result.catalogue
    yield _number(audit.weights[item, index])
    yield _number(audit.weight_deviations[item, index])
    yield int(audit.pairs[item])
    yield int(audit.triplets[item])
    yield _number(audit.confidence[item])
    for part in (
        audit.evidence,
        audit.evidence_low,
        audit.evidence_high,
        audit.contradicted,
        audit.contradicted_low,
        audit.contradicted_high,
        result.norms,
    ):
        yield _number(part[item, index])
    yield int(result.rankings[index].suspect[item])


def _ranks(order: Iterable[np.intp] | NDArray[np.intp]) -> dict[int, int]:
    return {int(item): rank for rank, item in enumerate(order, start=1)}


def _number(value: float) -> float | str:
    # Deviations over seeds are of single precision, and written in full.
    shown = f"{value:.6g}" if isinstance(value, float) else value
    return shown if math.isfinite(value) else ""
