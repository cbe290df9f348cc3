"""Several models on one split, in one table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_margo.command_line import one_line
from recbole_margo.config import Config
from recbole_margo.errors import CheckpointError, ConfigError
from recbole_margo.output_folder import locked_folder, output_folder
from recbole_margo.registry import expand_names
from recbole_margo.report.files import write_texts
from recbole_margo.run import resume_run, run_config
from recbole_margo.run_folder import RunFolder
from recbole_margo.settings.processes import SWITCHES, check_other_machines
from recbole_margo.store.reading import read_json
from recbole_margo.store.writing import write_json
from recbole_margo.studies.comparison.records import comparison_document
from recbole_margo.studies.runs.entry import Entry, build_configs, merged_settings
from recbole_margo.studies.runs.run_many import check_results, run_entry
from recbole_margo.training.processes import torchrun_rank

PLAN = "run.json"


def compare(
    models: Sequence[str],
    dataset: str = "ml-100k",
    config_files: Sequence[str] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    output_dir: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Train models one after another on the same split and write one table.

    A value of the files or of `config_dict` goes to every model that knows its key. A model that
    fails is reported, and the others go on.

    Args:
        models: names of models, ours or RecBole's; `all` stands for ours, BPR and LightGCN.
        dataset: name of a dataset.
        config_files: YAML files.
        config_dict: values by key.
        output_dir: folder of the run; default `runs/<time>-<dataset>`.

    Returns:
        One result record per model; `status` is `finished` or `failed`.

    Raises:
        RecBoleMargoError: on a bad model name or key or a missing dataset, before anything is
            trained.
    """
    settings = merged_settings(config_files, config_dict)
    plan = {"models": expand_names(models), "dataset": dataset, "settings": settings}
    configs = _configs(plan)
    with output_folder(output_dir, dataset) as folder, locked_folder(folder):
        if (folder / PLAN).is_file():
            raise ConfigError(
                f"{folder} already holds a run: continue it with --resume={folder}, "
                "or name another --output_dir"
            )
        write_json(folder / PLAN, plan)
        return _run_all(configs, folder)


def resume_comparison(
    folder: str | Path, switches: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Continue an interrupted comparison: finished models are kept, the others are trained.

    Args:
        folder: the run's folder.
        switches: `world_size`, `ip` and `port` again, where it has processes on other machines.

    Returns:
        One result record per model.

    Raises:
        CheckpointError: if the folder holds no run.
        ConfigError: it names other machines, or other switches than it had are given.
    """
    root = Path(folder)
    try:
        plan = read_json(root / PLAN)
        configs = _configs(plan)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{root} does not hold a run that can be resumed: {one_line(error)}"
        ) from error
    _check_switches(plan["settings"], switches or {}, root)
    check_results(root / name for name in configs)
    with locked_folder(root):
        return _run_all(configs, root)


def _check_switches(stored: Mapping[str, Any], said: Mapping[str, Any], folder: Path) -> None:
    check_other_machines(stored, said, folder)
    if any(stored.get(key) != value for key, value in said.items()):
        raise ConfigError(
            f"the models in {folder} go on with the processes that they had: leave out "
            f"--{', --'.join(said)}, or continue one model with other processes, "
            f"--resume={RunFolder(folder / 'MODEL').last_checkpoint}"
        )


def _configs(plan: Mapping[str, Any]) -> dict[str, Config]:
    return build_configs(Entry.of_models(plan["models"]), plan["dataset"], plan["settings"])


def _run_all(configs: Mapping[str, Config], root: Path) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for name, config in configs.items():
        try:
            records.append(run_entry(name, config, root / name).as_plain())
        except KeyboardInterrupt:
            logging.getLogger().warning("Continue all models with --resume=%s", root)
            raise
        write_json(root / "comparison.json", records)
        _write_table(records, root)
    return records


def _write_table(records: Sequence[dict[str, Any]], root: Path) -> None:
    """Write the table so far; a record that it cannot show must not cost the others theirs."""
    try:
        text = comparison_document(records)
    except Exception as error:
        logging.getLogger().error(
            "The table cannot be written (%s: %s); the records are in comparison.json",
            type(error).__name__,
            one_line(error),
        )
        return
    write_texts(root, {"comparison.md": text})


def follows(settings: Mapping[str, Any]) -> bool:
    """Tell whether process 0, which writes the files, is elsewhere.

    Args:
        settings: values by key; `group_offset` counts the processes of the machines before this.
    """
    return torchrun_rank() > 0 or bool(settings.get("group_offset") or settings.get("offset"))


def follow(
    models: Sequence[str],
    dataset: str,
    settings: Mapping[str, Any],
    output_dir: str | Path | None = None,
) -> bool:
    """Take part in the training of models, in the order in which process 0 trains them.

    Args:
        models: names of models, the same as process 0 has.
        dataset: name of the dataset.
        settings: values by key.
        output_dir: folder of the run; runs that were finished or interrupted there are continued
            as process 0 continues them, and nothing is written.

    Returns:
        Whether no model failed.
    """
    configs = build_configs(Entry.of_models(expand_names(models)), dataset, settings)
    switches = {key: settings[key] for key in SWITCHES if key in settings}
    root, well = Path(output_dir or "runs"), True
    for name, config in configs.items():
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


def follow_resumed(path: str | Path, switches: Mapping[str, Any]) -> bool:
    """Take part in an interrupted run that process 0 continues from the same files.

    Args:
        path: the run's folder or a model's `checkpoint-last.pth`, which all machines must see.
        switches: this machine's `group_offset` and the like.

    Returns:
        Whether no model failed.

    Raises:
        CheckpointError: if there is no such run.
    """
    root = Path(path)
    if not root.is_dir():
        resume_run(root, switches)
        return True
    try:
        plan = read_json(root / PLAN)
        settings = {**plan["settings"], **switches}
        check_other_machines(plan["settings"], switches, root)
        models, dataset = plan["models"], plan["dataset"]
    except ConfigError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{root} does not hold a run that can be resumed: {error}") from error
    return follow(models, dataset, settings, root)
