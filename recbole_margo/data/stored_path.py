"""Where the data of a stored run lie now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def with_data_found(values: Mapping[str, Any], run_folder: Path) -> dict[str, Any]:
    """Return stored settings whose `data_path` and `feature_path` lead to the data.

    Args:
        values: the settings of a run, with `dataset`.
    """
    found = dict(values)
    name = str(values["dataset"])
    for key, inside in (("data_path", name), ("feature_path", "")):
        if isinstance(values.get(key), str):
            found[key] = str(find_folder(Path(values[key]), inside, run_folder))
    return found


def find_folder(stored: Path, inside: str, run_folder: Path) -> Path:
    """Return where a folder lies that a run used, from any working directory.

    It is looked for where it was, which for a relative path is below the working directory, and
    then, in case the run was moved or begun elsewhere, beside the run's folder and above.

    Args:
        inside: what must be in it; empty: nothing.

    Returns:
        The folder; as it was named if it is nowhere.
    """
    run = run_folder.resolve()
    tail = Path(stored.name) if stored.is_absolute() else stored
    for folder in (stored, *(above / tail for above in (run, *run.parents))):
        if (folder / inside).is_dir():
            return folder.absolute()
    return stored
