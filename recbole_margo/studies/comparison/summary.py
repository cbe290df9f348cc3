"""The calculation of a comparison: means, tests over users, slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.evaluation.per_user import PerUserMetrics
from recbole_margo.evaluation.significance import compare_paired, holm
from recbole_margo.evaluation.slices import make_slices, slice_recall
from recbole_margo.run_folder import RunFolder
from recbole_margo.studies.comparison.cold import compare_cold_items
from recbole_margo.studies.comparison.result import ComparedModel, Comparison, Slice, UserTest
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.studies.runs.trained_run import dataset_facts
from recbole_margo.studies.wording import EvaluatedParts, epochs_text

MEBIBYTE = 2**20
Records = Mapping[str, Mapping[int, Mapping[str, Any]]]
PerSeed = Mapping[int, PerUserMetrics]


def summarize(
    plan: Mapping[str, Any], entries: Sequence[Entry], records: Records, root: Path
) -> Comparison:
    """Return what came out of a comparison.

    Tests compare the per-user metrics of two entries, each averaged over the seeds that both
    finished, so that a user counts once however many seeds there are.

    Args:
        plan: dataset, seeds, reference and settings.
        entries: the entries.
        records: result record by label and seed.
        root: folder of the comparison.
    """
    finished = [
        record
        for of_label in records.values()
        for record in of_label.values()
        if record["status"] == "finished"
    ]
    metrics = list(finished[0]["test"]) if finished else []
    per_user = {entry.label: _per_user(entry, records[entry.label], root) for entry in entries}
    return Comparison(
        dataset=plan["dataset"],
        eval_protocol=finished[0]["eval_protocol"] if finished else None,
        split=" ".join(sorted({record["split"] for record in finished})),
        seeds=tuple(plan["seeds"]),
        valid_metric=finished[0]["valid_metric"] if finished else None,
        absent_parts=tuple(EvaluatedParts.of_records(finished).absent),
        reference=plan["reference"],
        settings=dict(plan["settings"]),
        metrics=tuple(metrics),
        models=tuple(_model(entry, records[entry.label], metrics) for entry in entries),
        tests={metric: _tests(per_user, plan["reference"], metric) for metric in metrics},
        slices=tuple(_slices(per_user, finished)),
        cold=compare_cold_items(records),
    )


def _per_user(entry: Entry, of_seeds: Mapping[int, Mapping[str, Any]], root: Path) -> PerSeed:
    results = {}
    for seed, record in of_seeds.items():
        file = RunFolder(entry.run_folder(root, seed)).per_user
        # Metrics that are no averages over users leave no such file.
        if record["status"] == "finished" and file.is_file():
            results[seed] = PerUserMetrics.load(file)
    return results


def _model(
    entry: Entry, of_seeds: Mapping[int, Mapping[str, Any]], metrics: Sequence[str]
) -> ComparedModel:
    done = [record for record in of_seeds.values() if record["status"] == "finished"]
    values = {metric: tuple(record["test"][metric] for record in done) for metric in metrics}
    return ComparedModel(
        label=entry.label,
        model=entry.model,
        settings=dict(entry.settings),
        status="finished" if done else "failed",
        errors={
            str(seed): record["error"]
            for seed, record in of_seeds.items()
            if record["status"] != "finished"
        },
        values=values,
        valid=tuple(record["stages"][-1]["best_score"] for record in done),
        mean={name: float(np.mean(column)) if column else None for name, column in values.items()},
        std={
            name: float(np.std(column, ddof=1)) if len(column) > 1 else None
            for name, column in values.items()
        },
        seconds=tuple(record["seconds"] for record in done),
        best_epochs=tuple(epochs_text(record) for record in done),
        peak_memory_mib=max(
            (max(record["peak_memory_bytes"].values()) / MEBIBYTE for record in done),
            default=None,
        ),
    )


def _tests(per_user: Mapping[str, PerSeed], reference: str, metric: str) -> tuple[UserTest, ...]:
    found = {}
    for label, results in per_user.items():
        seeds = [seed for seed in results if seed in per_user[reference]]
        if label == reference or not seeds or metric not in results[seeds[0]].metrics:
            continue
        ours = _mean_over_seeds([results[seed] for seed in seeds], metric)
        theirs = _mean_over_seeds([per_user[reference][seed] for seed in seeds], metric)
        found[label] = compare_paired(ours, theirs)
    corrected = zip(
        holm([pair.wilcoxon_p for pair in found.values()]),
        holm([pair.bootstrap_p for pair in found.values()]),
        strict=True,
    )
    return tuple(
        UserTest(label=label, **vars(pair), wilcoxon_holm=wilcoxon, bootstrap_holm=bootstrap)
        for (label, pair), (wilcoxon, bootstrap) in zip(found.items(), corrected, strict=True)
    )


def _mean_over_seeds(results: Sequence[PerUserMetrics], metric: str) -> NDArray[np.float64]:
    """Return the metric of each user [N], users in the order of their tokens."""
    columns = [result.metrics[metric][np.argsort(result.users)] for result in results]
    mean: NDArray[np.float64] = np.mean(columns, axis=0)
    return mean


def _slices(per_user: Mapping[str, PerSeed], finished: Sequence[Mapping[str, Any]]) -> list[Slice]:
    measured = {label: results for label, results in per_user.items() if results}
    if not measured:
        return []
    first = next(iter(next(iter(measured.values())).values()))
    metric = _recall_of_selection(first.metrics, finished[0]["valid_metric"].lower())
    if metric is None:
        return []
    k = int(metric.split("@")[1])
    facts = dataset_facts(finished)
    parts = {
        label: [(result, make_slices(result, *facts)) for result in results.values()]
        for label, results in measured.items()
    }
    rows = []
    for index, part in enumerate(make_slices(first, *facts)):
        values = {
            label: float(np.mean([slice_recall(one, of[index], k).mean() for one, of in results]))
            for label, results in parts.items()
        }
        users = len(np.unique(first.pair_user[part.pairs]))
        rows.append(
            Slice(
                kind=part.kind,
                name=part.name,
                metric=metric,
                users=users,
                pairs=int(part.pairs.sum()),
                values=values,
            )
        )
    return rows


def _recall_of_selection(metrics: Mapping[str, Any], selected_by: str) -> str | None:
    """Return the recall at the cut-off of selection, or else at the largest there is."""
    recalls = [name for name in metrics if name.startswith("recall@")]
    same_cut_off = f"recall@{selected_by.split('@')[-1]}"
    return same_cut_off if same_cut_off in recalls else (recalls[-1] if recalls else None)
