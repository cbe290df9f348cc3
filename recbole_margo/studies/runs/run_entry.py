"""One run of a comparison, which may have finished, failed or been interrupted before."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from recbole_margo.command_line import one_line
from recbole_margo.config import Config
from recbole_margo.errors import DataError, RecBoleMargoError
from recbole_margo.run import resume_run, run_config
from recbole_margo.studies.runs.stored_record import read_record
from recbole_margo.training.launch import SWITCHES

RESULT = "result.json"
LAST_CHECKPOINT = "checkpoint-last.pth"
LOG = "train.log"


def run_entry(label: str, config: Config, folder: Path) -> dict[str, Any]:
    """Train and test unless that is done, going on where an interrupted run stopped.

    Args:
        label: name of the entry, for the record of a failure.
        config: its config.
        folder: its folder.

    Returns:
        The result record, or one whose status is `failed`.
    """
    last = folder / LAST_CHECKPOINT
    try:
        if (folder / RESULT).is_file():
            return read_record(folder / RESULT)
        if not last.is_file():
            return run_config(config, folder)
        given = config.external_config_dict
        return resume_run(last, {key: given[key] for key in SWITCHES if key in given})
    except Exception as error:
        # One model's failure, whatever it is, must not cost the others their results.
        reason = f"{type(error).__name__}: {one_line(error)}"
        if not isinstance(error, (RecBoleMargoError, DataError)):
            log = folder / LOG
            where = f"; the traceback is in {log}" if log.is_file() else ""
            logging.getLogger().error("%s failed: %s%s", label, reason, where)
        return {"status": "failed", "model": label, "error": reason}


def check_results(folders: Iterable[Path]) -> None:
    """Look whether the records of the runs that have finished can be read.

    Args:
        folders: folders of runs.

    Raises:
        CheckpointError: if one is damaged.
    """
    for folder in folders:
        if (folder / RESULT).is_file():
            read_record(folder / RESULT)
