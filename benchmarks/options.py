"""What the command line asks of every measurement."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import inf
from time import perf_counter

SECONDS_OF_TOPIC = 60.0


@dataclass(frozen=True)
class Options:
    """How often and how long to measure.

    Attributes:
        repeats: rounds in which all contenders are measured in turn.
        steps: steps of training that are timed where an epoch of the naive reference would be long.
        full: whether to train whole epochs of the naive reference too.
        threads: threads that torch uses.
        seconds: after which a topic begins nothing that it can do without; none: never.
    """

    repeats: int = 3
    steps: int = 10
    full: bool = False
    threads: int = 1
    seconds: float | None = None

    def on(self, device: str) -> Options:
        """Return the options for a device; a GPU is lent for a short time."""
        if device == "cpu":
            return self
        return dataclasses.replace(
            self, repeats=1, steps=min(self.steps, 5), seconds=SECONDS_OF_TOPIC
        )

    def until(self) -> float:
        """Return when a topic that begins now has used its time, on the clock `perf_counter`."""
        return inf if self.seconds is None else perf_counter() + self.seconds
