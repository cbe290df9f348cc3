"""Time and peak memory of the evidence without a recommender, on generated data of real sizes.

python -m benchmarks.evidence_cost baby electronics
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from benchmarks.generated_graph import generated_splits
from benchmarks.shapes import SHAPES, Shape
from recbole_margo.evidence.item_evidence import item_evidence
from recbole_margo.evidence.item_targets import item_targets
from recbole_margo.resources import available_cores, peak_memory

# Columns that show an item, below noise.
SIGNAL = 32
ROWS_WRITTEN_AT_ONCE = 4096


def main() -> None:
    """Measure the named sizes, each in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shapes", nargs="*", metavar="shape", help="baby, sports, ... (baby)")
    parser.add_argument("--columns", type=int, default=4096, help="of the features (4096)")
    parser.add_argument("--folder", help="with the data of one size: what a child process is given")
    options = parser.parse_args()
    if options.folder is not None:
        measure(Path(options.folder))
        return
    if unknown := set(options.shapes) - set(SHAPES):
        parser.error(f"expected {', '.join(sorted(SHAPES))}, found {', '.join(sorted(unknown))}")
    for name in options.shapes or ["baby"]:
        with tempfile.TemporaryDirectory() as folder:
            write(SHAPES[name], options.columns, Path(folder))
            sys.stdout.write(f"{name}, {options.columns} columns, {available_cores()} cores\n")
            sys.stdout.flush()
            subprocess.run(  # noqa: S603 - this module
                [sys.executable, "-m", "benchmarks.evidence_cost", "--folder", folder], check=True
            )


def write(shape: Shape, columns: int, folder: Path) -> None:
    """Write training interactions and features in which many items that share users are alike."""
    train = generated_splits(shape)["train"].astype(int)
    pairs = (train["user_id"].to_numpy(), train["item_id"].to_numpy())
    size = (shape.users, shape.items)
    interactions = sp.csr_matrix((np.ones(len(train)), pairs), size)
    sp.save_npz(folder / "interactions.npz", interactions)
    random = np.random.default_rng(0)
    tastes = random.standard_normal((shape.users, SIGNAL), dtype=np.float32)
    shown = interactions.T @ tastes
    mixing = random.standard_normal((SIGNAL, columns), dtype=np.float32)
    features = np.lib.format.open_memmap(
        folder / "features.npy", "w+", np.float32, (shape.items, columns)
    )
    for start in range(0, shape.items, ROWS_WRITTEN_AT_ONCE):
        rows = (shown[start : start + ROWS_WRITTEN_AT_ONCE] @ mixing).astype(np.float32)
        noise = random.standard_normal(rows.shape, dtype=np.float32)
        features[start : start + ROWS_WRITTEN_AT_ONCE] = rows + 10 * noise
    features.flush()


def measure(folder: Path) -> None:
    """Print what the evidence of one modality costs, and what it found."""
    interactions = sp.csr_matrix(sp.load_npz(folder / "interactions.npz"))
    features = np.load(folder / "features.npy", mmap_mode="r")
    before = peak_memory()["host"]
    wall, processor = time.perf_counter(), time.process_time()
    targets = item_targets(interactions)
    of_targets = time.perf_counter() - wall
    found = item_evidence(interactions, features, np.ones(len(features), bool), targets)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    fitting = found.fitting
    sys.stdout.write(
        f"  {wall:.1f} s, {of_targets:.1f} of it for the targets that all modalities share; "
        f"{processor:.1f} s of processor time\n"
        f"  peak memory of the process {peak_memory()['host'] / 2**20:,.0f} MiB, before "
        f"{before / 2**20:,.0f} MiB\n"
        f"  {fitting.estimate:.2f} [{fitting.low:.2f}, {fitting.high:.2f}] of {fitting.items:,} "
        "rows fit\n"
    )


if __name__ == "__main__":
    main()
