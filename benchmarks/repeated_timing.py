"""Repeated timing of several ways in turn, and what is said about it."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from time import perf_counter
from typing import TypeVar

import torch

Result = TypeVar("Result")

# A contender that has used more than this is not asked again.
LONGEST = 60.0


def now(device: str) -> float:
    """Return the time in seconds when everything asked of a device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return perf_counter()


def timed(run: Callable[[], Result], device: str) -> tuple[float, Result]:
    """Return the seconds that a call took, and what it returned."""
    started = now(device)
    result = run()
    return now(device) - started, result


def in_turn(
    task: str,
    contenders: Mapping[str, Callable[[], Result]],
    repeats: int,
    until: float = inf,
) -> dict[str, list[Result]]:
    """Run each contender in turn, again and again, so that a busy moment hits all alike.

    Args:
        task: what is measured, for the log.
        contenders: by name, what to run.
        repeats: rounds; a contender that has used more than a minute sits out the rest.
        until: when no round begins any more but the first, on the clock `perf_counter`.

    Returns:
        By name, what the runs returned.
    """
    results: dict[str, list[Result]] = {name: [] for name in contenders}
    used = dict.fromkeys(contenders, 0.0)
    for number in range(repeats):
        for name, run in contenders.items():
            if used[name] > LONGEST or (number and perf_counter() > until):
                continue
            logging.getLogger("benchmarks").info(
                "  %s, round %d of %d: %s", task, number + 1, repeats, name
            )
            started = perf_counter()
            results[name].append(run())
            used[name] += perf_counter() - started
    return results


def summary(values: Sequence[float]) -> dict[str, float | int]:
    """Return median, least, largest and number of values."""
    return {
        "median": statistics.median(values),
        "least": min(values),
        "largest": max(values),
        "runs": len(values),
    }


def with_ratios(
    entries: Mapping[str, Mapping[str, float | int]], reference: str
) -> Iterator[tuple[str, Mapping[str, float | int], float | None]]:
    """Yield name, summary and how many times faster than the reference each entry is.

    Args:
        entries: summaries by contender.
        reference: the contender that the others are compared with; none yields no ratio.
    """
    base = entries.get(reference)
    for name, entry in entries.items():
        faster = None if base is None or name == reference else base["median"] / entry["median"]
        yield name, entry, faster
