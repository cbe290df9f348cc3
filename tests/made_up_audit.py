"""An audit of made-up numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recbole_margo.evidence.item_evidence import FittingShare
from recbole_margo.studies.audit.audit import AuditResult
from recbole_margo.studies.audit.catalogue import CatalogueAudit
from recbole_margo.studies.audit.item_contents import ItemContents
from recbole_margo.studies.audit.learned_weights import LearnedWeights
from recbole_margo.studies.audit.result import AuditSettings, LearnedAudit
from recbole_margo.studies.audit.row_evidence import RowEvidence


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


def made_rows(
    p_values: Sequence[Sequence[float]], users: Sequence[int], fitting: float = 0.9
) -> RowEvidence:
    """Return the evidence of rows of image and text with these p-values."""
    chances = np.array(p_values)
    known = np.isfinite(chances)
    share = FittingShare(fitting, fitting - 0.05, min(fitting + 0.05, 1.0), 20)
    return RowEvidence(
        items=np.array([f"i{n}" for n in range(len(chances))]),
        modalities=("image", "text"),
        present=known,
        users=np.array(users),
        scores=-chances,
        content=1 - 2 * chances,
        p_values=chances,
        q_values=chances,
        unrelated=chances,
        fitting=(share, share),
        equal=((), ()),
    )


def made_audit_result(learned: LearnedAudit | None = None, **changes: Any) -> AuditResult:
    """Return the result of an audit of four items, with what a model learned or without."""
    chances = [[0.9, 0.1], [0.1, 0.2], [0.2, 0.1], [0.1, 0.7]]
    rows = made_rows(chances, [10, 20, 30, 2])
    if learned is not None:
        of_model = learned.catalogue
        count = len(of_model.items)
        rows = made_rows((chances * count)[:count], of_model.pairs.tolist())
        rows = replace(rows, items=of_model.items, present=of_model.present)
    values: dict[str, Any] = {
        "dataset": "made up",
        "settings": AuditSettings(items=2, min_pairs=1),
        "rows": rows,
        "contents": learned.contents if learned else ItemContents(),
        "learned": learned,
        **changes,
    }
    return AuditResult(**values)


def made_result(catalogue: CatalogueAudit | None = None, **changes: Any) -> LearnedAudit:
    """Return what a model learned; by default of four items, a suspect and a trusted one."""
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
    return LearnedAudit(**values)
