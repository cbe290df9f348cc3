"""The figures of an epoch that MARGO's second stage reports."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class ReliabilityStatistics:
    """Sums over the triplets of an epoch, kept on the device until they are asked for."""

    def __init__(self) -> None:
        # Added to in place, so that a captured step adds to them too.
        self._sums: Tensor | None = None
        self._triplets: Tensor | None = None

    def add(self, trust: Tensor) -> None:
        """Count a batch.

        Args:
            trust: confidence c [B].
        """
        trust = trust.detach()
        if self._sums is None or self._triplets is None or self._sums.device != trust.device:
            self._sums = trust.new_zeros(2)
            self._triplets = trust.new_zeros((), dtype=torch.long)
        self._sums += torch.stack([trust.sum(), (trust == 0).float().sum()])
        self._triplets += len(trust)

    def pop(self, weights: Tensor, mask: Tensor, modalities: Sequence[str]) -> dict[str, float]:
        """Return the figures of the epoch and start anew.

        Args:
            weights: item weights w [I, M].
            mask: which items have which modality [I, M].

        Returns:
            Mean and standard deviation of each modality's weight over the items that have it and
            another one, as in `ItemWeights`; the mean confidence and the share of triplets without
            any, by name.
        """
        figures: dict[str, float] = {}
        several = mask.sum(dim=1) > 1
        for name, column, present in zip(modalities, weights.T, mask.T, strict=True):
            column = column[several & present]
            if not len(column):
                continue
            figures[f"weight_mean/{name}"] = float(column.mean())
            figures[f"weight_std/{name}"] = float(column.std(unbiased=False))
        if self._sums is not None and self._triplets is not None and self._triplets:
            (total, zero), count = self._sums.tolist(), int(self._triplets)
            figures["confidence_mean"] = total / count
            figures["confidence_zero_share"] = zero / count
            self._sums.zero_()
            self._triplets.zero_()
        return figures
