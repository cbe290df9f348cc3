"""How many runs are started at a time where memory is short."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from recbole_margo.errors import ConfigError
from recbole_margo.store.dataset_files import write_splits
from recbole_margo.store.feature_files import write_features
from recbole_margo.studies.runs import memory
from recbole_margo.studies.runs.memory import GIB, MIB, Memory, memory_of, pool_that_fits
from recbole_margo.studies.runs.pool import Pool
from recbole_margo.studies.runs.run_many import Job, run_many
from recbole_margo.testing import make_config, random_world


@pytest.fixture
def config(tmp_path):
    return make_config(random_world().write(tmp_path / "data"), "MARGO")


def let_be_free(monkeypatch, host, gpu=0):
    monkeypatch.setattr(memory, "free_memory", lambda device: Memory(host, gpu))


def test_as_many_as_asked_for_start_where_they_fit(config, monkeypatch, caplog):
    let_be_free(monkeypatch, 64 * GIB)
    assert pool_that_fits([config], Pool(3)).workers == 3
    assert not caplog.records


def test_fewer_start_where_they_do_not_fit_and_a_line_says_so(config, monkeypatch, caplog):
    let_be_free(monkeypatch, int(2.5 * memory_of(config).host))
    with caplog.at_level(logging.WARNING):
        assert pool_that_fits([config], Pool(4)).workers == 2
    assert "2 runs at a time in place of 4: a run takes some" in caplog.text


def test_the_memory_of_the_gpu_counts_where_there_is_one(config, monkeypatch, caplog):
    config["device"] = "cuda"
    needed = memory_of(config)
    assert needed.gpu > 500 * MIB
    let_be_free(monkeypatch, 64 * GIB, 3 * needed.gpu + MIB)
    assert pool_that_fits([config], Pool(8)).workers == 3
    assert "of the GPU's" in caplog.text


def test_not_one_fits(config, monkeypatch):
    let_be_free(monkeypatch, 100 * MIB)
    with pytest.raises(
        ConfigError, match=r"--workers=2: a run takes .* free: .* without --workers"
    ):
        pool_that_fits([config], Pool(2))
    assert pool_that_fits([config], Pool(1)).workers == 1, "one run is tried in any case"


def test_the_largest_run_decides(config, tmp_path, monkeypatch):
    large = make_config(random_world().write(tmp_path / "other"), "MARGO", embedding_size=4096)
    assert memory_of(large).host > memory_of(config).host
    let_be_free(monkeypatch, int(2.1 * memory_of(large).host))
    assert pool_that_fits([config, large], Pool(3)).workers == 2


def test_what_a_run_takes_grows_with_the_sizes_on_disk(tmp_path):
    """MARGO at the size of Baby takes 825 MiB, measured (docs/scaling.md)."""
    users, items, rows = 19_445, 7_050, 160_792
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "user_id": np.append(np.arange(users), random.integers(0, users, rows - users)),
            "item_id": np.append(np.arange(items), random.integers(0, items, rows - items)),
        }
    ).astype(str)
    splits = {"train": table[:120_000], "valid": table[120_000:140_000], "test": table[140_000:]}
    folder = tmp_path / "data" / "large"
    folder.mkdir(parents=True)
    write_splits(folder, "large", splits)
    tokens = [str(item) for item in range(items)]
    for name, columns in (("image", 4096), ("text", 384)):
        matrix = np.ones((items, columns), dtype=np.float16)
        write_features(folder, "large", name, matrix, tokens, "ones")
    settings = {
        "benchmark_filename": list(splits),
        "load_col": {"inter": ["user_id", "item_id"]},
        "modalities": ["image", "text"],
        "data_path": str(tmp_path / "data"),
    }
    found = memory_of(memory.Config("MARGO", "large", config_dict=settings))
    assert 0.7 * 825 * MIB < found.host < 1.3 * 825 * MIB


def test_files_that_cannot_be_read_are_left_to_the_run(config, tmp_path):
    for path in (tmp_path / "data").rglob("*.inter"):
        path.unlink()
    assert memory_of(config).host >= memory.LIBRARIES


def test_runs_are_refused_before_the_first_of_them_starts(config, tmp_path, monkeypatch):
    let_be_free(monkeypatch, 100 * MIB)
    jobs = [Job(f"run {i}", config, tmp_path / f"run-{i}") for i in range(2)]
    with pytest.raises(ConfigError, match="--workers=2"):
        run_many(jobs, Pool(2))
    assert not list(tmp_path.glob("run-*"))


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    limit, used = tmp_path / "max", tmp_path / "current"
    monkeypatch.setattr(memory, "CGROUP", (limit, used))
    limit.write_text("3000000\n")
    used.write_text("1000000\n")
    assert memory.free_memory("cpu") == Memory(2_000_000)
    limit.write_text("max\n")
    assert memory.free_memory("cpu").host > 2_000_000
