"""What MARGO's second stage reports of an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class ReliabilityStatistics:
    """Sums over the triplets of an epoch, kept on the device until they are asked for."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None
        self._triplets = 0

    def add(self, trust: Tensor) -> None:
        """Count a batch.

        Args:
            trust: confidence c [B].
        """
        trust = trust.detach()
        sums = torch.stack([trust.sum(), (trust == 0).float().sum()])
        self._sums = sums if self._sums is None else self._sums + sums
        self._triplets += len(trust)

    def pop(self, weights: Tensor, modalities: Sequence[str]) -> dict[str, float]:
        """Return the figures of the epoch and start anew.

        Args:
            weights: item weights w [I, M].
            modalities: names of the modalities.

        Returns:
            Mean and standard deviation of each modality's weight over the items, the mean
            confidence and the share of triplets without any, by name.
        """
        figures: dict[str, float] = {}
        for name, column in zip(modalities, weights.T, strict=True):
            figures[f"weight_mean/{name}"] = float(column.mean())
            figures[f"weight_std/{name}"] = float(column.std(unbiased=False))
        if self._sums is not None:
            total, zero = self._sums.tolist()
            figures["confidence_mean"] = total / self._triplets
            figures["confidence_zero_share"] = zero / self._triplets
        self._sums, self._triplets = None, 0
        return figures
