"""Encoders of single items, run in batches and threads; vectors are kept beside the dataset."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_margo.encode.item_source import UnreadableContentError, read_content
from recbole_margo.errors import DataError
from recbole_margo.store.numpy_archive import read_archive, write_archive

Argument = TypeVar("Argument")
Result = TypeVar("Result")

FOLDER = ".encodings"
FLUSH_SECONDS = 30.0
FLUSH_BYTES = 1 << 26


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
        """Return the vectors [B, D] of what `prepare` returned [B]."""


class EncodingCache:
    """The vectors of one encoder by the SHA-256 of the content, in files that only ever are added.

    The files lie in `<dataset folder>/.encodings/<identity of the encoder>/`. They may be removed
    at any time; what is needed is then encoded again.
    """

    def __init__(self, dataset_folder: Path, identity: str) -> None:
        """Read what is there; a damaged file is removed."""
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
        arrays = {"keys": keys, "vectors": np.stack(list(self._new.values()))}
        write_archive(path, arrays, compressed=False)
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


@dataclass
class ItemEncodings:
    """Vectors by item.

    Attributes:
        vectors: item token -> vector [D].
        unreadable: item token -> why it has none.
    """

    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    reused: int = 0


@dataclass(frozen=True)
class _Loaded:
    item: str
    digest: bytes = b""
    prepared: Any = None
    vector: NDArray[np.float32] | None = None
    failure: str = ""


def encode_items(
    encoder: Encoder,
    contents: Mapping[str, str | Path],
    cache: EncodingCache,
    batch_size: int,
    label: str,
) -> ItemEncodings:
    """Encode the contents that the cache does not know.

    Whatever ends this early, Ctrl-C included, what was encoded is in the cache.
    """
    result = ItemEncodings()
    batch: list[_Loaded] = []
    workers = min(16, os.cpu_count() or 1)
    executor = ThreadPoolExecutor(workers)

    def load(entry: tuple[str, str | Path]) -> _Loaded:
        return _load(encoder, cache, *entry)

    try:
        loaded = _map_ahead(executor, load, contents.items(), 2 * batch_size)
        for entry in tqdm(loaded, label, total=len(contents), unit="item", disable=None):
            if entry.failure:
                result.unreadable[entry.item] = entry.failure
            elif entry.vector is not None:
                result.reused += 1
                result.vectors[entry.item] = entry.vector
            else:
                batch.append(entry)
            if len(batch) == batch_size:
                _encode(encoder, batch, cache, result)
                batch = []
        if batch:
            _encode(encoder, batch, cache, result)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        cache.flush()
    return result


def _load(encoder: Encoder, cache: EncodingCache, item: str, content: str | Path) -> _Loaded:
    try:
        raw = read_content(content)
        digest = hashlib.sha256(raw).digest()
        vector = cache.get(digest)
        if vector is not None:
            return _Loaded(item, digest, vector=vector)
        return _Loaded(item, digest, encoder.prepare(raw))
    except UnreadableContentError as error:
        return _Loaded(item, failure=str(error))


def _encode(
    encoder: Encoder, batch: list[_Loaded], cache: EncodingCache, result: ItemEncodings
) -> None:
    vectors = encoder.encode([entry.prepared for entry in batch])
    for entry, vector in zip(batch, vectors, strict=True):
        if np.isfinite(vector).all():
            cache.add(entry.digest, vector)
            result.vectors[entry.item] = vector
        else:
            result.unreadable[entry.item] = "expected finite numbers of the encoder, found NaN"


def _map_ahead(
    executor: ThreadPoolExecutor,
    function: Callable[[Argument], Result],
    arguments: Iterable[Argument],
    ahead: int,
) -> Iterator[Result]:
    """Yield the results in order, at most `ahead` of them computed before they are asked for."""
    waiting: deque[Future[Result]] = deque()
    for argument in arguments:
        waiting.append(executor.submit(function, argument))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
