"""The learned weight of each modality of each item, as a table that outlives the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_margo.errors import CheckpointError
from recbole_margo.store.numpy_archive import read_archive
from recbole_margo.store.writing import replacing


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
        """Take the weights from a trained MARGO.

        Args:
            model: the model.
            dataset: RecBole's `Dataset`, for the tokens.
        """
        tokens = dataset.field2id_token[dataset.iid_field][1:].astype(str)
        return cls(
            items=tokens,
            modalities=tuple(model.modalities),
            weights=model.item_weights()[1:].cpu().numpy(),
            present=model.modality_mask[1:].cpu().numpy(),
        )

    def save(self, path: Path) -> None:
        """Write `weights.npz`, whole or not at all, without pickle."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                items=self.items,
                modalities=np.asarray(self.modalities),
                weights=self.weights,
                present=self.present,
            )

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
