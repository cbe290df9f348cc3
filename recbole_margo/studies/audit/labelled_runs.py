"""The runs of a folder by the names that their comparison gave them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole_margo.errors import CheckpointError, ConfigError
from recbole_margo.store.plain import from_plain
from recbole_margo.store.reading import read_json
from recbole_margo.studies.audit.learned_weights import learns_item_weights
from recbole_margo.studies.comparison.command import COMPARISON
from recbole_margo.studies.comparison.plan import ABLATIONS, FULL_MODEL, ComparisonPlan
from recbole_margo.studies.runs.entry import Entry
from recbole_margo.studies.runs.trained_run import TrainedRun, find_runs


def labelled_runs(folder: str | Path) -> list[tuple[str, TrainedRun]]:
    """Return the finished runs of a folder with their labels, such as `w/o nograd`.

    Args:
        folder: as in `find_runs`.

    Raises:
        CheckpointError: if there is no run, or the comparison's plan is damaged.
    """
    root = Path(folder)
    runs = find_runs(root)
    labels: dict[str, str] = {}
    path = root / COMPARISON.file
    if path.is_file():
        try:
            plan = from_plain(ComparisonPlan, read_json(path))
            labels = {entry.folder: entry.label for entry in plan.entries}
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise CheckpointError(f"{path} is not the plan of a comparison: {error}") from error
    return [(labels.get(run.label) or label_of(run), run) for run in runs]


def label_of(run: TrainedRun) -> str:
    """Return what a run of MARGO is called in tables: the name of its ablation, or its folder's.

    Args:
        run: the run.
    """
    ablations = {Entry(label, FULL_MODEL).folder: label for label in ABLATIONS}
    if run.model_name != FULL_MODEL or run.label != FULL_MODEL:
        return ablations.get(run.label, run.label)
    settings = run.result.hyperparameters
    switched = [
        label
        for label, switch in ABLATIONS.items()
        if all(settings[key] == value for key, value in switch.items())
    ]
    return ", ".join(switched) or FULL_MODEL


def audited_runs(
    runs: Sequence[tuple[str, TrainedRun]], label: str | None = None
) -> tuple[str, list[TrainedRun]]:
    """Choose the runs of one label whose weights are audited, one per seed.

    Args:
        runs: runs with their labels.
        label: of the runs; none: `MARGO`, or else the only label whose runs have item weights.

    Returns:
        The label and its runs.

    Raises:
        ConfigError: if there is no such label, or none can be chosen.
        CheckpointError: if the runs were not trained on the same interactions and modalities.
    """
    able = {name: None for name, run in runs if learns_item_weights(run)}
    names = list(able)
    if not names:
        found = ", ".join(dict.fromkeys(name for name, _ in runs))
        raise ConfigError(
            f"expected a run of MARGO with item weights, found {found}: train one with "
            "`recbole-margo train --model=MARGO`"
        )
    if label is None:
        label = FULL_MODEL if FULL_MODEL in names else names[0]
        if len(names) > 1 and label != FULL_MODEL:
            raise ConfigError(f"several runs have item weights: name one of {names} with --label")
    if label not in names:
        raise ConfigError(f"--label must be one of {names}, found {label!r}")
    chosen = [run for name, run in runs if name == label]
    facts = ("dataset", "split", "modalities", "feature_checksums")
    for run in chosen[1:]:
        for fact in facts:
            expected, found = getattr(chosen[0].result, fact), getattr(run.result, fact)
            if found != expected:
                raise CheckpointError(
                    f"{run.folder}: expected the {fact} of {chosen[0].folder} ({expected}), found "
                    f"{found}: give the folder of one run with --run"
                )
    return label, chosen
