"""`python -m benchmarks`: speed, memory and scale against a naive reference."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import logging
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from benchmarks import evaluation_times, graph_times, peak_memory, quick, scaling, training_times
from benchmarks.benchmark_report import FORMAT, TABLES, earlier_results, write_report
from benchmarks.machine import machine
from benchmarks.options import Options
from benchmarks.shapes import SHAPES
from benchmarks.workload import Workload, check_device, make_dataset
from recbole_margo.errors import DataError, RecBoleMargoError
from recbole_margo.report.document import table_text
from recbole_margo.resources import available_cores

INTERRUPTED = 130
MODELS = ("MARGO", "DRAGON")
TOPICS: dict[str, tuple[Callable[[Workload, Options], dict[str, Any]], str]] = {
    "step": (training_times.measure_steps, "one training step, in its phases"),
    "epoch": (training_times.measure_epochs, "a whole training epoch"),
    "graph": (graph_times.measure, "building the graphs"),
    "evaluate": (evaluation_times.measure, "the full ranking of all users"),
    "memory": (peak_memory.measure, "peak memory, in fresh processes"),
    "scaling": (scaling.measure, "an epoch as interactions and items grow"),
}
DESCRIPTION = (
    "Measure this project against a reference written from the papers the way such models are\n"
    "often published (benchmarks/naive.py): the same loss, computed edge by edge. Both are\n"
    "measured in turn in the same run. Writes benchmarks.md, benchmarks.json and figures; topics\n"
    "measured earlier with the same settings into the same folder are kept.\n\n"
    + "\n".join(f"  {name:9} {what}" for name, (_, what) in TOPICS.items())
    + "\n  all       all of these"
    + "\n  quick     what a card does in three minutes: tests, steps, epochs, rankings, graphs"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the words say, print tables and write the report.

    Args:
        arguments: the words; None takes those of the process.

    Returns:
        0; 2 on bad input; 130 if interrupted.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(words)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("benchmarks").setLevel(logging.INFO)
    threads = options.threads or available_cores()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads), tempfile.TemporaryDirectory() as checkpoints:
            measure = quick.measure if options.topic == "quick" else _measure
            measure(
                options, threads, Path(checkpoints), f"python -m benchmarks {shlex.join(words)}"
            )
    except (RecBoleMargoError, DataError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(
            "Interrupted. What is measured is written; name the topics that are left to go on.\n"
        )
        return INTERRUPTED
    return 0


def _measure(options: argparse.Namespace, threads: int, checkpoints: Path, command: str) -> None:
    check_device(options.device)
    asked = Options(options.repeats, options.steps, options.full, threads).on(options.device)
    default = Path("runs") / f"benchmarks-{options.shape}-{options.model}-{options.device}"
    folder = (options.output_dir or default).resolve()
    shape, dataset = make_dataset(SHAPES[options.shape], folder / "data", options.interactions)
    workload = Workload(shape, folder / "data", dataset, options.model, options.device, checkpoints)
    about = {
        "format": FORMAT,
        "machine": machine(),
        "workload": {
            "shape": dataclasses.asdict(shape),
            "model": options.model,
            "device": options.device,
            "interactions": _origin(options.interactions),
        },
    }
    results = earlier_results(folder, about)
    for topic in TOPICS if options.topic == "all" else [options.topic]:
        logging.getLogger("benchmarks").info("%s: %s", topic, TOPICS[topic][1])
        now = datetime.datetime.now().isoformat(" ", "minutes")
        measured = TOPICS[topic][0](workload, asked)
        results[topic] = {**measured, "command": command, "begun": now}
        files = write_report(folder, about, results)
        table = TABLES[topic](results[topic])
        notes = "\n".join(table.notes)
        sys.stdout.write(f"\n{table.title}\n\n{table_text(table)}\n\n{notes}\n")
        sys.stdout.flush()
    sys.stdout.write("\nwritten: " + ", ".join(str(file) for file in files) + "\n")


def _origin(interactions: Path | None) -> str:
    if interactions is None:
        return "generated with power laws of users and items"
    return f"taken from {interactions.name}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "topic",
        nargs="?",
        default="all",
        choices=[*TOPICS, "all", "quick"],
        help="what to measure (all)",
    )
    add("--shape", default="baby", choices=SHAPES, help="size of the data (baby)")
    add("--device", default="cpu", choices=("cpu", "cuda"), help="where (cpu)")
    add("--model", default="MARGO", choices=MODELS, help="what is trained (MARGO)")
    add(
        "--interactions",
        type=Path,
        metavar="FILE",
        help="real interactions instead of generated ones: tab separated columns userID, itemID "
        "and x_label, which is 0, 1 or 2 for training, validation and test",
    )
    add("--threads", type=_positive, metavar="N", help="threads of torch (all cores)")
    add("--repeats", type=_positive, default=3, metavar="N", help="rounds in turn (3)")
    add(
        "--steps",
        type=_positive,
        default=10,
        metavar="N",
        help="training steps timed a round, and from which an epoch of the naive reference is "
        "extrapolated (10)",
    )
    add("--full", action="store_true", help="train whole epochs of the naive reference too")
    add(
        "--output_dir",
        type=Path,
        metavar="DIR",
        help="folder of the report and of the generated data (runs/benchmarks-SHAPE-MODEL-DEVICE)",
    )
    return parser


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, found {text!r}")
    return number


if __name__ == "__main__":
    sys.exit(main())
