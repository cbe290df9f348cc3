"""RecBole's switches, torchrun's variables, and who does which share."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_margo.config import Config
from recbole_margo.errors import ConfigError, TrainingError
from recbole_margo.settings.processes import ProcessGroup
from recbole_margo.training.processes import Processes, device_of, under_torchrun

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


class Switches(dict):
    """A config that knows the switches alone; like RecBole's, it has None for what is missing."""

    def __missing__(self, key: str) -> None:
        return None


@given(st.integers(0, 1000), st.integers(1, 20))
def test_shares_cover_all_rows_once_and_are_equal_but_for_one(rows, count):
    shares = [Processes(rank, count).share_of(rows) for rank in range(count)]
    assert [row for share in shares for row in range(rows)[share]] == list(range(rows))
    sizes = [share.stop - share.start for share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        ({}, ProcessGroup()),
        ({"nproc": 2}, ProcessGroup(2, 2)),
        ({"nproc": 2, "world_size": -1}, ProcessGroup(2, 2)),
        ({"nproc": 2, "port": "5678"}, ProcessGroup(2, 2, port=5678)),
        (
            {"nproc": 2, "world_size": 4, "ip": "here", "port": 1, "group_offset": 2},
            ProcessGroup(2, 4, 2, "here", 1),
        ),
        (
            {"nproc": 1, "world_size": 2, "ip": "here", "port": 1, "offset": 1},
            ProcessGroup(1, 2, 1, "here", 1),
        ),
    ],
    ids=str,
)
def test_the_switches_are_recboles(switches, expected):
    assert ProcessGroup.of_config(Switches(switches)) == expected


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"nproc": 0}, "`nproc` must be a whole number, 1 or more, found 0"),
        ({"nproc": 2.5}, "`nproc` must be a whole number"),
        ({"nproc": True}, "`nproc` must be a whole number"),
        ({"world_size": "two"}, "`world_size` must be a whole number"),
        ({"nproc": 2, "world_size": 1}, "needs world_size=2 or more, found 1"),
        ({"nproc": 2, "world_size": 3, "group_offset": 2}, "needs world_size=4 or more"),
        ({"nproc": 2, "world_size": 4}, "--ip=ADDRESS --port=NUMBER"),
        ({"nproc": 2, "port": "high"}, "`port` must be a number"),
        ({"nproc": 2, "port": 70000}, "`port` must be a number up to 65535"),
        ({"group_offset": -1}, "`group_offset` must be"),
    ],
    ids=str,
)
def test_switches_that_do_not_fit_are_refused(switches, message):
    with pytest.raises(ConfigError, match=message):
        ProcessGroup.of_config(Switches(switches))


def test_a_config_checks_its_switches():
    with pytest.raises(ConfigError, match="needs world_size"):
        Config("BPR", "ml-100k", config_dict={"nproc": 3, "world_size": 2})


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"2 processes .* need a GPU each.*--gpu_id=0,1"):
        device_of({"device": "cuda", "gpu_id": "0"}, 0, 2)


def test_every_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of({"device": "cuda", "gpu_id": "0,1"}, 1, 2) == torch.device("cuda", 1)


def test_on_the_cpu_every_process_has_the_same_device():
    assert device_of({"device": "cpu"}, 3, 4).type == "cpu"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        (TORCHRUN, True),
        ({**TORCHRUN, "WORLD_SIZE": "1"}, False),
        ({"WORLD_SIZE": "8"}, False),
    ],
    ids=["nothing", "all", "one process", "a scheduler's size alone"],
)
def test_torchrun_is_known_by_its_variables(variables, expected, monkeypatch):
    monkeypatch.setattr("os.environ", variables)
    assert under_torchrun() is expected


def test_one_process_meets_nobody():
    alone = Processes()
    assert alone.is_first and alone.gathered("x") == ["x"]
    alone.wait()
    alone.require_same({"anything": 1})


def test_different_data_are_named(monkeypatch):
    monkeypatch.setattr(
        Processes, "gathered", lambda self, facts: [facts, facts, {**facts, "split": "b" * 99}]
    )
    with pytest.raises(TrainingError, match="the split of process 2 is not that of process 0"):
        Processes(0, 3).require_same({"split": "a", "model": "BPR"})
