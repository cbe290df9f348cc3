"""The learned weight of each modality of each item, as a table that outlives the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from recbole_margo.errors import CheckpointError
from recbole_margo.report.figures import COLORS, HATCHES
from recbole_margo.store.numpy_archive import read_archive, write_archive

BINS = 40


@dataclass(frozen=True)
class ItemWeights:
    """Weights by item token.

    Args:
        items: item tokens [I - 1], PAD left out.
        modalities: names of the modalities [M].
        weights: weights [I - 1, M]; rows sum to 1.
        present: presence mask [I - 1, M]; a missing modality weighs 0.
    """

    items: NDArray[np.str_]
    modalities: tuple[str, ...]
    weights: NDArray[np.float32]
    present: NDArray[np.bool_]

    @classmethod
    @torch.no_grad()
    def of_model(cls, model: Any, dataset: Any) -> ItemWeights:
        """Take the weights from a trained MARGO."""
        tokens = dataset.field2id_token[dataset.iid_field][1:].astype(str)
        return cls(
            items=tokens,
            modalities=tuple(model.modalities),
            weights=model.item_weights()[1:].cpu().numpy(),
            present=model.modality_mask[1:].cpu().numpy(),
        )

    def save(self, path: Path) -> None:
        """Write `weights.npz`, whole or not at all, without pickle."""
        arrays = {
            "items": self.items,
            "modalities": np.asarray(self.modalities),
            "weights": self.weights,
            "present": self.present,
        }
        write_archive(path, arrays)

    @classmethod
    def load(cls, path: Path) -> ItemWeights:
        """Read what `save` wrote.

        Raises:
            CheckpointError: if the file is missing or holds something else.
        """
        try:
            stored = read_archive(path)
            return cls(
                items=stored["items"],
                modalities=tuple(stored["modalities"].tolist()),
                weights=stored["weights"],
                present=stored["present"],
            )
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} does not hold item weights: {error}") from error

    def summary(self) -> str:
        """Return mean and standard deviation by modality, over the items that have a choice."""
        choice = self.present.sum(axis=1) > 1
        parts = []
        for index, modality in enumerate(self.modalities):
            values = self.weights[choice & self.present[:, index], index]
            if len(values):
                parts.append(f"{modality} {values.mean():.3f} ± {values.std():.3f}")
        return ", ".join(parts) or "no item has a choice"

    def draw(self, path: Path, title: str) -> None:
        """Draw the distribution of each modality's weight over the items that have a choice.

        Args:
            path: the file; its ending chooses PNG, SVG or PDF.
        """
        count = len(self.modalities)
        figure = Figure(figsize=(1.0 + 3.2 * count, 3.4))
        FigureCanvasAgg(figure)
        # The tick labels 1.0 and 0.0 of neighbouring panels must not run into each other.
        figure.set_layout_engine("constrained", wspace=0.08)
        panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
        bins = np.linspace(0.0, 1.0, BINS + 1)
        # With a single modality an item's weight is 1; so it is where the others are missing.
        choice = self.present.sum(axis=1) > 1
        for index, (panel, modality) in enumerate(zip(panels, self.modalities, strict=True)):
            values = self.weights[choice & self.present[:, index], index]
            color = COLORS[index % len(COLORS)]
            panel.hist(
                values, bins, color=color, edgecolor="white", hatch=HATCHES[index % len(HATCHES)]
            )
            if len(values):
                mean = float(values.mean())
                panel.axvline(mean, color="black", linestyle="--", linewidth=1.2)
                panel.set_title(f"{modality} (mean {mean:.2f}, n = {len(values)})", fontsize=10)
            else:
                panel.set_title(f"{modality} (no item has a choice)", fontsize=10)
            panel.set_xlim(0.0, 1.0)
            panel.set_xlabel("weight (share of 1)")
            panel.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel("items with two or more modalities")
        figure.suptitle(title, fontsize=11)
        figure.savefig(path, dpi=150)
