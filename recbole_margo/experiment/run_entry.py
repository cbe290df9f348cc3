"""One run of a comparison, which may have finished, failed or been interrupted before."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from recbole_margo.config import Config
from recbole_margo.errors import RecBoleMargoError
from recbole_margo.experiment.stored_record import read_record
from recbole_margo.run import resume_run, run_config

RESULT = "result.json"
LAST_CHECKPOINT = "checkpoint-last.pth"


def run_entry(label: str, config: Config, folder: Path) -> dict[str, Any]:
    """Train and test unless that is done, going on where an interrupted run stopped.

    Args:
        label: name of the entry, for the record of a failure.
        config: its config.
        folder: its folder.

    Returns:
        The result record, or one whose status is `failed`.

    Raises:
        CheckpointError: if what lies there as the record of the run is none.
    """
    result = folder / RESULT
    if result.is_file():
        return read_record(result)
    last = folder / LAST_CHECKPOINT
    try:
        return resume_run(last) if last.is_file() else run_config(config, folder)
    except Exception as error:
        # One model's failure, whatever it is, must not cost the others their results.
        if not isinstance(error, RecBoleMargoError):
            logging.getLogger().exception("%s failed", label)
        return {"status": "failed", "model": label, "error": f"{type(error).__name__}: {error}"}
