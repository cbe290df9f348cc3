"""The topic `memory`: the most memory that a training takes, in a fresh process each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.options import Options
from benchmarks.shown import cells, mebibytes, ratio
from benchmarks.workload import REDUCED
from recbole_margo.errors import RecBoleMargoError
from recbole_margo.report.document import Table
from recbole_margo.resources import peak_memory

OURS, NAIVE = "recbole-margo", "naive reference"
PHASES = ("libraries", "data and model", "training", "evaluation")


def measure(workload: Any, options: Options) -> dict[str, Any]:
    """Train some steps and evaluate, each contender in a process of its own.

    Args:
        workload: the data.
        options: how many steps.

    Returns:
        By contender, the peak in bytes at the end of each phase, of the process and on the device;
        or how it failed.

    Raises:
        RecBoleMargoError: if the process of this project fails.
    """
    from benchmarks.contenders import Ours

    # Reduced features are kept on disk, so that only the first training makes them.
    Ours(workload, workload.last_stage(), REDUCED)
    who = [OURS, *(f"{OURS}, {name}" for name in workload.approximations()), NAIVE]
    return {
        "contenders": {name: _in_child(name, workload, options) for name in who},
        "note": workload.reduction_note(),
    }


def _in_child(who: str, workload: Any, options: Options) -> dict[str, Any]:
    command = [sys.executable, "-m", __name__, who, str(options.steps), str(options.threads)]
    child = subprocess.run(  # noqa: S603 - our own command
        [*command, workload.as_json()],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "OMP_NUM_THREADS": str(options.threads)},
    )
    if child.returncode != 0:
        reason = (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
        if child.returncode < 0:
            reason = f"ended by signal {-child.returncode}, perhaps for want of memory"
        if who == NAIVE:  # which may well need more than there is
            return {"peaks": {}, "note": f"failed, {reason}"}
        raise RecBoleMargoError(f"the memory of {who} could not be measured: {reason}")
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found


def main(who: str, steps: str, threads: str, workload: str) -> None:
    """Train and evaluate one contender and write its peaks, the child's part.

    Args:
        who: one of the contenders.
        steps: how many to train.
        threads: threads of torch.
        workload: what `Workload.as_json` wrote.
    """
    # Imported here, so that what the libraries take is seen before anything else is loaded.
    import torch

    from benchmarks.contenders import Naive, Ours, graphs_as_lists
    from benchmarks.graph_times import fits_in_memory
    from benchmarks.workload import Workload
    from recbole_margo.data.features import load_item_features
    from recbole_margo.data.protocol import load_dataset, recbole_loaders

    torch.set_num_threads(int(threads))
    work = Workload.from_json(workload)
    peaks = {"libraries": peak_memory()}
    note = ""
    contender: Ours | Naive
    if who == NAIVE:
        config = work.config(work.last_stage())
        loaders = recbole_loaders(config, load_dataset(config), config.model_class)
        graphs = None
        if not fits_in_memory(work.shape.users, work.shape.users + work.shape.items, work.device):
            note = "with this project's graphs, because its dense ones do not fit"
            dataset = loaders[0]._dataset
            features = load_item_features(config, dataset)
            parameters = config.model_class.parameters_class.from_config(config, config.model_class)
            graphs = graphs_as_lists(
                dataset, features.matrices, features.mask, features.modalities, parameters
            )
        contender = Naive(work, config, loaders, graphs)
    else:
        approximation = who.removeprefix(OURS).removeprefix(", ") or None
        contender = Ours(work, work.last_stage(), approximation)
    peaks["data and model"] = peak_memory()
    contender.train_steps(int(steps))
    peaks["training"] = peak_memory()
    contender.evaluate()
    peaks["evaluation"] = peak_memory()
    sys.stdout.write(json.dumps({"peaks": peaks, "note": note}) + "\n")


def table(result: Mapping[str, Any]) -> Table:
    """Return the peaks after each phase, a row per contender."""
    entries = result["contenders"]
    base = _peaks(entries[NAIVE])
    rows = []
    for name, entry in entries.items():
        found = _peaks(entry)
        smaller, own = None, None
        if base and name != NAIVE:
            smaller = base["evaluation"] / found["evaluation"]
            own = (base["evaluation"] - base["libraries"]) / (
                found["evaluation"] - found["libraries"]
            )
        sizes = [mebibytes(found.get(phase)) for phase in PHASES]
        rows.append(cells(name, *sizes, ratio(smaller), ratio(own)))
    notes = [
        "The largest resident size of a fresh process up to the end of each phase; the libraries "
        "alone take what the first column says, and the last column leaves them out.",
        result["note"],
        *(f"{name}: {entry['note']}." for name, entry in entries.items() if entry["note"]),
    ]
    cuda = ", ".join(
        f"{name} {mebibytes(entry['peaks']['evaluation']['cuda'])} MiB"
        for name, entry in entries.items()
        if "cuda" in entry["peaks"].get("evaluation", {})
    )
    if cuda:
        notes.append(f"The most that torch had allocated on the GPU: {cuda}.")
    return Table(
        "Peak memory in MiB",
        ("who", *PHASES, "times smaller", "without libraries"),
        tuple(rows),
        tuple(notes),
    )


def _peaks(entry: Mapping[str, Any]) -> dict[str, int]:
    return {phase: peak["host"] for phase, peak in entry["peaks"].items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
