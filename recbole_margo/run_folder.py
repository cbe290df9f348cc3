"""The folder of one run: its files, its result record, and where the data of the run lie now."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from recbole_margo.errors import CheckpointError, DataError
from recbole_margo.store.reading import read_json
from recbole_margo.store.writing import write_json

RESULT = "result.json"
RECORD_FORMAT = 1
FINISHED, FAILED = "finished", "failed"
MEBIBYTE = 2**20
# What tables and studies take from the record of every finished run, of whatever version.
REQUIRED = {
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


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """The result of one stage of training; its fields are in the order of `result.json`.

    Args:
        name: name of the stage; `training` for RecBole's own models.
        best_epoch: epoch (from 0) with the best validation score; -1 if none is known.
        best_score: best unrounded validation score; none without validation.
        waited: validations since the best one; this and the next but one only of our trainer.
        valid: unrounded validation metrics of the best epoch.
        test: unrounded test metrics of the best epoch.
    """

    name: str
    epochs: int
    best_epoch: int
    best_score: float | None
    waited: int | None = None
    seconds: float
    finished: bool | None = None
    figures: Mapping[str, float] | None = None
    valid: Mapping[str, float]
    test: Mapping[str, float]

    def as_plain(self) -> dict[str, Any]:
        """Return the fields, without those that are not known."""
        return _without_unknown(self, ("waited", "finished", "figures"))


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The result record of a finished run, `result.json`; its fields are in the order of the file.

    Args:
        eval_protocol: `recbole` or `mmrec`.
        valid_metric: the metric that chose the epoch.
        modalities: those whose features the model used; none if it uses none.
        stages: its stages in their order, of which the last is the result.
        last_stage_is_best: whether no earlier stage is better on validation, where that is known.
        feature_checksums: SHA-256 by feature file.
        peak_memory_bytes: by `host` and `cuda`.
        processes: how many trained it together; none in a record of an early version.
        split: fingerprint of the interactions; none in a record of an early version.
        cold: metrics over items that no model was trained with, see `evaluation.cold_items`; none
            without `cold_items`.
    """

    format: int = RECORD_FORMAT
    status: str = FINISHED
    model: str
    dataset: str
    eval_protocol: str
    seed: int
    device: str = "cpu"
    valid_metric: str
    modalities: list[str] | None = None
    stages: tuple[StageResult, ...]
    last_stage_is_best: bool | None = None
    valid: Mapping[str, float]
    test: Mapping[str, float]
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any]
    feature_checksums: Mapping[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    seconds: float | None = None
    peak_memory_bytes: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    processes: int | None = None
    split: str | None = None
    cold: Mapping[str, Any] | None = None

    @property
    def peak_mib(self) -> float:
        """The most memory that it took, of host or GPU, in MiB; nan if that is not known."""
        return max(self.peak_memory_bytes.values(), default=math.nan) / MEBIBYTE

    def as_plain(self) -> dict[str, Any]:
        """Return the fields, without those that are not known."""
        plain = _without_unknown(self, ("parameters", "seconds", "processes", "split", "cold"))
        return {**plain, "stages": [stage.as_plain() for stage in self.stages]}

    @classmethod
    def from_plain(cls, plain: Any, path: Path) -> RunResult:
        """Return the result that a record of any version holds.

        Args:
            plain: what `as_plain` returned, read from a file that may come from anybody.

        Raises:
            CheckpointError: if the run did not finish, or the record is damaged.
        """
        if not isinstance(plain, dict) or plain.get("status") != FINISHED:
            raise CheckpointError(f"{path} is not of a finished run: train the model again")
        for key, kind in REQUIRED.items():
            if not isinstance(plain.get(key), kind):
                raise CheckpointError(
                    f"{path} is not the record of a run: expected `{key}` of type {kind.__name__}, "
                    f"found {str(plain.get(key))[:60]!r}; delete the file to train the model again"
                )
        if not plain["stages"] or not {"model", "dataset"} <= plain["config"].keys():
            raise CheckpointError(
                f"{path} is not the record of a run: expected `stages`, and `model` and `dataset` "
                "in `config`; delete the file to train the model again"
            )
        try:
            stages = tuple(StageResult(**_known(StageResult, stage)) for stage in plain["stages"])
        except (TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{path} is not the record of a run: a stage in `stages` is damaged ({error}); "
                "delete the file to train the model again"
            ) from error
        return cls(**{**_known(cls, plain), "stages": stages})


@dataclass(frozen=True)
class FailedRun:
    """The record of a run that failed."""

    model: str
    error: str

    status = FAILED

    def as_plain(self) -> dict[str, Any]:
        """Return the fields as a plain mapping."""
        return {"status": FAILED, **asdict(self)}


RunOutcome = RunResult | FailedRun


def finished_runs(outcomes: Iterable[RunOutcome]) -> list[RunResult]:
    """Return the results among some outcomes."""
    return [outcome for outcome in outcomes if isinstance(outcome, RunResult)]


def _without_unknown(record: Any, names: Container[str]) -> dict[str, Any]:
    """Return the fields of a record in their order, those that are named only where known."""
    values = {each.name: getattr(record, each.name) for each in fields(record)}
    return {key: value for key, value in values.items() if key not in names or value is not None}


def _known(kind: type[Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    return {name.name: plain[name.name] for name in fields(kind) if name.name in plain}


class _Inside:
    """The path of a file or folder in a `RunFolder`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: RunFolder, owner: type[RunFolder]) -> Path:
        return folder.path / self._name


@dataclass(frozen=True)
class RunFolder:
    """The files of one run of one model."""

    path: Path
    result = _Inside(RESULT)
    # The best epoch of the last stage.
    checkpoint = _Inside("checkpoint.pth")
    # The state after the last epoch, from which an interrupted run goes on.
    last_checkpoint = _Inside("checkpoint-last.pth")
    # The test metrics of every user.
    per_user = _Inside("per_user.npz")
    # The modality weights of every item, of models that learn them, and their histograms.
    weights = _Inside("weights.npz")
    weights_figure = _Inside("weights.png")
    log = _Inside("train.log")
    tensorboard = _Inside("tensorboard")

    def stage_checkpoint(self, stage: str | None) -> Path:
        """Return the best epoch of a stage before the last one; none: of the last one."""
        return self.checkpoint if stage is None else self.path / f"checkpoint-{stage}.pth"

    @property
    def is_finished(self) -> bool:
        """Whether there is a result."""
        return self.result.is_file()

    @property
    def is_begun(self) -> bool:
        """Whether there is a result, or a state from which to go on."""
        return self.is_finished or self.last_checkpoint.is_file()

    def read_result(self) -> RunResult:
        """Read the result record, which may come from anybody.

        Raises:
            CheckpointError: if there is none, it is damaged, or the run did not finish.
        """
        try:
            plain = read_json(self.result)
        except (OSError, DataError) as error:
            raise CheckpointError(
                f"{self.result} does not hold the record of a finished run: {error}; finish the "
                "run with `recbole-margo train --resume=`"
            ) from error
        return RunResult.from_plain(plain, self.result)

    def write_result(self, result: RunResult) -> None:
        """Write the result record."""
        write_json(self.result, result.as_plain())


def with_current_paths(values: Mapping[str, Any], run_folder: Path) -> dict[str, Any]:
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
