"""What every test relies on."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported: tests run in parallel, and one thread each gives equal sums every time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

import recbole_margo  # noqa: F401  mends the libraries that RecBole's modules need

SEED = 2024


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    """Start every test from the same random numbers and leave torch's switches as they were."""
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of public data sets that may lie beside the checkout."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}")
    return folder
