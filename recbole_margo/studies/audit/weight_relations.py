"""What the learned weights go along with: popularity, feature norm, evidence, other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_margo.data.features import FEATURE_SETTINGS, load_item_features
from recbole_margo.evaluation.rank_correlation import RankCorrelation
from recbole_margo.studies.audit.audit import CatalogueAudit
from recbole_margo.studies.audit.learned_weights import LearnedWeights


class _Unnormalized:
    """A config under which features stay as they are on disk."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.external_config_dict = config.external_config_dict

    def __getitem__(self, key: str) -> Any:
        return None if key in FEATURE_SETTINGS else self.config[key]


def feature_norms(config: Any, dataset: Any) -> NDArray[np.float64]:
    """Return the Euclidean length of each item's raw feature row, before any normalisation.

    Args:
        config: config of a run.
        dataset: RecBole's training `Dataset`.

    Returns:
        Lengths [N, M], PAD left out; NaN where an item misses the modality.
    """
    features = load_item_features(_Unnormalized(config), dataset)
    lengths = [torch.linalg.vector_norm(matrix.double(), dim=1) for matrix in features.matrices]
    norms = torch.stack(lengths, dim=1).masked_fill(~features.mask, torch.nan)
    return norms[1:].numpy()


def weight_relations(
    audit: CatalogueAudit, norms: NDArray[np.float64], seed: int = 0
) -> list[dict[str, Any]]:
    """Return Spearman's rho of the weights and what could explain them, with intervals over items.

    Args:
        audit: the audit.
        norms: feature norms [N, M].
        seed: of the bootstrap.

    Returns:
        One entry per modality and `with`: `popularity` (training interactions), `feature norm`,
        `evidence` and `contradicted`; over items with a choice that have the modality.
    """
    rows = []
    for index, modality in enumerate(audit.modalities):
        there = audit.choice & audit.present[:, index]
        others = {
            "popularity": audit.pairs.astype(np.float64),
            "feature norm": norms[:, index],
            "evidence": audit.evidence[:, index],
            "contradicted": audit.contradicted[:, index],
        }
        for name, values in others.items():
            known = there & np.isfinite(values)
            found = RankCorrelation.of(audit.weights[known, index], values[known], seed=seed)
            rows.append({"modality": modality, "with": name, **vars(found)})
    return rows


def weight_stability(weights: Sequence[LearnedWeights]) -> list[dict[str, Any]]:
    """Return how far seeds agree on which items weigh a modality more.

    Args:
        weights: item weights of one model, a seed each, of the same items in the same order.

    Returns:
        Per modality the mean and the smallest Spearman's rho over pairs of seeds; nothing for one
        seed.
    """
    rows: list[dict[str, Any]] = []
    for index, modality in enumerate(weights[0].modalities):
        values = [one.of_modality(index) for one in weights]
        rhos = [RankCorrelation.of(a, b, resamples=1).rho for a, b in combinations(values, 2)]
        if rhos:
            rows.append(
                {
                    "modality": modality,
                    "seeds": len(weights),
                    "mean": float(np.mean(rhos)),
                    "smallest": float(np.min(rhos)),
                }
            )
    return rows
