"""What the command line asks of every measurement."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How often and how long to measure.

    Attributes:
        repeats: rounds in which all contenders are measured in turn.
        steps: steps of training that are timed where an epoch of the naive reference would be long.
        full: whether to train whole epochs of the naive reference too.
        threads: threads that torch uses.
    """

    repeats: int = 3
    steps: int = 10
    full: bool = False
    threads: int = 1

    def on(self, device: str) -> Options:
        """Return the options for a device; a GPU takes little of the naive reference's time."""
        if device == "cpu":
            return self
        return dataclasses.replace(self, repeats=1, steps=min(self.steps, 5))
