"""Vectors that are kept beside the dataset, by what they were made of."""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import DataError
from recbole_margo.store.numpy_archive import read_archive
from recbole_margo.store.writing import replacing

FOLDER = ".encodings"
FLUSH_SECONDS = 30.0
FLUSH_BYTES = 1 << 26


class EncodingCache:
    """The vectors of one encoder by the SHA-256 of the content, in files that only ever are added.

    The files lie in `<dataset folder>/.encodings/<identity of the encoder>/`. They may be removed
    at any time; what is needed is then encoded again.
    """

    def __init__(self, dataset_folder: Path, identity: str) -> None:
        """Read what is there; a damaged file is removed.

        Args:
            dataset_folder: folder of the dataset.
            identity: identity of the encoder.
        """
        self.folder = dataset_folder / FOLDER / identity[:32]
        # Where a link leads there may be other people's files.
        self._elsewhere = self.folder.is_symlink() or self.folder.parent.is_symlink()
        self._vectors: dict[bytes, NDArray[np.float32]] = {}
        self._new: dict[bytes, NDArray[np.float32]] = {}
        self._flushed = time.monotonic()
        for path in sorted(self.folder.glob("*.npz")):
            self._read(path)

    def get(self, digest: bytes) -> NDArray[np.float32] | None:
        """Return the vector [D] of the content with this SHA-256, or None."""
        return self._vectors.get(digest)

    def add(self, digest: bytes, vector: NDArray[np.float32]) -> None:
        """Remember a vector [D]; it is on disk after the next `flush`, which comes by itself."""
        self._vectors[digest] = self._new[digest] = vector
        size = len(self._new) * vector.nbytes
        if size >= FLUSH_BYTES or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is new, whole or not at all."""
        self._flushed = time.monotonic()
        if not self._new:
            return
        keys = np.frombuffer(b"".join(self._new), dtype=np.uint8).reshape(len(self._new), -1)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{hashlib.sha256(keys.tobytes()).hexdigest()[:32]}.npz"
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, keys=keys, vectors=np.stack(list(self._new.values())))
        self._new = {}

    def _read(self, path: Path) -> None:
        try:
            arrays = read_archive(path, ["keys", "vectors"])
            keys, vectors = arrays["keys"], arrays["vectors"]
            whole = (
                keys.dtype == np.uint8
                and vectors.dtype == np.float32
                and keys.shape == (len(vectors), hashlib.sha256().digest_size)
                and vectors.ndim == 2
            )
        except DataError:
            whole = False
        if not whole:
            removed = not self._elsewhere
            if removed:
                path.unlink(missing_ok=True)
            logging.getLogger().warning(
                "%s is damaged and was %s; what it held is encoded again.",
                path,
                "removed" if removed else "left, because a link leads there",
            )
            return
        self._vectors.update(zip((key.tobytes() for key in keys), vectors, strict=True))
