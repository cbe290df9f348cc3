"""The part in a run of the processes that leave its files to others."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_margo.errors import CheckpointError, ConfigError
from recbole_margo.registry import expand_names
from recbole_margo.run import resume_run, run_config
from recbole_margo.run_folder import RunFolder
from recbole_margo.settings.processes import SWITCHES, check_other_machines
from recbole_margo.store.reading import read_json
from recbole_margo.studies.comparison.compare import PLAN
from recbole_margo.studies.runs.entry import Entry, build_configs
from recbole_margo.training.processes import torchrun_rank


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
