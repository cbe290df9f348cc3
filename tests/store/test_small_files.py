"""Small JSON files from a stranger: bounded, and refused by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataset_converters.downloads import DownloadLock
from recbole_margo.errors import CheckpointError, DataError
from recbole_margo.store.manifest import FeatureManifest
from recbole_margo.store.reading import JSON_BYTES, read_json
from recbole_margo.studies.comparison.command import COMPARISON
from recbole_margo.studies.comparison.compare import follow_resumed, resume_comparison
from recbole_margo.studies.robustness.command import ROBUSTNESS
from recbole_margo.studies.runs.trained_run import TrainedRun
from recbole_margo.studies.sweep.command import SWEEP
from recbole_margo.studies.tuning.command import TUNING

HOSTILE = {
    "deep lists": ("[" * 200_000, "brackets in brackets"),
    "deep objects": ('{"a":' * 200_000, "brackets in brackets"),
    "a long number": ("9" * 5_000, "does not parse"),
    "a key twice": ('{"x": {"seed": 1, "seed": 2}}', "the key 'seed' twice"),
    "no JSON": ("{", "does not parse"),
    "nothing": ("", "does not parse"),
}
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "run": ("run.json", resume_comparison),
    "followed run": ("run.json", lambda folder: follow_resumed(folder, {})),
    "comparison": ("comparison-plan.json", COMPARISON.resume),
    "sweep": ("comparison-plan.json", SWEEP.resume),
    "search": ("tuning-plan.json", TUNING.read),
    "robustness": ("robustness-plan.json", ROBUSTNESS.read),
    "record": ("result.json", TrainedRun.read),
    "features": ("toy.features.json", lambda folder: FeatureManifest.read(folder, "toy")),
    "downloads": ("lock.json", lambda folder: DownloadLock.read(folder / "lock.json")),
}
OTHER_FORMS = (
    '{"status": "finished"}',
    '{"status": "finished", "model": "BPR", "dataset": ["toy"]}',
    "[]",
    "3",
    "null",
    '"text"',
    "[[1]]",
    '{"models": 5}',
    '{"entries": 5}',
)


@pytest.mark.parametrize(("text", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_json_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "given.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_json(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 200


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(JSON_BYTES + 1)
    with pytest.raises(DataError, match="at most 16,384 KiB"):
        read_json(path)


@pytest.mark.parametrize("target", ["fifo", "/dev/zero"])
def test_what_is_no_regular_file_is_not_waited_for(target: str, tmp_path: Path) -> None:
    path = tmp_path / "given.json"
    if target == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(target)
    with pytest.raises(DataError, match="expected a file, found a"):
        read_json(path)


def test_values_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "given.json"
    path.write_text('{"a": [1, 2.5, null, {"b": "é"}], "c": NaN}', encoding="utf-8")
    value = read_json(path)
    assert value["a"] == [1, 2.5, None, {"b": "é"}]
    assert value["c"] != value["c"]


@pytest.mark.parametrize(("name", "reader"), READERS.values(), ids=READERS)
def test_every_reader_refuses_hostile_json(
    name: str, reader: Callable[[Path], Any], tmp_path: Path
) -> None:
    for text in [text for text, _ in HOSTILE.values()] + list(OTHER_FORMS):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises((CheckpointError, DataError)):
            reader(tmp_path)


@pytest.mark.parametrize(("name", "reader"), READERS.values(), ids=READERS)
def test_no_reader_waits_for_a_fifo(
    name: str, reader: Callable[[Path], Any], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises((CheckpointError, DataError)):
        reader(tmp_path)
