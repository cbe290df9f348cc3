"""Text encoders of the library sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recbole_margo.encode.encoder import Encoder
from recbole_margo.encode.torch_models import (
    choose_device,
    enough_memory,
    loading,
    short_name,
    weights_hash,
)
from recbole_margo.encode.unreadable_content_error import UnreadableContentError
from recbole_margo.optional import import_optional


class SentenceEncoder(Encoder):
    """A sentence-transformers model, by name or folder; pooling is that of the model.

    Source: Reimers and Gurevych, "Sentence-BERT", EMNLP 2019.
    """

    batch_size = 64

    def __init__(self, name: str, device: str | None = None) -> None:
        """Load the model.

        Args:
            name: name on the Hugging Face hub, or folder.
            device: of torch; None takes a GPU where there is one.

        Raises:
            ConfigError: the model cannot be loaded.
            DataError: sentence-transformers is not installed.
        """
        library = import_optional(
            "sentence_transformers", "sentence-transformers", f"The text encoder {name!r}"
        )
        self._device = choose_device(device)
        with loading(name, "a sentence-transformers model"):
            self._model = library.SentenceTransformer(name, device=str(self._device)).float()
        self.identity = weights_hash(self._model, f"sentence {self._model}")
        self.description = f"sentence-transformers model {short_name(name)}"

    def prepare(self, content: bytes) -> str:
        """Return the text; texts beyond the model's length are cut off by the model."""
        return decode_text(content)

    def encode(self, batch: Sequence[str]) -> NDArray[np.float32]:
        """Return the sentence vectors [B, D]."""
        with enough_memory(len(batch)):
            vectors = self._model.encode(
                list(batch), batch_size=len(batch), show_progress_bar=False, convert_to_numpy=True
            )
        result: NDArray[np.float32] = vectors.astype(np.float32)
        return result


def decode_text(content: bytes) -> str:
    """Return the text of UTF-8 bytes without space around it.

    Raises:
        UnreadableContentError: it is not UTF-8, or there is nothing but space.
    """
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UnreadableContentError(
            f"expected UTF-8, found the byte {content[error.start]:#04x}"
        ) from error
    if not text:
        raise UnreadableContentError("expected a text, found none")
    return text
