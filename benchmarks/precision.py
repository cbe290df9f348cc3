"""What lower precision and larger batches cost in quality: `python -m benchmarks.precision`.

Trains a model with each setting and several seeds on a dataset with real features, and tabulates
validation and test beside the seconds of an epoch. Made-up data have nothing to be learned, so the
quality of a setting shows on real ones only; without `--dataset` it is RecBole's ml-100k.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.machine import machine
from benchmarks.shown import NOTHING, cells, duration
from benchmarks.workload import check_device
from recbole_margo.config import Config
from recbole_margo.errors import DataError, RecBoleMargoError
from recbole_margo.report.document import Table, table_text
from recbole_margo.run import run_config
from recbole_margo.store.writing import replacing

# Beyond this no run begins, so that a lent card is given back in time.
LONGEST_SECONDS = 150.0
METRIC = "Recall@20"


@dataclass(frozen=True)
class Trained:
    """What one run came to.

    Attributes:
        setting: name of the setting.
        seed: the seed.
        valid: the validation metric of the last stage.
        test: the same on the test set.
        epoch: seconds of an epoch, with validation and checkpoints.
    """

    setting: str
    seed: int
    valid: float
    test: float
    epoch: float


def settings_on(device: str, batch: int) -> dict[str, dict[str, Any]]:
    """Return name -> keys of every setting; TF32 is a GPU's.

    Args:
        device: cpu or cuda.
        batch: the model's own batch.
    """
    half = {"feature_precision": "bfloat16"}
    found: dict[str, dict[str, Any]] = {"float32": {}}
    if device == "cuda":
        found |= {"TF32": {"matmul_precision": "high"}}
    found |= {"features in bfloat16": half}
    if device == "cuda":
        found |= {"TF32, features in bfloat16": {"matmul_precision": "high", **half}}
    return found | {
        f"batches of {batch * factor:,}": {"train_batch_size": batch * factor} for factor in (4, 16)
    }


def measure(
    options: argparse.Namespace, folder: Path, seconds: float = LONGEST_SECONDS
) -> Iterator[Trained]:
    """Train every setting with every seed, seed by seed, until the time is used.

    Args:
        options: of the command line.
        folder: where the runs go.
        seconds: after which no run begins, but for the first.
    """
    common: dict[str, Any] = {"use_gpu": options.device == "cuda", "show_progress": False}
    for key in ("epochs", "data_path"):
        if getattr(options, key) is not None:
            common[key] = getattr(options, key)
    batch = Config(options.model, options.dataset, config_dict=common)["train_batch_size"]
    begun = perf_counter()
    for seed in range(1, options.seeds + 1):
        for name, keys in settings_on(options.device, batch).items():
            if (seed, name) != (1, "float32") and perf_counter() - begun > seconds:
                return
            values = {**common, **keys, "seed": seed, "split_seed": 1}
            config = Config(options.model, options.dataset, config_dict=values)
            result = run_config(config, folder / f"{seed}-{'-'.join(name.split())}")
            if result is None:
                return
            key = METRIC.lower()
            epochs = sum(stage.epochs for stage in result.stages)
            yield Trained(
                name, seed, result.valid[key], result.test[key], result.seconds / max(epochs, 1)
            )


def table(runs: Sequence[Trained], title: str) -> Table:
    """Return means over seeds, a row per setting, in the order in which they were trained."""
    rows = []
    for name in dict.fromkeys(each.setting for each in runs):
        own = [each for each in runs if each.setting == name]
        valid = [each.valid for each in own]
        rows.append(
            cells(
                name,
                duration(statistics.median(each.epoch for each in own)),
                f"{statistics.mean(valid):.4f}",
                " ".join(f"{value:.4f}" for value in valid) if len(valid) > 1 else NOTHING,
                f"{statistics.mean(each.test for each in own):.4f}",
            )
        )
    headers = ("setting", "epoch", f"validation {METRIC}", "by seed", f"test {METRIC}")
    notes = ("An epoch with its validation and checkpoints; the median over seeds.",)
    return Table(title, headers, tuple(rows), notes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write `precision.json`; return 0, or 2 on bad input.

    Args:
        arguments: the words; None takes those of the process.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", allow_abbrev=False)
    add = parser.add_argument
    add("--dataset", default="ml-100k", help="a dataset with features (ml-100k)")
    add("--data_path", help="the folder of datasets")
    add("--model", default="MARGO", help="what is trained (MARGO)")
    add("--device", default="cpu", choices=("cpu", "cuda"), help="where (cpu)")
    add("--seeds", type=int, default=3, help="how many (3)")
    add("--epochs", type=int, help="of a stage at most (the model's own; 3 on the CPU)")
    add("--output_dir", type=Path, help="folder of the figures (runs/precision-DATASET-DEVICE)")
    options = parser.parse_args(arguments)
    if options.epochs is None and options.device == "cpu":
        options.epochs = 3
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    default = Path("runs") / f"precision-{options.dataset}-{options.device}"
    output = (options.output_dir or default).resolve()
    runs: list[Trained] = []
    try:
        check_device(options.device)
        with tempfile.TemporaryDirectory() as folder:
            for each in measure(options, Path(folder)):
                runs.append(each)
                values = {
                    "machine": machine(),
                    "options": vars(options),
                    "runs": [dataclasses.asdict(run) for run in runs],
                }
                output.mkdir(parents=True, exist_ok=True)
                with replacing(output / "precision.json") as temporary:
                    temporary.write_text(json.dumps(values, indent=2, default=str) + "\n")
    except (RecBoleMargoError, DataError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    about = machine()
    shown = table(runs, f"{options.model} on {options.dataset}, {about.get('gpu', about['cpu'])}")
    sys.stdout.write(f"\n{shown.title}\n\n{table_text(shown)}\n\n{shown.notes[0]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
