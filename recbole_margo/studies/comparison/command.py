"""`recbole-margo compare` and `ablate`: several models with several seeds, and tests over users."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recbole_margo.command_line import comma_separated, command_parser
from recbole_margo.config import Settings
from recbole_margo.evaluation.per_user import PerUserMetrics
from recbole_margo.evaluation.significance import compare_paired, holm
from recbole_margo.evaluation.slices import make_slices, slice_recall
from recbole_margo.registry import expand_names
from recbole_margo.run_folder import (
    FAILED,
    FINISHED,
    FailedRun,
    RunFolder,
    RunOutcome,
    RunResult,
    finished_runs,
)
from recbole_margo.studies.comparison.cold import compare_cold_items
from recbole_margo.studies.comparison.plan import PLAN_FILE, ComparisonPlan, ablation_entries
from recbole_margo.studies.comparison.report import comparison_report
from recbole_margo.studies.comparison.result import ComparedModel, Comparison, Slice, UserTest
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.studies.runs.pool import Pool
from recbole_margo.studies.runs.run_many import check_results, run_sharing_stages
from recbole_margo.studies.runs.study import Study, add_run_options, read_seeds
from recbole_margo.studies.runs.trained_run import dataset_facts
from recbole_margo.studies.wording import EvaluatedParts, epochs_text

PerSeed = Mapping[int, PerUserMetrics]
COMPARE_EXAMPLES = """\
examples:
  recbole-margo compare --models=MARGO,DRAGON,LightGCN --seeds=5 --reference=MARGO
  recbole-margo compare --models=all --dataset=baby --seeds='[1, 2, 3]' --eval_protocol=mmrec
  recbole-margo compare --resume=runs/20260101-120000-ml-100k

Every other --key=value goes to each model that knows the key, as in `train`. The split is the same
for all seeds; `--split_seed` chooses another.
"""


def compare_seeds(plan: ComparisonPlan, folder: Path, pool: Pool) -> Comparison:
    """Train what a comparison has not trained yet, and summarise all.

    A seed decides initial values, the order of the batches and the negative samples, never the
    split: that is drawn from `split_seed`, by default RecBole's `seed`. A run that fails is
    reported, and the others go on. Entries that differ only after their first stage train it once,
    with the numbers that each would have had by itself.

    Returns:
        What came out; its plain form is `summary.json`.
    """
    jobs = plan.jobs(folder)
    check_results(job.folder for job in jobs)
    done = run_sharing_stages(jobs, pool)
    outcomes = {
        entry.label: {seed: done[entry.run_folder(folder, seed)] for seed in plan.seeds}
        for entry in plan.entries
    }
    return summarize(plan, outcomes, folder)


COMPARISON = Study(
    "comparison",
    "compare",
    PLAN_FILE,
    ComparisonPlan,
    compare_seeds,
    comparison_report,
)


def summarize(
    plan: ComparisonPlan, outcomes: Mapping[str, Mapping[int, RunOutcome]], root: Path
) -> Comparison:
    """Return what came out of a comparison.

    Tests compare the per-user metrics of two entries, each averaged over the seeds that both
    finished, so that a user counts once however many seeds there are.
    """
    finished = finished_runs(run for of_seeds in outcomes.values() for run in of_seeds.values())
    metrics = list(finished[0].test) if finished else []
    per_user = {
        entry.label: _per_user(entry, outcomes[entry.label], root) for entry in plan.entries
    }
    return Comparison(
        dataset=plan.dataset,
        eval_protocol=finished[0].eval_protocol if finished else None,
        split=" ".join(sorted({run.split or "" for run in finished})),
        seeds=plan.seeds,
        valid_metric=finished[0].valid_metric if finished else None,
        absent_parts=tuple(EvaluatedParts.of_runs(finished).absent),
        reference=plan.reference,
        settings=dict(plan.settings),
        metrics=tuple(metrics),
        models=tuple(_model(entry, outcomes[entry.label], metrics) for entry in plan.entries),
        tests={metric: _tests(per_user, plan.reference, metric) for metric in metrics},
        slices=tuple(_slices(per_user, finished)),
        cold=compare_cold_items(outcomes),
    )


def _per_user(entry: Entry, of_seeds: Mapping[int, RunOutcome], root: Path) -> PerSeed:
    results = {}
    for seed, outcome in of_seeds.items():
        file = RunFolder(entry.run_folder(root, seed)).per_user
        # Metrics that are no averages over users leave no such file.
        if isinstance(outcome, RunResult) and file.is_file():
            results[seed] = PerUserMetrics.load(file)
    return results


def _model(
    entry: Entry, of_seeds: Mapping[int, RunOutcome], metrics: Sequence[str]
) -> ComparedModel:
    done = finished_runs(of_seeds.values())
    values = {metric: tuple(run.test[metric] for run in done) for metric in metrics}
    return ComparedModel(
        label=entry.label,
        model=entry.model,
        settings=dict(entry.settings),
        status=FINISHED if done else FAILED,
        errors={
            str(seed): outcome.error
            for seed, outcome in of_seeds.items()
            if isinstance(outcome, FailedRun)
        },
        values=values,
        valid=tuple(run.stages[-1].best_score for run in done),
        mean={name: float(np.mean(column)) if column else None for name, column in values.items()},
        std={
            name: float(np.std(column, ddof=1)) if len(column) > 1 else None
            for name, column in values.items()
        },
        seconds=tuple(run.seconds for run in done),
        best_epochs=tuple(epochs_text(run) for run in done),
        peak_memory_mib=max((run.peak_mib for run in done), default=None),
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


def _slices(per_user: Mapping[str, PerSeed], finished: Sequence[RunResult]) -> list[Slice]:
    measured = {label: results for label, results in per_user.items() if results}
    if not measured:
        return []
    first = next(iter(next(iter(measured.values())).values()))
    metric = _recall_of_selection(first.metrics, finished[0].valid_metric.lower())
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


def _recall_of_selection(metrics: Iterable[str], selected_by: str) -> str | None:
    """Return the recall at the cut-off of selection, or else at the largest there is."""
    recalls = [name for name in metrics if name.startswith("recall@")]
    same_cut_off = f"recall@{selected_by.split('@')[-1]}"
    return same_cut_off if same_cut_off in recalls else (recalls[-1] if recalls else None)


def compare(arguments: Sequence[str]) -> int:
    """Run `recbole-margo compare` and return its exit status, 1 if any run failed."""
    parser = _parser(
        "compare",
        "Train every model with every seed on the same split; write tables, paired tests over "
        "users against a reference, slices, figures and one HTML report.",
        COMPARE_EXAMPLES,
    )
    parser.add_argument(
        "--models", default="MARGO,DRAGON", help="names, separated by commas, or all (MARGO,DRAGON)"
    )
    options, rest = parser.parse_known_args(arguments)
    names = comma_separated(options.models)
    return _run(options, rest, lambda _: Entry.of_models(expand_names(names)))


def ablate(arguments: Sequence[str]) -> int:
    """Run `recbole-margo ablate` and return its exit status; see `compare`."""
    parser = _parser(
        "ablate",
        "Compare MARGO with the ablations of its paper (w/o weight, w/o L_cal, w/o two-stage, w/o "
        "nograd), with the mean of the modalities (w/o weight, mean), with MARGO on each single "
        "modality, and with DRAGON; report as in `compare`.",
    )
    options, rest = parser.parse_known_args(arguments)
    return _run(options, rest, lambda settings: ablation_entries(options.dataset, settings))


def _parser(verb: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    parser = command_parser(verb, description, epilog)
    add_run_options(parser, "comparison")
    parser.add_argument("--reference", help="whom the others are tested against (the first)")
    return parser


def _run(
    options: argparse.Namespace,
    rest: Sequence[str],
    entries: Callable[[Settings], Sequence[Entry]],
) -> int:
    def make(settings: Settings) -> ComparisonPlan:
        return ComparisonPlan.of(
            entries(settings),
            options.dataset,
            read_seeds(options.seeds),
            settings,
            options.reference,
        )

    return COMPARISON.run_command(options, rest, make)
