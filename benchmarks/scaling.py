"""The topic `scaling`: how an epoch grows with interactions and with items."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.contenders import Ours
from benchmarks.options import Options
from benchmarks.repeated_timing import in_turn, summary
from benchmarks.shapes import TINY, Shape
from benchmarks.shown import cells, duration, spread
from benchmarks.workload import Workload, make_dataset
from recbole_margo.report.document import Table

FACTORS = (1, 2, 4, 8, 16)
TINY_FACTORS = (1, 2, 4)
# At 16 times, interactions are about those of Baby.
USERS, ITEMS, TRAIN, BATCH = 1024, 512, 8192, 2048


def series(base: Shape) -> dict[str, list[Shape]]:
    """Return what grows -> the shapes along which it grows, all else constant.

    Users grow with interactions, as they do when a service grows; the items of that series, and
    the interactions of the other, are four times the base.

    Args:
        base: features and settings; a tiny one gives tiny shapes.
    """
    tiny = base.name == TINY.name
    users, items, train, batch = (40, 20, 160, 32) if tiny else (USERS, ITEMS, TRAIN, BATCH)

    def shape(name: str, many: int, more_items: int, more_batch: int = 1) -> Shape:
        return dataclasses.replace(
            base,
            name=f"scaling-{name}",
            users=users * many,
            items=items * more_items,
            train=train * many,
            valid=users * many,
            test=users * many,
            batch=batch * more_batch,
        )

    factors = TINY_FACTORS if tiny else FACTORS
    return {
        "interactions": [shape(f"{f}-4", f, 4) for f in factors],
        "interactions, batch grows alike": [shape(f"{f}-4", f, 4, f) for f in factors],
        "items": [shape(f"4-{f}", 4, f) for f in factors],
    }


def measure(workload: Workload, options: Options) -> dict[str, Any]:
    """Time epochs of the model's last stage along each series.

    Args:
        workload: features, model and device; its own interactions are not used.
        options: how often.

    Returns:
        By series, the sizes, a summary of the seconds of an epoch at each, and the fitted exponent.
    """
    found = {}
    for name, shapes in series(workload.shape).items():
        contenders = {
            f"{shape.users:,} users, {shape.items:,} items": _epoch_of(_at(workload, shape))
            for shape in shapes
        }
        runs = in_turn(f"growing {name}", contenders, options.repeats)
        seconds = [summary(values) for values in runs.values()]
        sizes = [shape.items if name == "items" else shape.train for shape in shapes]
        medians = [float(each["median"]) for each in seconds]
        found[name] = {
            "sizes": sizes,
            "users": [shape.users for shape in shapes],
            "items": [shape.items for shape in shapes],
            "interactions": [shape.train for shape in shapes],
            "steps": [-(-shape.train // shape.batch) for shape in shapes],
            "seconds": seconds,
            "exponent": exponent(sizes, medians),
            "last_exponent": exponent(sizes[-2:], medians[-2:]),
        }
    return {"series": found}


def _at(workload: Workload, shape: Shape) -> Ours:
    shape, dataset = make_dataset(shape, workload.data_path)
    there = dataclasses.replace(workload, shape=shape, dataset=dataset)
    ours = Ours(there, there.last_stage())
    ours.train_steps(2)
    return ours


def _epoch_of(ours: Ours) -> Callable[[], float]:
    return lambda: float(ours.epoch()["seconds"] or 0.0)


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the slope of the logarithm of the seconds over that of the sizes (least squares)."""
    slope, _ = np.polyfit(np.log(np.asarray(sizes, float)), np.log(np.asarray(seconds, float)), 1)
    return float(slope)


def table(result: Mapping[str, Any]) -> Table:
    """Return the epochs, a row per series and size."""
    rows, fits = [], []
    for name, entry in result["series"].items():
        for number, whole in enumerate(entry["seconds"]):
            steps = entry["steps"][number]
            rows.append(
                cells(
                    name,
                    f"{entry['users'][number]:,}",
                    f"{entry['items'][number]:,}",
                    f"{entry['interactions'][number]:,}",
                    steps,
                    duration(whole["median"] / steps),
                    duration(whole["median"]),
                    spread(whole),
                )
            )
        fits.append(
            f"{name}: epoch ~ size^{entry['exponent']:.2f}, over the last doubling "
            f"^{entry['last_exponent']:.2f}."
        )
    return Table(
        "An epoch as the data grow",
        (
            "what grows",
            "users",
            "items",
            "training interactions",
            "steps",
            "a step",
            "an epoch",
            "least to largest",
        ),
        tuple(rows),
        (
            " ".join(fits),
            "A step propagates over the whole graph: it costs a part for the items, whose features "
            "are projected, and a part for users and interactions. At a constant batch the number "
            "of steps grows with the interactions, and so does the second part of each.",
        ),
    )
