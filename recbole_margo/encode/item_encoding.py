"""Runs an encoder over the items of a source: in batches, with threads, keeping what is done."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_margo.encode.encoder import Encoder
from recbole_margo.encode.encoding_cache import EncodingCache
from recbole_margo.encode.item_source import read_content
from recbole_margo.encode.unreadable_content_error import UnreadableContentError

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass
class ItemEncodings:
    """Vectors by item.

    Attributes:
        vectors: item token -> vector [D].
        unreadable: item token -> why it has none.
        reused: how many vectors were in the cache.
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

    Args:
        encoder: the encoder.
        contents: item token -> text or file.
        cache: the vectors of this encoder.
        batch_size: items a batch.
        label: text of the progress bar.

    Returns:
        The vectors of all items that can be read.
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
