"""What finished runs learned, from a folder of them to a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from recbole_margo.errors import ConfigError
from recbole_margo.evaluation.rank_correlation import is_constant
from recbole_margo.output_folder import make_output_folder
from recbole_margo.report.weight_figures import WeightDistribution, weight_comparison_figure
from recbole_margo.studies.audit.audit import CatalogueAudit
from recbole_margo.studies.audit.figures import (
    AXES,
    EvidenceFigure,
    WeightRelation,
    evidence_figure,
    relations_figure,
)
from recbole_margo.studies.audit.item_contents import ItemContents
from recbole_margo.studies.audit.labelled_runs import audited_runs, labelled_runs
from recbole_margo.studies.audit.learned_weights import LearnedWeights
from recbole_margo.studies.audit.report import write_audit_report
from recbole_margo.studies.audit.summary import CSV_COLUMNS, audit_rows, audit_summary
from recbole_margo.studies.audit.weight_relations import (
    feature_norms,
    weight_relations,
    weight_stability,
)
from recbole_margo.studies.runs.trained_run import TrainedRun

RANKED_BY = {
    "evidence": "evidence-based reliability (share of 1)",
    "contradicted": "share of comparisons won",
}


@dataclass(frozen=True)
class AuditSettings:
    """How an audit is made.

    Args:
        items: items that each list shows.
        negatives: sampled negatives per training pair.
        resamples: of the bootstrap over an item's users.
        min_pairs: training pairs that an item needs to be ranked.
        seed: of the sampling and of the bootstrap.
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


def audit_folder(
    folder: str | Path,
    output_dir: str | Path | None = None,
    settings: AuditSettings | None = None,
    label: str | None = None,
    images: Path | None = None,
) -> dict[str, Any]:
    """Show what the MARGO of a folder learned, and audit the catalogue with it.

    Several seeds are audited together: weights are means over the seeds, and the evidence counts
    the triplets of all of them.

    Args:
        folder: of one run, of a run of `train`, or of a comparison.
        output_dir: where the report goes; default `reliability` in the folder.
        settings: how; none: the defaults.
        label: of the runs that are audited; none: `MARGO`, or the only ones that can be.
        images: a folder of images named by item, or a table with their paths.

    Returns:
        The summary, as it is in `reliability.json`.

    Raises:
        RecBoleMargoError: if there is no such run, or its data have changed.
    """
    chosen = settings or AuditSettings()
    chosen.check()
    runs = labelled_runs(folder)
    name, audited = audited_runs(runs, label)
    first = audited[0]
    # The cheap things that can be wrong come before the models.
    contents = ItemContents.find(first.config, _tokens(first), images)
    output = make_output_folder(Path(output_dir) if output_dir else Path(folder) / "reliability")
    weights = _weights(runs, first)
    norms = feature_norms(first.config, first.dataset)
    models = [run.load_model() for run in audited]
    how = (chosen.negatives, chosen.resamples, chosen.seed)
    audit = CatalogueAudit.of_models(models, first.dataset, *how)
    summary = {
        "dataset": first.record["dataset"],
        "label": name,
        "seeds": [run.seed for run in audited],
        "modalities": list(audit.modalities),
        "settings": vars(chosen),
        "audit": audit_summary(audit, contents, chosen.items, chosen.min_pairs),
        "models": [one.statistics() for one in weights],
        "relations": weight_relations(audit, norms, chosen.seed),
        "stability": weight_stability([one for one in weights if one.label == name]),
    }
    write_audit_report(
        output,
        summary,
        CSV_COLUMNS,
        audit_rows(audit, contents, norms, chosen.min_pairs),
        _figures(summary, audit, norms, weights),
        contents.thumbnails(_listed(summary)),
    )
    return summary


def _listed(summary: Mapping[str, Any]) -> list[str]:
    """Return the tokens of the items that the page shows."""
    parts = summary["audit"]["modalities"]
    return [row["item"] for part in parts for row in part["least"] + part["most"]]


def _tokens(run: TrainedRun) -> list[str]:
    dataset = run.dataset
    return [str(token) for token in dataset.field2id_token[dataset.iid_field][1:]]


def _weights(runs: Sequence[tuple[str, TrainedRun]], audited: TrainedRun) -> list[LearnedWeights]:
    """Return the weights of every run with the modalities of the audited one."""
    found = (
        LearnedWeights.of_run(run, label)
        for label, run in runs
        if run.record["modalities"] == audited.record["modalities"]
    )
    return [one for one in found if one is not None]


def _figures(
    summary: Mapping[str, Any],
    audit: CatalogueAudit,
    norms: NDArray[np.float64],
    weights: Sequence[LearnedWeights],
) -> dict[str, Callable[[], Figure | None]]:
    """Return what makes each figure, by name."""
    where = f"{summary['label']} on {summary['dataset']}"
    return {
        "weights": partial(
            weight_comparison_figure,
            _distributions(weights),
            audit.modalities,
            f"Learned modality weights on {summary['dataset']}",
        ),
        "relations": partial(
            relations_figure,
            _relations(summary["relations"], audit, norms),
            f"What the weights of {where} go along with",
        ),
        "evidence": partial(
            evidence_figure,
            _evidence(summary["audit"], audit),
            RANKED_BY[audit.ranked_by],
            f"How sure the audit of {where} is",
        ),
    }


def _distributions(weights: Sequence[LearnedWeights]) -> list[WeightDistribution]:
    """Return the weights by label, those of all seeds together."""
    found = []
    for label in dict.fromkeys(one.label for one in weights):
        seeds = [one for one in weights if one.label == label]
        values = {
            modality: np.concatenate([one.of_modality(index) for one in seeds])
            for index, modality in enumerate(seeds[0].modalities)
        }
        found.append(WeightDistribution(label, seeds[0].rows, len(seeds), values))
    return found


def _relations(
    relations: Sequence[Mapping[str, Any]], audit: CatalogueAudit, norms: NDArray[np.float64]
) -> list[WeightRelation]:
    """Return what is drawn of the relations: those of a value that is not the same for all."""
    drawn = []
    for one in relations:
        index = audit.modalities.index(one["modality"])
        values = {
            "popularity": audit.pairs.astype(np.float64),
            "feature norm": norms[:, index],
            "evidence": audit.evidence[:, index],
        }.get(one["with"])
        if one["with"] not in AXES or values is None:
            continue
        there = audit.choice & audit.present[:, index] & np.isfinite(values)
        if is_constant(values[there]) or is_constant(audit.weights[there, index]):
            continue
        drawn.append(
            WeightRelation(
                one["modality"],
                one["with"],
                audit.weights[there, index],
                values[there],
                one["rho"],
                one["low"],
                one["high"],
            )
        )
    return drawn


def _evidence(found: Mapping[str, Any], audit: CatalogueAudit) -> list[EvidenceFigure]:
    parts = []
    place_of = {str(token): place for place, token in enumerate(audit.items)}
    for index, part in enumerate(found["modalities"]):
        value, low, high = (ends[:, index] for ends in audit.reliability())
        there = np.flatnonzero(np.isfinite(value) & (audit.pairs > 0))
        position = {int(item): number for number, item in enumerate(there)}
        chosen = {
            which: np.array([position[place_of[row["item"]]] for row in part[which]], dtype=np.intp)
            for which in ("least", "most")
        }
        ranked = audit.rankable(index, found["min_pairs"])[there]
        parts.append(
            EvidenceFigure(
                part["modality"],
                audit.pairs[there],
                value[there],
                low[there],
                high[there],
                ranked,
                part["average"],
                chosen,
            )
        )
    return parts
