"""The base of the encoders of single items, and the error of an item that has none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import FeatureError


class UnreadableContentError(FeatureError):
    """The text, image or sound of one item cannot be read; the item then misses the modality."""


class Encoder(ABC):
    """Turns the content of one item into one vector, whatever the other items are.

    Attributes:
        identity: hash of all that decides on the vectors: weights, preparation, pooling. Vectors of
            encoders with the same identity are interchangeable.
        batch_size: items a batch unless the user says otherwise.
    """

    identity: str
    description: str
    batch_size: int = 32

    @abstractmethod
    def prepare(self, content: bytes) -> Any:
        """Decode one item's content; called from several threads.

        Args:
            content: the bytes of the file, or the text in UTF-8.

        Raises:
            UnreadableContentError: the content is damaged, empty or of another kind.
        """

    @abstractmethod
    def encode(self, batch: Sequence[Any]) -> NDArray[np.float32]:
        """Encode prepared items.

        Args:
            batch: [B] what `prepare` returned.

        Returns:
            [B, D].
        """
