"""The learned weight of each modality of each item, as a table that outlives the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray

from recbole_margo.errors import CheckpointError
from recbole_margo.report import clean
from recbole_margo.report.figures import COLORS, HATCHES, STYLE, panel_grid, write_figure
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
        found = [(name, self._with_choice(index)) for index, name in enumerate(self.modalities)]
        parts = [f"{name} {of.mean():.3f} ± {of.std():.3f}" for name, of in found if len(of)]
        return ", ".join(parts) or "no item has a choice"

    def draw(self, path: Path, title: str) -> None:
        """Draw the distribution of each modality's weight over the items that have a choice.

        Args:
            path: the file; its ending chooses PNG, SVG or PDF.
        """
        with matplotlib.rc_context(STYLE):
            count, bins = len(self.modalities), np.linspace(0.0, 1.0, BINS + 1).tolist()
            figure, panels = panel_grid(count, count, 3.4, 0.0, sharey=True)
            figure.set_figwidth(1.0 + 3.2 * count)
            for index, (panel, modality) in enumerate(zip(panels, self.modalities, strict=True)):
                values = self._with_choice(index)
                color, hatch = COLORS[index % len(COLORS)], HATCHES[index % len(HATCHES)]
                panel.hist(values, bins, color=color, edgecolor="white", hatch=hatch)
                about = "no item has a choice"
                if len(values):
                    about = f"mean {values.mean():.2f}, n = {len(values)}"
                    panel.axvline(values.mean(), color="black", linestyle="--", linewidth=1.2)
                panel.set(title=f"{clean(modality)} ({about})", xlabel="weight (share of 1)")
                panel.set_xlim(0.0, 1.0)
            panels[0].set_ylabel("items with two or more modalities")
            figure.suptitle(title)
            write_figure(path, figure, path.suffix[1:])

    def _with_choice(self, index: int) -> NDArray[np.float32]:
        """Return the weights of a modality where there are others; alone it weighs 1."""
        choice = self.present.sum(axis=1) > 1
        values: NDArray[np.float32] = self.weights[choice & self.present[:, index], index]
        return values
