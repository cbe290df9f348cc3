"""An audit of made-up numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recbole_margo.studies.audit.catalogue import CatalogueAudit
from recbole_margo.studies.audit.item_contents import ItemContents
from recbole_margo.studies.audit.learned_weights import LearnedWeights
from recbole_margo.studies.audit.result import AuditResult, AuditSettings


def made_audit(
    evidence: Sequence[float], half_widths: Sequence[float], pairs: Sequence[int]
) -> CatalogueAudit:
    """Return an audit of image and text whose image has this evidence."""
    first, half = np.array(evidence), np.array(half_widths)
    both = np.stack([first, 1 - first], axis=1)
    low, high = (np.clip(both + sign * half[:, None], 0, 1) for sign in (-1, 1))
    count = len(first)
    return CatalogueAudit(
        items=np.array([f"i{n}" for n in range(count)]),
        modalities=("image", "text"),
        present=np.ones((count, 2), dtype=bool),
        weights=both,
        weight_deviations=np.full((count, 2), np.nan),
        pairs=np.array(pairs),
        triplets=np.array(pairs, dtype=float) * 20,
        confidence=np.full(count, 0.5),
        evidence=both,
        evidence_low=low,
        evidence_high=high,
        contradicted=1 - both,
        contradicted_low=1 - high,
        contradicted_high=1 - low,
    )


def made_weights(
    weights: Sequence[Sequence[float]] | np.ndarray,
    present: Sequence[Sequence[bool]] | None = None,
    **changes: Any,
) -> LearnedWeights:
    """Return the weights of one seed of MARGO."""
    array = np.array(weights)
    there = np.array(present) if present else np.ones(array.shape, dtype=bool)
    names = ("image", "text", "audio")[: array.shape[1]]
    return replace(LearnedWeights("MARGO", 1, "items", names, array, there), **changes)


def made_result(catalogue: CatalogueAudit | None = None, **changes: Any) -> AuditResult:
    """Return the result of an audit; by default of four items, a suspect and a trusted one."""
    if catalogue is None:
        catalogue = made_audit([0.1, 0.4, 0.5, 0.9], [0.05, 0.2, 0.4, 0.05], [10, 20, 30, 2])
    values: dict[str, Any] = {
        "dataset": "made up",
        "label": "MARGO",
        "seeds": (1,),
        "settings": AuditSettings(items=2, min_pairs=1),
        "catalogue": catalogue,
        "norms": np.ones(catalogue.present.shape),
        "weights": (made_weights(catalogue.weights),),
        "contents": ItemContents(),
        **changes,
    }
    return AuditResult(**values)
