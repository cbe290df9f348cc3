"""What every test relies on."""

from __future__ import annotations

import logging
import os
import random
from pathlib import Path

# Before torch is imported: tests run in parallel, and one thread each gives equal sums every time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

import recbole_margo  # noqa: F401  mends the libraries that RecBole's modules need
from recbole_margo.graph import graph_cache

SEED = 2024

# A busy machine must not fail a test of what is computed by how long it took.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: gzip writes the time, and parallel runs need equal names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def _same_start() -> None:
    """Start every test from the same random numbers, and from what its process began with."""
    # RecBole's SINE switches it on for the whole process when it is imported.
    torch.autograd.set_detect_anomaly(False)
    logging.disable(logging.NOTSET)
    logging.getLogger().setLevel(logging.WARNING)
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of public data sets that may lie beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}")
    return folder


@pytest.fixture
def double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is computed in float32 be computed in float64, for finite differences."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


@pytest.fixture(autouse=True)
def _graphs_are_kept_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Keep the graphs that tests build away from the user's."""
    folder = tmp_path_factory.getbasetemp() / "graphs"
    monkeypatch.setattr(graph_cache, "default_folder", lambda: folder)
