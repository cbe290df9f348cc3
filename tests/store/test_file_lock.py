from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from dataset_converters.downloads import DownloadLock
from recbole_margo.store.feature_files import write_features
from recbole_margo.store.manifest import FeatureManifest
from recbole_margo.store.writing import FolderInUseError, locked

HOLDER = """
import sys, time
from pathlib import Path
from recbole_margo.store.writing import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the folder's lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_another_process_is_kept_out_until_the_first_is_killed(tmp_path: Path, holder) -> None:
    with pytest.raises(FolderInUseError, match="another process does"), locked(tmp_path, 0.2):
        raise AssertionError("two at once")
    os.kill(holder.pid, signal.SIGKILL)
    with locked(tmp_path, 10.0):
        pass


def test_a_thread_is_kept_out_and_the_holder_itself_is_not(tmp_path: Path) -> None:
    refused = []

    def other() -> None:
        try:
            with locked(tmp_path, 0.0):
                pass
        except FolderInUseError:
            refused.append(True)

    with locked(tmp_path):
        with locked(tmp_path / ".." / tmp_path.name, 0.0):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        assert refused == [True]
    other()
    assert refused == [True]


def test_an_error_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), locked(tmp_path):
        raise ValueError("mine")
    with locked(tmp_path, 0.0):
        pass


def write_modalities(folder: Path, number: int) -> None:
    generator = np.random.default_rng(number)
    for step in range(6):
        matrix = generator.normal(size=(5 + number, 3)).astype("float32")
        tokens = [f"i{row}" for row in range(5 + number)]
        write_features(folder, "toy", f"own{number}-{step}", matrix, tokens, f"process {number}")
        write_features(folder, "toy", "shared", matrix, tokens, f"process {number}")


def together(work, *arguments) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=(*arguments, n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]


def test_modalities_written_at_once_are_all_there(tmp_path: Path) -> None:
    together(write_modalities, tmp_path)
    modalities = FeatureManifest.read(tmp_path, "toy").modalities
    assert set(modalities) == {"shared", *(f"own{n}-{s}" for n in range(3) for s in range(6))}
    shared = modalities["shared"]
    rows = np.load(tmp_path / shared.file).shape[0]
    tokens = (tmp_path / shared.tokens).read_text().split()
    assert rows == len(tokens) == shared.rows == 5 + int(shared.source[-1])


def pin_files(folder: Path, number: int) -> None:
    lock = DownloadLock.read(folder / "downloads.lock.json")
    for step in range(20):
        file = folder / f"{number}-{step}"
        file.write_text(file.name)
        lock.check(file.name, file, "")


def test_pins_made_at_once_are_all_there(tmp_path: Path) -> None:
    together(pin_files, tmp_path)
    pinned = json.loads((tmp_path / "downloads.lock.json").read_text())
    assert set(pinned) == {f"{number}-{step}" for number in range(3) for step in range(20)}


def test_a_pin_that_another_process_made_first_counts(tmp_path: Path) -> None:
    mine, other = (DownloadLock.read(tmp_path / "downloads.lock.json") for _ in range(2))
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("another")
    other.check("file", tmp_path / "a", "")
    with pytest.raises(ValueError, match="expected the SHA-256"):
        mine.check("file", tmp_path / "b", "")
