"""The service measured with the load generator wrk: `python -m benchmarks.serving`.

One worker answers from a made-up bundle of the size of Amazon Baby, with its access log on. Prints
a table in Markdown: requests a second and latencies at 8 connections, the memory of the process
under load, and how many requests failed while the bundle was swapped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks.generated_graph import generated_splits
from benchmarks.shapes import SHAPES, Shape
from recbole_margo.command_line import run_command
from recbole_margo.errors import RecBoleMargoError
from recbole_margo.report.document import Cell, Table, clean, markdown_table
from recbole_margo.serving.bundle import Block, Bundle, BundleFacts, ModalityReliability
from recbole_margo.serving.bundle_files import write_bundle

MODALITIES = ("image", "text", "audio")
COLUMNS = 64
WARM_UP_SECONDS, READY_SECONDS = 2, 60
MEBIBYTE = 2**20
# How wrk asks for a user at random, and what it prints at the end.
ASKING = """
local path, users = "{path}", {users}
function request()
  local number = math.random(0, users - 1)
  return wrk.format("GET", (path:gsub("USER", tostring(number))))
end
function init(arguments) math.randomseed({seed}) end
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\n{{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "failed": %d}}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""
LISTS = "/recommend?user=USER&n=10"
PATHS = {
    "a list of ten": LISTS,
    "an explanation": "/explain?user=USER&item=7",
    "the page of a user": "/?user=USER",
}


@dataclass(frozen=True)
class Load:
    """What wrk found.

    Attributes:
        requests: how many were answered.
        seconds: how long it asked.
        p50: median latency in milliseconds.
        p99: the latency that 99 % stay below, in milliseconds.
        failed: requests with an error of the connection or a status above 399.
        processor: milliseconds of processor time that the worker took for each.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    failed: int
    processor: float

    @property
    def per_second(self) -> float:
        """Answered requests a second."""
        return self.requests / self.seconds


@dataclass(frozen=True)
class Worker:
    """A process that serves.

    Attributes:
        process: the process.
        address: where it answers.
    """

    process: subprocess.Popen[bytes]
    address: str

    def processor_seconds(self) -> float:
        """Return how much time of processors it has used."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def memory(self) -> float:
        """Return how much resident memory it has, in MiB."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / MEBIBYTE


def made_up_bundle(shape: Shape, seed: int) -> Bundle:
    """Return a bundle of the size of a dataset, with three modalities of 64 columns each."""
    rng = np.random.default_rng(seed)
    width, modalities = COLUMNS * len(MODALITIES), len(MODALITIES)
    splits = generated_splits(shape).values()
    pairs = np.concatenate([table.to_numpy(dtype=np.int64) for table in splits])
    users, items = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].T
    starts = np.searchsorted(users, np.arange(shape.users + 1))
    return Bundle(
        facts=BundleFacts(
            model="MARGO",
            dataset=shape.name,
            seed=seed,
            eval_protocol="recbole",
            metrics={},
            versions={},
            modalities=MODALITIES,
            blocks=tuple(
                Block(name, m * COLUMNS, (m + 1) * COLUMNS) for m, name in enumerate(MODALITIES)
            ),
        ),
        user_ids=tuple(map(str, range(shape.users))),
        item_ids=tuple(map(str, range(shape.items))),
        titles=tuple(f"An item of a catalogue, number {item}" for item in range(shape.items)),
        users=rng.normal(size=(shape.users, width)).astype(np.float32),
        items=rng.normal(size=(shape.items, width)).astype(np.float32),
        seen_starts=starts.astype(np.int64),
        seen_items=items.astype(np.int32),
        fold_in=np.eye(width, dtype=np.float32),
        reliability=ModalityReliability(
            rng.dirichlet(np.ones(modalities), shape.items).astype(np.float32),
            np.ones((shape.items, modalities), bool),
            rng.normal(size=(shape.items, modalities)).astype(np.float32),
            rng.uniform(size=(shape.items, modalities)).astype(np.float32),
        ),
    )


@contextlib.contextmanager
def served(bundle: Path, log: Path) -> Iterator[Worker]:
    """Yield a process that serves; it ends with the block."""
    code = "import sys; from recbole_margo.cli import main; sys.exit(main())"
    words = ["-c", code, "serve", "--bundle", str(bundle), "--port=0"]
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, *words], stderr=file)  # noqa: S603
    try:
        yield Worker(process, _address(process, log))
    finally:
        process.terminate()
        process.wait(timeout=60)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(READY_SECONDS * 10):
        said = log.read_text(encoding="utf-8")
        if process.poll() is not None:
            raise RecBoleMargoError(f"the service ended: {clean(said)}")
        with contextlib.suppress(OSError, IndexError):
            address = re.findall(r"http://[\w.:]+", said)[0]
            urllib.request.urlopen(f"{address}/ready", timeout=5).close()  # noqa: S310
            return address
        time.sleep(0.1)
    raise RecBoleMargoError(f"the service was not ready within {READY_SECONDS} seconds")


def asked(worker: Worker, path: str, users: int, seconds: float, connections: int) -> Load:
    """Ask for users at random with wrk, from one thread of it, and return what it found."""
    before = worker.processor_seconds()
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(ASKING.format(path=path, users=users, seed=1))
        script.flush()
        words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout=10s"]
        found = subprocess.run(  # noqa: S603
            [*words, "-s", script.name, worker.address], capture_output=True, text=True, check=True
        )
    counted = json.loads(found.stdout.splitlines()[-1])
    used = worker.processor_seconds() - before
    return Load(**counted, processor=1000 * used / max(counted["requests"], 1))


def memory_under_load(worker: Worker, users: int, options: argparse.Namespace) -> list[float]:
    """Return the resident memory in MiB at the start, in the middle and at the end of a load."""
    sizes = []
    for _ in range(2):
        sizes.append(worker.memory())
        asked(worker, LISTS, users, options.memory_seconds / 2, options.connections)
    return [*sizes, worker.memory()]


def load_while_swapped(
    worker: Worker, bundles: Sequence[Path], link: Path, log: Path, options: argparse.Namespace
) -> Load:
    """Return what wrk found while a link changed between bundles."""
    users, seconds = SHAPES[options.shape].users, max(options.seconds, options.swaps / 2)
    found: list[Load] = []
    asking = threading.Thread(
        target=lambda: found.append(asked(worker, LISTS, users, seconds, options.connections))
    )
    asking.start()
    for swap in range(options.swaps):
        time.sleep(0.9 * seconds / options.swaps)
        _point(link, bundles[(swap + 1) % len(bundles)])
        worker.process.send_signal(signal.SIGHUP)
        _wait_for_swaps(log, swap + 1)
    asking.join()
    return found[0]


def _wait_for_swaps(log: Path, swaps: int) -> None:
    for _ in range(READY_SECONDS * 10):
        if log.read_text(encoding="utf-8").count("answering from") >= swaps:
            return
        time.sleep(0.1)
    raise RecBoleMargoError(f"expected {swaps} swaps in the service's log, found less")


def _point(link: Path, bundle: Path) -> None:
    temporary = link.with_name(f"{link.name}.new")
    temporary.symlink_to(bundle)
    temporary.replace(link)


def measure(options: argparse.Namespace) -> list[Table]:
    """Measure everything and return it as tables."""
    shape = SHAPES[options.shape]
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        bundles = [root / "0", root / "1"]
        for seed, folder in enumerate(bundles):
            write_bundle(made_up_bundle(shape, seed), folder)
        link, log = root / "current", root / "log"
        link.symlink_to(bundles[0])
        with served(link, log) as worker:
            loads = {}
            for name, path in PATHS.items():
                warm = min(WARM_UP_SECONDS, options.seconds)
                asked(worker, path, shape.users, warm, options.connections)
                loads[name] = asked(worker, path, shape.users, options.seconds, options.connections)
            memory = memory_under_load(worker, shape.users, options)
            swapped = load_while_swapped(worker, bundles, link, log, options)
    loads[f"a list of ten, during {options.swaps} swaps"] = swapped
    return _tables(loads, memory, options)


def _tables(
    loads: Mapping[str, Load], memory: Sequence[float], options: argparse.Namespace
) -> list[Table]:
    shape = SHAPES[options.shape]
    return [
        Table(
            f"Requests of {options.connections} connections to one worker",
            ("request", "a second", "p50, ms", "p99, ms", "failed", "processor, ms each"),
            tuple(
                tuple(
                    map(
                        Cell,
                        (
                            name,
                            f"{load.per_second:,.0f}",
                            f"{load.p50:.1f}",
                            f"{load.p99:.1f}",
                            f"{load.failed} of {load.requests:,}",
                            f"{load.processor:.2f}",
                        ),
                    )
                )
                for name, load in loads.items()
            ),
            (
                f"{shape.users:,} users, {shape.items:,} items, {len(MODALITIES)} modalities of "
                f"{COLUMNS} columns; wrk with one thread, {options.seconds:g} seconds each.",
            ),
        ),
        Table(
            f"Memory of the worker over {options.memory_seconds:g} seconds of lists",
            ("start, MiB", "middle, MiB", "end, MiB"),
            (tuple(Cell(f"{size:.0f}") for size in memory),),
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status.

    Args:
        arguments: the words; none: those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--shape", default="baby", choices=SHAPES, help="size of the bundle (baby)")
    add("--seconds", type=float, default=30, help="of each load (30)")
    add("--memory_seconds", type=float, default=300, help="over which memory is watched (300)")
    add("--connections", type=int, default=8, help="at once (8)")
    add("--swaps", type=int, default=20, help="of the bundle under load (20)")
    options = parser.parse_args(arguments)

    def command() -> int:
        if shutil.which("wrk") is None:
            raise RecBoleMargoError(
                "expected the load generator wrk, found none: apt-get install wrk"
            )
        for table in measure(options):
            sys.stdout.write("\n".join(markdown_table(table)) + "\n")
        return 0

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
