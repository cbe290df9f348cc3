"""`python -m benchmarks quick`: what a machine does with MARGO, in three minutes and one table."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks.contenders import Ours
from benchmarks.machine import machine
from benchmarks.repeated_timing import now, timed
from benchmarks.shapes import SHAPES
from benchmarks.shown import cells, duration
from benchmarks.training_probe import TrainingProbe
from benchmarks.workload import Workload, check_device, make_dataset
from recbole_margo.graph.item_knn import nearest_neighbors
from recbole_margo.graph.user_cooccurrence import strongest_cooccurrences
from recbole_margo.report.document import Table, table_text
from recbole_margo.store.writing import replacing
from recbole_margo.training.stages import StageProgress
from recbole_margo.training.training_batches import training_batches

SHAPES_ON = {"cuda": ("baby", "clothing"), "cpu": ("tiny",)}
TEST_SECONDS = 120
WARM_UP, STEPS, ROUNDS, EPOCHS = 6, 30, 3, 5
STAGE = {"two_stage": False}


@dataclass(frozen=True)
class Measured:
    """One figure.

    Attributes:
        shape: size of the data.
        what: what was timed.
        seconds: median.
        least: of all rounds.
        largest: of all rounds.
    """

    shape: str
    what: str
    seconds: float
    least: float
    largest: float


def measure(options: argparse.Namespace, threads: int, checkpoints: Path, command: str) -> None:
    """Test and measure, and write `quick.json` and a table.

    Args:
        options: `device`, `output_dir` and `shape` of the command line.
        threads: of torch.
        checkpoints: folder for what trainers write.
        command: what was called.
    """
    check_device(options.device)
    started = perf_counter()
    folder = (options.output_dir or Path("runs") / f"benchmarks-quick-{options.device}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    tests = _run_tests() if options.device == "cuda" else None
    found: list[Measured] = []
    about: dict[str, Any] = {"command": command, "machine": machine(), "tests": tests}
    for name in SHAPES_ON[options.device]:
        for each in _of_shape(name, options.device, folder / "data", checkpoints):
            sys.stderr.write(f"  {each.shape}: {each.what} {duration(each.seconds)}\n")
            found.append(each)
            about["seconds"] = perf_counter() - started
            values = {**about, "measured": [dataclasses.asdict(entry) for entry in found]}
            with replacing(folder / "quick.json") as temporary:
                temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    table = _table(found, about)
    notes = "\n".join(table.notes)
    sys.stdout.write(f"\n{table.title}\n\n{table_text(table)}\n\n{notes}\n")


def _run_tests() -> str:
    """Run the tests that need a card, where the checkout has them, and return the last line."""
    root = Path(__file__).resolve().parents[1]
    if not (root / "tests").is_dir() or importlib.util.find_spec("pytest") is None:
        return "no tests here"
    parallel = ["-n", "6"] if importlib.util.find_spec("xdist") else []
    rooms = [f"tests/{room}" for room in ("model", "graph", "training")]
    words = [sys.executable, "-m", "pytest", "-q", "-k", "cuda or captured", *rooms, *parallel]
    try:
        child = subprocess.run(  # noqa: S603  our own tests
            words, cwd=root, capture_output=True, text=True, timeout=TEST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not done after {TEST_SECONDS} s"
    failed = [line for line in child.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return "\n".join([*failed, child.stdout.strip().rpartition("\n")[2]])


def _of_shape(name: str, device: str, data: Path, checkpoints: Path) -> Iterator[Measured]:
    shape, dataset = make_dataset(SHAPES[name], data)
    workload = Workload(shape, data, dataset, "MARGO", device, checkpoints)

    def noted(what: str, values: Sequence[float]) -> Measured:
        return Measured(name, what, statistics.median(values), min(values), max(values))

    took, ours = timed(lambda: Ours(workload, STAGE), device)
    yield noted("data, graphs and model stand", [took])
    yield from (noted(f"build {what}", values) for what, values in _graphs(ours, device))
    for precision in ("highest", "high") if device == "cuda" else ("highest",):
        for graphs in (False, "auto") if device == "cuda" else (False,):
            way = "captured" if graphs else "eager"
            values = _steps(ours, device, graphs, precision)
            yield noted(f"step, {way}, {_words(precision)}", values)
    ours.config["cuda_graphs"] = "auto"
    for precision in ("highest", "high") if device == "cuda" else ("highest",):
        ours.config["matmul_precision"] = precision
        values = _epochs(ours, device)
        yield noted(f"epoch, validation, checkpoint, {_words(precision)}", values)
    ours.evaluate()
    yield noted("full ranking of all users", [ours.evaluate()[0] for _ in range(ROUNDS)])


def _words(precision: str) -> str:
    return "TF32" if precision == "high" else "float32"


def _graphs(ours: Ours, device: str) -> Iterator[tuple[str, list[float]]]:
    model, place = ours.model, torch.device(device)
    parameters = model.hyperparameters
    builds: dict[str, Callable[[], Any]] = {
        "user graph": lambda: strongest_cooccurrences(
            model.interactions, parameters.user_neighbors, place
        ),
        "item graphs": lambda: [
            nearest_neighbors(matrix, model.modality_mask[:, m], parameters.item_neighbors)
            for m, matrix in enumerate(model.features)
        ],
    }
    for what, build in builds.items():
        yield what, [timed(build, device)[0] for _ in range(2)]


def _steps(ours: Ours, device: str, graphs: Any, precision: str) -> list[float]:
    """Return the seconds of a step, the mean of each round."""
    ours.config["cuda_graphs"], ours.config["matmul_precision"] = graphs, precision
    trainer, model = ours.trainer, ours.model
    stage = model.training_stages[-1]
    trainer.progress = [StageProgress(stage)]
    model.begin_stage(stage)
    model.train()
    trainer._build_stage_optimizer({})
    batches = list(training_batches(ours.loaders[0], trainer.device))
    batches = (batches[:-1] or batches) * (1 + (WARM_UP + STEPS) // max(len(batches) - 1, 1))
    take = trainer._step_of_epoch(model.calculate_loss)
    values = []
    with trainer.products():
        for batch in batches[:WARM_UP]:
            take(batch)
        for _ in range(ROUNDS):
            begun = now(device)
            for batch in batches[:STEPS]:
                take(batch)
            values.append((now(device) - begun) / STEPS)
    return values


def _epochs(ours: Ours, device: str) -> list[float]:
    """Return the seconds from one epoch's beginning to the next one's, but the first."""
    ours.trainer.epochs, ours.trainer.eval_step = EPOCHS, 1
    with TrainingProbe(ours.model, device, phases=False) as probe:
        ours.trainer.fit(*ours.loaders[:2], verbose=False, saved=True)
    return [
        after - before for before, after in zip(probe.epochs[1:], probe.epochs[2:], strict=False)
    ]


def _table(found: Sequence[Measured], about: dict[str, Any]) -> Table:
    of = about["machine"]
    rows = tuple(
        cells(each.shape, each.what, duration(each.seconds), duration(each.least)) for each in found
    )
    notes = [
        "MARGO's second stage. An epoch is one after the first: steps, validation of all users and "
        f"the checkpoint. All of it took {about['seconds']:.0f} s."
    ]
    if about["tests"]:
        notes.append(f"tests: {about['tests']}")
    title = f"On {of.get('gpu', of['cpu'])}, torch {of['versions'].get('torch')}"
    return Table(title, ("shape", "what", "time", "least"), rows, tuple(notes))
