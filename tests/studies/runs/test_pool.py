"""The pool that calls one function many times: here, in processes, and on a Ray cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recbole_margo.errors import ConfigError
from recbole_margo.studies.runs.pool import LostWorkerError, Pool


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Start a Ray cluster of two cores on this machine."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=2, num_gpus=0, include_dashboard=False)
    # Its processes cannot import a test.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield "auto"
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    ray.shutdown()


def described(number: int) -> tuple[int, int, str, str]:
    return number**2, os.getpid(), str(Path.cwd()), os.environ.get("OMP_NUM_THREADS", "")


def test_one_worker_is_this_process_and_calls_when_asked():
    called = []
    results = Pool().run(called.append, [3, 4])
    assert called == []
    assert next(results) == (0, None)
    assert called == [3]


def test_processes_return_every_result_and_share_the_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    results = dict(Pool(2).run(described, [3, 4, 5]))
    assert {index: result[0] for index, result in results.items()} == {0: 9, 1: 16, 2: 25}
    assert os.getpid() not in {result[1] for result in results.values()}
    assert {result[2:] for result in results.values()} == {(str(Path.cwd()), "1")}


def test_a_process_of_an_earlier_pool_works_where_its_caller_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    processes, folders = set(), set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        found = [result for _, result in Pool(2).run(described, [3, 4, 5])]
        processes |= {result[1] for result in found}
        folders |= {result[2] for result in found}
    assert folders == {str(tmp_path / name) for name in ("one", "two")}
    assert len(processes) <= 2  # or this test would show nothing


def test_a_quick_result_does_not_wait_for_a_slow_one():
    def waited(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    assert [index for index, _ in Pool(2).run(waited, [3.0, 0.0])] == [1, 0]


def killed_at_two(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_process_is_named_with_what_to_do():
    with pytest.raises(LostWorkerError, match=r"killed.*continue with fewer workers"):
        list(Pool(2).run(killed_at_two, [1, 2, 3]))


def refusing(number: int) -> int:
    raise ConfigError(f"refused {number}")


def test_an_error_of_the_function_is_raised_as_it_is():
    for workers in (1, 2):
        with pytest.raises(ConfigError, match=r"^refused 1$"):
            list(Pool(workers).run(refusing, [1]))


# A shell's background job, such as a test run may be, ignores Ctrl-C and hands that on.
SLEEPER = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from recbole_margo.studies.runs.pool import Pool
def sleep(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(120)
list(Pool(2).run(sleep, sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(tmp_path: Path, number: int):
    files = [tmp_path / "one", tmp_path / "two"]
    process = subprocess.Popen([sys.executable, "-c", SLEEPER, *map(str, files)])
    try:
        _wait_until(lambda: all(file.is_file() and file.read_text() for file in files))
        process.send_signal(number)
        process.wait(timeout=30)
    finally:
        process.kill()
    for file in files:
        _wait_until(lambda file=file: not _lives(int(file.read_text())))


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_until(holds: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_a_number_of_workers_that_makes_no_sense_is_refused(workers: Any):
    with pytest.raises(ConfigError, match="`workers` must be a positive whole number"):
        next(Pool(workers).run(described, [1]))


def test_a_cluster_without_the_library_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'recbole-margo\[ray\]'"):
        Pool(None, "local")


@pytest.mark.parametrize("workers", [None, 1, 2])
def test_a_cluster_returns_every_result(
    cluster: str, workers: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    results = dict(Pool(workers, cluster).run(described, [3, 4, 5]))
    assert {index: result[0] for index, result in results.items()} == {0: 9, 1: 16, 2: 25}
    assert os.getpid() not in {result[1] for result in results.values()}
    assert {result[2] for result in results.values()} == {str(tmp_path)}


def test_what_a_cluster_loses_is_said_when_the_others_have_finished(cluster: str):
    found = []
    with pytest.raises(LostWorkerError, match="1 of 3 runs were lost on the cluster"):
        for result in Pool(1, cluster).run(killed_at_two, [1, 2, 3]):
            found.append(result)
    assert found == [(0, 1), (2, 3)]


def test_an_error_on_a_cluster_is_raised_as_it_is(cluster: str):
    with pytest.raises(ConfigError, match=r"^refused 1$"):
        list(Pool(1, cluster).run(refusing, [1]))


def test_a_cluster_that_is_not_there_is_refused():
    pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")
    code = (
        "from recbole_margo.studies.runs.pool import Pool\n"
        "from recbole_margo.errors import ConfigError\n"
        "try:\n    list(Pool(1, '127.0.0.1:1').run(print, [1]))\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot reach a Ray cluster at '127.0.0.1:1'" in shown.stdout
