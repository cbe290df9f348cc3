"""The loss terms of one epoch, collected without waiting for the device at every batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CHECK_EVERY = 20


class EpochLosses:
    """Collects the loss terms of the batches and finds the first that is not a number.

    Args:
        names: names of the loss terms.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._pending: list[Tensor] = []
        self._checked = 0
        self._totals = [0.0] * len(self.names)

    def add(self, terms: Sequence[Tensor]) -> bool:
        """Add the terms of one batch.

        Args:
            terms: scalars, one per name.

        Returns:
            Whether it is time to call `first_failure`.
        """
        self._pending.append(torch.stack([term.detach().float().reshape(()) for term in terms]))
        return len(self._pending) >= CHECK_EVERY

    def first_failure(self) -> tuple[int, str, float] | None:
        """Add up what is pending and return the first bad term as (batch, name, value), if any."""
        if not self._pending:
            return None
        for terms in torch.stack(self._pending).tolist():
            for index, (name, value) in enumerate(zip(self.names, terms, strict=True)):
                if value != value or value in (float("inf"), float("-inf")):
                    return self._checked, name, value
                self._totals[index] += value
            self._checked += 1
        self._pending = []
        return None

    def means(self) -> dict[str, float]:
        """Return the mean of each term over the batches checked so far."""
        batches = max(self._checked, 1)
        return {name: total / batches for name, total in zip(self.names, self._totals, strict=True)}
