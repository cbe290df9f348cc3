"""The result record of a run, read from a folder that may come from anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_margo.errors import CheckpointError, DataError
from recbole_margo.store.reading import read_json

# What tables and studies take from every record.
FINISHED = {
    "model": str,
    "dataset": str,
    "eval_protocol": str,
    "seed": int,
    "valid_metric": str,
    "config": dict,
    "stages": list,
    "valid": dict,
    "test": dict,
}


def read_record(path: Path) -> dict[str, Any]:
    """Read `result.json`.

    Args:
        path: the file.

    Returns:
        The record of a finished run.

    Raises:
        CheckpointError: if there is none, it is damaged, or the run did not finish.
    """
    try:
        record = read_json(path)
    except (OSError, DataError) as error:
        raise CheckpointError(
            f"{path} does not hold the record of a finished run: {error}; finish the run with "
            "`recbole-margo train --resume=`"
        ) from error
    if not isinstance(record, dict) or record.get("status") != "finished":
        raise CheckpointError(f"{path} is not of a finished run: train the model again")
    for key, kind in FINISHED.items():
        if not isinstance(record.get(key), kind):
            raise CheckpointError(
                f"{path} is not the record of a run: expected `{key}` of type {kind.__name__}, "
                f"found {str(record.get(key))[:60]!r}; delete the file to train the model again"
            )
    if not record["stages"] or not {"model", "dataset"} <= record["config"].keys():
        raise CheckpointError(
            f"{path} is not the record of a run: expected `stages`, and `model` and `dataset` in "
            "`config`; delete the file to train the model again"
        )
    return record
