"""The study of `train`: several models on one split, one after another, in one table."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recbole_margo.command_line import one_line
from recbole_margo.config import Config, Settings
from recbole_margo.errors import ConfigError
from recbole_margo.registry import expand_names
from recbole_margo.report import (
    Bullets,
    Document,
    Section,
    Table,
    cells,
    clean,
    failure_section,
    markdown_page,
    write_texts,
)
from recbole_margo.run import resume_run, run_config
from recbole_margo.run_folder import FailedRun, RunFolder, RunOutcome, RunResult, finished_runs
from recbole_margo.settings.processes import SWITCHES, check_other_machines
from recbole_margo.store.writing import write_json
from recbole_margo.studies.runs.entry import Entry, build_configs, merged_settings
from recbole_margo.studies.runs.pool import Pool
from recbole_margo.studies.runs.run_many import check_results, run_entry
from recbole_margo.studies.runs.study import Study
from recbole_margo.studies.wording import (
    PART_NAMES,
    EvaluatedParts,
    best_number,
    epoch_text,
    epochs_text,
    how_evaluated,
    mean_cell,
    number,
)
from recbole_margo.training.processes import torchrun_rank


def models_table(outcomes: Sequence[RunOutcome]) -> Table:
    """Return one row per model: metrics (best in bold), training time and peak memory.

    The metrics are those of the test, of validation where there was nothing to test.
    """
    finished = finished_runs(outcomes)
    part = EvaluatedParts.of_runs(finished).shown
    values = {id(run): getattr(run, part) if part else {} for run in finished}
    metrics = list(dict.fromkeys(metric for of_run in values.values() for metric in of_run))
    best = {m: best_number((of_run.get(m) for of_run in values.values()), m) for m in metrics}
    headers = ("model", *metrics, "best epochs", "seconds", "peak MiB")
    rows = []
    for outcome in outcomes:
        if isinstance(outcome, FailedRun):
            rows.append(cells(clean(outcome.model), "failed", *[""] * (len(headers) - 2)))
            continue
        of_run = values[id(outcome)]
        shown = (mean_cell(of_run.get(metric), None, best[metric]) for metric in metrics)
        rest = (epochs_text(outcome), number(outcome.seconds, ".1f"), f"{outcome.peak_mib:.0f}")
        rows.append(cells(clean(outcome.model), *shown, *rest))
    if not finished:
        headers, rows = ("model", "status"), [row[:2] for row in rows]
    what = f"{PART_NAMES[part]} metrics" if part else "no metrics"
    notes = ["The test set was scored once per trained model."] if part == "test" else []
    notes += shortfalls(finished)
    return Table(f"{what[0].upper()}{what[1:]}", headers, tuple(rows), tuple(notes))


def failures(outcomes: Sequence[RunOutcome]) -> list[str]:
    """Return one line per model that failed, with the reason."""
    return [
        f"{clean(one.model)} failed: {clean(one.error)}"
        for one in outcomes
        if isinstance(one, FailedRun)
    ]


def shortfalls(finished: Sequence[RunResult]) -> list[str]:
    """Return one line per model whose last stage never reached the first on validation."""
    return [
        f"{clean(run.model)}: no epoch of {run.stages[-1].name} reached the best validation score "
        f"of {run.stages[0].name} ({run.valid_metric.lower()} {number(run.stages[-1].best_score)} "
        f"against {number(run.stages[0].best_score)})."
        for run in finished
        if run.last_stage_is_best is False
    ]


def models_document(outcomes: Sequence[RunOutcome]) -> Document:
    """Return the page with the table, the stages, and how they came about."""
    finished = finished_runs(outcomes)
    stages = [Section(f"Stages of {clean(run.model)}", _stages(run)) for run in finished]
    return Document(
        "Comparison",
        tuple(_conditions(finished)),
        (
            *failure_section(failures(outcomes)),
            Section(None, (models_table(outcomes),)),
            *(section for section in stages if section.parts),
        ),
    )


def _conditions(finished: Sequence[RunResult]) -> Iterator[tuple[str, str]]:
    if not finished:
        return
    first, splits = finished[0], sorted({run.split or "" for run in finished})
    same = "the same for all models" if len(splits) == 1 else "NOT the same for all models"
    yield "Dataset", first.dataset
    yield "Split", f"{', '.join(splits)}: {same}"
    yield "Seed", str(first.seed)
    yield from how_evaluated(
        first.eval_protocol, first.valid_metric, EvaluatedParts.of_runs(finished)
    )
    yield "Modalities", ", ".join(first.modalities or []) or "none"


def _stages(run: RunResult) -> tuple[Bullets, ...]:
    if len(run.stages) < 2:
        return ()
    lines = []
    metric = run.valid_metric.lower()
    for stage in run.stages:
        line = f"{stage.name}: {stage.epochs} epochs, not validated"
        if stage.best_epoch >= 0:
            line = f"{stage.name}: best epoch {epoch_text(stage)} of {stage.epochs}"
        measured = [
            f"{number(values[metric])} on {PART_NAMES[part]}"
            for part, values in (("valid", stage.valid), ("test", stage.test))
            if metric in values
        ]
        lines.append(f"{line}, {metric} {', '.join(measured)}" if measured else line)
    return (Bullets(tuple(lines)),)


@dataclass(frozen=True)
class TrainingPlan:
    """Models that are trained with the same settings.

    Args:
        settings: values by key, for every model that knows them.
    """

    models: tuple[str, ...]
    dataset: str
    settings: Settings = field(default_factory=dict)

    def check(self) -> None:
        """Raise a `RecBoleMargoError` on a bad model name or key or a missing dataset."""
        self.configs()

    def configs(self) -> dict[str, Config]:
        """Return config by name of the model."""
        return build_configs(Entry.of_models(self.models), self.dataset, self.settings)


def compare(
    models: Sequence[str],
    dataset: str = "ml-100k",
    config_files: Sequence[str] | None = None,
    config_dict: Settings | None = None,
    output_dir: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Train models one after another on the same split and write one table.

    A value of the files or of `config_dict` goes to every model that knows its key. A model that
    fails is reported, and the others go on.

    Args:
        models: names of models, ours or RecBole's; `all` stands for ours, BPR and LightGCN.
        config_files: YAML files.
        config_dict: values by key.
        output_dir: folder of the run; default `runs/<time>-<dataset>`.

    Returns:
        One result record per model; `status` is `finished` or `failed`.

    Raises:
        RecBoleMargoError: on a bad model name or key or a missing dataset, before anything is
            trained.
    """
    plan = plan_training(models, dataset, merged_settings(config_files, config_dict))
    return [outcome.as_plain() for outcome in TRAINING.begin(plan, output_dir)]


def plan_training(models: Sequence[str], dataset: str, settings: Settings) -> TrainingPlan:
    """Return the plan to train models of some names, `all` among them."""
    return TrainingPlan(tuple(expand_names(models)), dataset, settings)


def resume_comparison(folder: str | Path, switches: Settings | None = None) -> list[RunOutcome]:
    """Continue an interrupted comparison: finished models are kept, the others are trained.

    Args:
        switches: `world_size`, `ip` and `port` again, where it has processes on other machines.

    Raises:
        CheckpointError: if the folder holds no run.
        ConfigError: it names other machines, or other switches than it had are given.
    """
    root = Path(folder)
    plan = TRAINING.read(root)
    _check_switches(plan.settings, switches or {}, root)
    return TRAINING.go_on(plan, root)


def _check_switches(stored: Settings, said: Settings, folder: Path) -> None:
    check_other_machines(stored, said, folder)
    if any(stored.get(key) != value for key, value in said.items()):
        raise ConfigError(
            f"the models in {folder} go on with the processes that they had: leave out "
            f"--{', --'.join(said)}, or continue one model with other processes, "
            f"--resume={RunFolder(folder / 'MODEL').last_checkpoint}"
        )


def _train(plan: TrainingPlan, root: Path, pool: Pool) -> list[RunOutcome]:
    """Train one model after another in this process, whatever the pool."""
    configs = plan.configs()
    check_results(root / name for name in configs)
    outcomes: list[RunOutcome] = []
    for name, config in configs.items():
        outcomes.append(run_entry(name, config, root / name))
        write_json(root / "comparison.json", [outcome.as_plain() for outcome in outcomes])
        _write_table(outcomes, root)
    return outcomes


TRAINING = Study("run", "train", "run.json", TrainingPlan, _train, shares_folder=True)


def _write_table(outcomes: Sequence[RunOutcome], root: Path) -> None:
    """Write the table so far; a record that it cannot show must not cost the others theirs."""
    try:
        text = markdown_page(models_document(outcomes))
    except Exception as error:
        logging.getLogger().error(
            "The table cannot be written (%s: %s); the records are in comparison.json",
            type(error).__name__,
            one_line(error),
        )
        return
    write_texts(root, {"comparison.md": text})


def follows(settings: Settings) -> bool:
    """Tell whether process 0, which writes the files, is elsewhere.

    Args:
        settings: values by key; `group_offset` counts the processes of the machines before this.
    """
    return torchrun_rank() > 0 or bool(settings.get("group_offset") or settings.get("offset"))


def follow(plan: TrainingPlan, output_dir: str | Path | None = None) -> bool:
    """Take part in the training of models, in the order in which process 0 trains them.

    Args:
        plan: the same that process 0 has, but for this machine's switches.
        output_dir: folder of the run; runs that were finished or interrupted there are continued
            as process 0 continues them, and nothing is written.

    Returns:
        Whether no model failed.
    """
    switches = {key: plan.settings[key] for key in SWITCHES if key in plan.settings}
    root, well = Path(output_dir or "runs"), True
    for name, config in plan.configs().items():
        files = RunFolder(root / name)
        if files.is_finished:
            continue
        try:
            # As in `run_entry`, one model's failure does not cost the others their results.
            if files.is_begun:
                resume_run(files.last_checkpoint, switches)
            else:
                run_config(config, files.path)
        except Exception as error:
            logging.getLogger().error("%s failed: %s: %s", name, type(error).__name__, error)
            well = False
    return well


def follow_resumed(path: str | Path, switches: Settings) -> bool:
    """Take part in an interrupted run that process 0 continues from the same files.

    Args:
        path: the run's folder or a model's `checkpoint-last.pth`, which all machines must see.

    Returns:
        Whether no model failed.

    Raises:
        CheckpointError: if there is no such run.
    """
    root = Path(path)
    if not root.is_dir():
        resume_run(root, switches)
        return True
    plan = TRAINING.read(root)
    check_other_machines(plan.settings, switches, root)
    return follow(replace(plan, settings={**plan.settings, **switches}), root)
