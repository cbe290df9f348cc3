"""How long it takes until a model stands: `python -m benchmarks.startup --shape=electronics`.

Two starts of MARGO, each in a fresh process. The second finds the graphs that the first has kept
(`graph_cache`). Processor time stands beside the time that passed: on a busy machine it says more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch

from benchmarks.machine import machine
from benchmarks.shapes import SHAPES
from benchmarks.shown import cells, duration
from benchmarks.workload import Workload, check_device, make_dataset
from recbole_margo.errors import RecBoleMargoError
from recbole_margo.report.document import Table, table_text

STARTS = ("first start", "second start")


class Laps:
    """Seconds and processor seconds from one part of a start to the next."""

    def __init__(self) -> None:
        self.parts: dict[str, tuple[float, float]] = {}
        self._before = perf_counter(), process_time()

    def ended(self, part: str) -> None:
        """Note that a part has ended."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        now = perf_counter(), process_time()
        self.parts[part] = now[0] - self._before[0], now[1] - self._before[1]
        self._before = now


def start(workload: Workload, cache: str) -> dict[str, tuple[float, float]]:
    """Load and split the data and build the model and its trainer; return the seconds of the parts.

    Args:
        workload: the data.
        cache: the folder of graphs.
    """
    laps = Laps()
    from recbole.utils import init_seed

    from recbole_margo.data.protocol import load_dataset, prepare_loaders, split_fingerprint
    from recbole_margo.training.checkpoint import TrainingData
    from recbole_margo.training.outputs import tensorboard_in
    from recbole_margo.training.trainer import MultimodalTrainer

    config = workload.config({**workload.last_stage(), "graph_cache": cache})
    laps.ended("imports and config")
    dataset = load_dataset(config)
    laps.ended("reading")
    loaders = prepare_loaders(config, dataset, config.model_class)
    split_fingerprint(*loaders)
    laps.ended("splitting")
    init_seed(config["seed"], config["reproducibility"])
    model = config.model_class(config, loaders[0]._dataset).to(config["device"])
    laps.ended("features, graphs and model")
    with tensorboard_in(workload.checkpoints):
        MultimodalTrainer(config, model)
        TrainingData.of(model, loaders[0])
    laps.ended("trainer")
    return laps.parts


def main(arguments: Sequence[str] | None = None) -> int:
    """Time two starts, print a table and write `startup.json`; return 0, or 2 on bad input.

    Args:
        arguments: the words; None takes those of the process.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", allow_abbrev=False)
    add = parser.add_argument
    add("--shape", default="baby", choices=SHAPES, help="size of the data (baby)")
    add("--device", default="cpu", choices=("cpu", "cuda"), help="where (cpu)")
    add("--output_dir", type=Path, help="folder of data and figures (runs/startup-SHAPE-DEVICE)")
    add("--workload", help=argparse.SUPPRESS)
    add("--cache", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.workload:
        parts = start(Workload.from_json(options.workload), options.cache)
        sys.stdout.write(json.dumps(parts) + "\n")
        return 0
    folder = options.output_dir or Path("runs") / f"startup-{options.shape}-{options.device}"
    folder = folder.resolve()
    try:
        check_device(options.device)
        shape, dataset = make_dataset(SHAPES[options.shape], folder / "data")
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            found = _two_starts(
                Workload(shape, folder / "data", dataset, "MARGO", options.device, Path(temporary))
            )
    except (RecBoleMargoError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    about = machine()
    (folder / "startup.json").write_text(json.dumps({"machine": about, "starts": found}, indent=2))
    title = f"Until MARGO stands, {options.shape}, on {about.get('gpu', about['cpu'])}"
    sys.stdout.write(f"\n{title}\n\n{table_text(table(found, title))}\n")
    return 0


def _two_starts(workload: Workload) -> dict[str, Any]:
    words = [sys.executable, "-m", "benchmarks.startup", f"--workload={workload.as_json()}"]
    words.append(f"--cache={workload.checkpoints / 'graphs'}")
    found = {}
    for name in STARTS:
        child = subprocess.run(  # noqa: S603  our own module
            words, check=True, stdout=subprocess.PIPE, text=True
        )
        found[name] = json.loads(child.stdout.strip().rpartition("\n")[2])
    return found


def table(found: dict[str, Any], title: str) -> Table:
    """Return the parts of both starts, a row each, and their sums."""
    rows = []
    for part in [*found[STARTS[0]], "all"]:
        row = [part]
        for name in STARTS:
            parts = found[name]
            own = [parts[part]] if part != "all" else list(parts.values())
            row += [duration(sum(each[which] for each in own)) for which in (0, 1)]
        rows.append(cells(*row))
    headers = ("part", *(f"{name}{kind}" for name in STARTS for kind in ("", ", processor")))
    return Table(title, headers, tuple(rows))


if __name__ == "__main__":
    sys.exit(main())
