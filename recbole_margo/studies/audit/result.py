"""The word of trained models: weights, lists of items, correlations of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_margo.data.features import FEATURE_SETTINGS, load_item_features
from recbole_margo.errors import ConfigError
from recbole_margo.evaluation.bootstrap import RankCorrelation
from recbole_margo.studies.audit.catalogue import CatalogueAudit, FloatArray, Ranking
from recbole_margo.studies.audit.item_contents import ItemContents, NamedItem
from recbole_margo.studies.audit.learned_weights import (
    LearnedWeights,
    WeightStability,
    WeightStatistics,
    weight_stability,
)
from recbole_margo.studies.runs.trained_run import TrainedRun


@dataclass(frozen=True)
class AuditSettings:
    """How an audit is made.

    Args:
        negatives: sampled negatives per training pair.
        resamples: of the bootstrap over an item's users.
        min_pairs: training pairs that an item needs to be ranked.
    """

    items: int = 20
    negatives: int = 20
    resamples: int = 1000
    min_pairs: int = 5
    seed: int = 0

    def check(self) -> None:
        """Raise `ConfigError` if a number is too small."""
        for name, value in vars(self).items():
            least = {"seed": 0, "resamples": 100}.get(name, 1)
            if value < least:
                raise ConfigError(f"--{name} must be at least {least}, found {value}")


@dataclass(frozen=True)
class ListedItem(NamedItem):
    """An item in the list of a modality; the numbers are those of docs/audit.md.

    Args:
        sure: whether it is a suspect, or in the list of the most reliable, trusted.
    """

    pairs: int
    weight: float
    weight_std: float
    reliability: float
    low: float
    high: float
    contradicted: float
    contradicted_low: float
    contradicted_high: float
    confidence: float
    sure: bool


@dataclass(frozen=True)
class ModalityAudit:
    """The audit of one modality: how many items are what, and the lists.

    Args:
        average: mean reliability of the ranked items; NaN if there is none.
        contradicted: their mean share of contradictions.
        popularity_correlation: Spearman's rho of their reliability and their training pairs.
        surely_below: items whose interval of the reliability lies below the average.
        surely_above: items whose interval lies above it.
        suspect: of the surely below, those that are surely contradicted more often.
        trusted: of the surely above, those that are surely contradicted less often.
        most: the most reliable ones, without those of `least`.
    """

    modality: str
    present: int
    ranked: int
    average: float
    contradicted: float
    popularity_correlation: float
    surely_below: int
    surely_above: int
    suspect: int
    trusted: int
    least: tuple[ListedItem, ...]
    most: tuple[ListedItem, ...]


@dataclass(frozen=True)
class WeightRelation:
    """The weights of a modality beside another value of the same items.

    Args:
        other: what the value is: `popularity` (training interactions), `feature norm`, `evidence`
            or `contradicted`.
        weights: weights of the items with a choice that have the modality and a value [N].
        values: the other value [N].
    """

    modality: str
    other: str
    weights: FloatArray
    values: FloatArray
    correlation: RankCorrelation

    def as_plain(self) -> dict[str, Any]:
        """Return it as it stands in `reliability.json`, without the items."""
        return {"modality": self.modality, "with": self.other, **asdict(self.correlation)}


@dataclass(frozen=True)
class LearnedAudit:
    """The word of trained models on a catalogue.

    Args:
        label: which model is audited.
        norms: length of each raw feature row [N, M]; NaN where an item misses the modality.
        weights: what every run with these modalities learned.
    """

    dataset: str
    label: str
    seeds: tuple[int, ...]
    settings: AuditSettings
    catalogue: CatalogueAudit
    norms: FloatArray
    weights: tuple[LearnedWeights, ...]
    contents: ItemContents

    @cached_property
    def rankings(self) -> tuple[Ranking, ...]:
        """The ranking of each modality [M]."""
        indices = range(len(self.catalogue.modalities))
        return tuple(self.catalogue.ranking(index, self.settings.min_pairs) for index in indices)

    def listed(self, index: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the items of the two lists of a modality; with few items they share none."""
        ranking, count = self.rankings[index], self.settings.items
        least = ranking.least[:count]
        return least, ranking.most[~np.isin(ranking.most, least)][:count]

    @cached_property
    def modalities(self) -> tuple[ModalityAudit, ...]:
        """The audit of each modality [M]."""
        return tuple(self._modality(index) for index in range(len(self.catalogue.modalities)))

    def _modality(self, index: int) -> ModalityAudit:
        audit, ranking = self.catalogue, self.rankings[index]
        value = audit.reliability(index)[0]
        least, most = self.listed(index)
        return ModalityAudit(
            modality=audit.modalities[index],
            present=int(audit.present[:, index].sum()),
            ranked=int(ranking.ranked.sum()),
            average=ranking.average,
            contradicted=ranking.contradicted,
            popularity_correlation=RankCorrelation.of(
                value[ranking.ranked], audit.pairs[ranking.ranked], resamples=1
            ).rho,
            surely_below=int(ranking.surely_below.sum()),
            surely_above=int(ranking.surely_above.sum()),
            suspect=int(ranking.suspect.sum()),
            trusted=int(ranking.trusted.sum()),
            least=tuple(self._item(item, index, bool(ranking.suspect[item])) for item in least),
            most=tuple(self._item(item, index, bool(ranking.trusted[item])) for item in most),
        )

    def _item(self, item: int, index: int, sure: bool) -> ListedItem:
        audit = self.catalogue
        value, low, high = (float(part[item]) for part in audit.reliability(index))
        return ListedItem(
            *self.contents.named(str(audit.items[item])),
            pairs=int(audit.pairs[item]),
            weight=float(audit.weights[item, index]),
            weight_std=float(audit.weight_deviations[item, index]),
            reliability=value,
            low=low,
            high=high,
            contradicted=float(audit.contradicted[item, index]),
            contradicted_low=float(audit.contradicted_low[item, index]),
            contradicted_high=float(audit.contradicted_high[item, index]),
            confidence=float(audit.confidence[item]),
            sure=sure,
        )

    @cached_property
    def statistics(self) -> tuple[WeightStatistics, ...]:
        """The statistics of the weights of each run."""
        return tuple(one.statistics() for one in self.weights)

    @cached_property
    def relations(self) -> tuple[WeightRelation, ...]:
        """The correlations of the weights of each modality, with intervals over items."""
        audit = self.catalogue
        rows = []
        for index, modality in enumerate(audit.modalities):
            there = audit.choice & audit.present[:, index]
            others = {
                "popularity": audit.pairs.astype(np.float64),
                "feature norm": self.norms[:, index],
                "evidence": audit.evidence[:, index],
                "contradicted": audit.contradicted[:, index],
            }
            for name, values in others.items():
                known = there & np.isfinite(values)
                both = (audit.weights[known, index], values[known])
                found = RankCorrelation.of(*both, seed=self.settings.seed)
                rows.append(WeightRelation(modality, name, *both, found))
        return tuple(rows)

    @cached_property
    def stability(self) -> tuple[WeightStability, ...]:
        """How far the seeds of the audited model agree."""
        return weight_stability([one for one in self.weights if one.label == self.label])

    def as_plain(self) -> dict[str, Any]:
        """Return it as it stands in `reliability.json`."""
        return {
            "dataset": self.dataset,
            "label": self.label,
            "seeds": list(self.seeds),
            "modalities": list(self.catalogue.modalities),
            "settings": asdict(self.settings),
            "audit": {
                "items": len(self.catalogue.items),
                "pairs": int(self.catalogue.pairs.sum()),
                "ranked_by": self.catalogue.ranked_by,
                "min_pairs": self.settings.min_pairs,
                "modalities": [asdict(part) for part in self.modalities],
            },
            "models": [asdict(one) for one in self.statistics],
            "relations": [one.as_plain() for one in self.relations],
            "stability": [asdict(one) for one in self.stability],
        }


def audit_runs(
    runs: Sequence[tuple[str, TrainedRun]],
    label: str,
    audited: Sequence[TrainedRun],
    contents: ItemContents,
    settings: AuditSettings,
) -> LearnedAudit:
    """Audit the catalogue with the runs of one label, all seeds together.

    Weights are means over the seeds, and the evidence counts the triplets of all of them.

    Args:
        runs: all runs with their labels, whose weights are shown beside the audited ones.
        label: of the audited runs.
        audited: the audited runs, one per seed.

    Raises:
        RecBoleMargoError: if a run's files are damaged or its data have changed.
    """
    first = audited[0]
    weights = (
        LearnedWeights.of_run(run, name)
        for name, run in runs
        if run.result.modalities == first.result.modalities
    )
    learned = tuple(one for one in weights if one is not None)
    norms = feature_norms(first.config, first.dataset)
    models = [run.load_model() for run in audited]
    how = (settings.negatives, settings.resamples, settings.seed)
    return LearnedAudit(
        first.result.dataset,
        label,
        tuple(run.seed for run in audited),
        settings,
        CatalogueAudit.of_models(models, first.dataset, *how),
        norms,
        learned,
        contents,
    )


class AsOnDisk:
    """A config under which features stay as they are on disk."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.external_config_dict = config.external_config_dict

    def __getitem__(self, key: str) -> Any:
        return None if key in FEATURE_SETTINGS else self.config[key]


def feature_norms(config: Any, dataset: Any) -> FloatArray:
    """Return the Euclidean length of each item's raw feature row, before any normalisation.

    Returns:
        Lengths [N, M], PAD left out; NaN where an item misses the modality.
    """
    features = load_item_features(AsOnDisk(config), dataset)
    lengths = [torch.linalg.vector_norm(matrix.double(), dim=1) for matrix in features.matrices]
    norms = torch.stack(lengths, dim=1).masked_fill(~features.mask, torch.nan)
    return norms[1:].numpy()
