"""Graphs kept from one training to the next, found again by a hash of all that they are made of."""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_margo.errors import DataError
from recbole_margo.store.numpy_archive import read_archive, write_archive
from recbole_margo.store.writing import locked

# Of the arrangement of the files; what builds the graphs is hashed by its source.
FORMAT = 1
# Seconds; what is built sooner is not worth a file.
LEAST_SECONDS = 0.5
DEFAULT_GIGABYTES = 4.0
NAME = re.compile(r"(user-graph|item-neighbors)-([0-9a-f]{64})\.npz")
PARTS = ("key", "shape", "indptr", "indices", "data")
# Bytes of a matrix that are hashed at a time.
HASHED_BYTES = 2**24

Part = NDArray[Any] | Tensor | str | int


@dataclass(frozen=True)
class StoredGraph:
    """A file of the cache.

    Attributes:
        size: in bytes.
        used: when it was written or read last, in seconds of the epoch.
    """

    path: Path
    size: int
    used: float

    def about(self) -> str:
        """Return in words what it holds."""
        try:
            return str(read_archive(self.path, ["about"])["about"])
        except (DataError, OSError):
            return "damaged, will be built anew"


@dataclass(frozen=True)
class GraphCache:
    """A folder of graphs that several runs and processes share.

    A graph is found by a hash over the bytes of all that it is made of, its parameters and the
    source of what builds it. Files appear whole or not at all, and those that were used longest ago
    go when all take more than the limit. A file that is not what its name says is a miss.

    Args:
        limit: how many bytes they may take together.
    """

    folder: Path
    limit: int = int(DEFAULT_GIGABYTES * 2**30)

    @classmethod
    def from_settings(cls, setting: Any, gigabytes: Any) -> GraphCache | None:
        """Return the cache of the values of `graph_cache` and `graph_cache_gigabytes`.

        Args:
            setting: auto, false for none, or a folder; None: auto.
            gigabytes: the limit; None: the default.
        """
        folder = default_folder() if setting in (None, True, "auto") else setting
        if not folder:
            return None
        gigabytes = DEFAULT_GIGABYTES if gigabytes is None else gigabytes
        return cls(Path(folder).expanduser().absolute(), int(gigabytes * 2**30))

    def get(
        self,
        kind: str,
        about: str,
        parts: Sequence[Part],
        made_by: Sequence[ModuleType],
        build: Callable[[], sp.csr_matrix],
    ) -> sp.csr_matrix:
        """Return a graph from the cache, or build and keep it.

        Two processes that ask at once build it once: the second waits for the first.

        Args:
            kind: `user-graph` or `item-neighbors`.
            about: what it is, in words for a list.
            parts: everything that it depends on.
            made_by: the modules that build it.
        """
        key = _key(kind, parts, made_by)
        path = self.folder / f"{kind}-{key}.npz"
        found = self._read(path, key)
        if found is not None:
            return found
        with self._only_one(key):
            found = self._read(path, key)  # another process may have built it meanwhile
            if found is not None:
                return found
            started = time.perf_counter()
            graph = build()
            if time.perf_counter() - started >= LEAST_SECONDS:
                self._write(path, key, about, graph)
        return graph

    def stored(self) -> list[StoredGraph]:
        """Return the files of the cache, the one used longest ago first."""
        found = []
        with suppress(OSError):
            for path in self.folder.iterdir():
                if NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                    with suppress(OSError):  # another process has removed it just now
                        state = path.stat()
                        found.append(StoredGraph(path, state.st_size, state.st_mtime))
        return sorted(found, key=lambda each: (each.used, each.path.name))

    def clear(self) -> list[StoredGraph]:
        """Remove all graphs, no other files, and return what was there."""
        stored = self.stored()
        for graph in stored:
            _remove(graph)
        return stored

    def _read(self, path: Path, key: str) -> sp.csr_matrix | None:
        if not path.is_file():
            return None
        try:
            graph = _graph_of(read_archive(path, PARTS), key)
        except (DataError, OSError, ValueError) as error:
            logging.getLogger().warning(
                "%s: expected a graph of the cache, found another file (%s): it is built anew",
                path,
                " ".join(str(error).split())[:200],
            )
            return None
        with suppress(OSError):  # in a folder that others fill
            os.utime(path)
        name = path.stem.rpartition("-")[0].replace("-", " ")
        logging.getLogger().info("The %s was built earlier: %s", name, path)
        return graph

    def _write(self, path: Path, key: str, about: str, graph: sp.csr_matrix) -> None:
        arrays = (graph.indptr, graph.indices, graph.data)
        if sum(array.nbytes for array in arrays) > self.limit:
            return
        try:
            shape = np.array(graph.shape, dtype=np.int64)
            named = dict(zip(PARTS, (np.array(key), shape, *arrays), strict=True))
            write_archive(path, {"about": np.array(about), **named}, compressed=False)
        except OSError as error:
            self._say_why_not(error)
        stored = self.stored()
        excess = sum(each.size for each in stored) - self.limit
        for each in stored:
            if excess > 0:
                _remove(each)
                excess -= each.size

    @contextmanager
    def _only_one(self, key: str) -> Iterator[None]:
        """Let one process at a time build a graph; where no lock can be had, let all do."""
        with ExitStack() as held:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(self.folder, name=f".lock-{key[0]}"))
            except (DataError, OSError) as error:
                self._say_why_not(error)
            yield

    def _say_why_not(self, error: Exception) -> None:
        logging.getLogger().warning(
            "no graph is kept in %s (%s): set `graph_cache` to a folder to write to, or to false",
            self.folder,
            error,
        )


def default_folder() -> Path | None:
    """Return the folder of graphs among what programs keep for this user; None: there is none."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or ""
    try:
        root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        return None
    return root / "recbole-margo" / "graphs"


def products_on(device: torch.device) -> str:
    """Return what the last digits of a matrix product depend on, beside its factors."""
    if device.type == "cuda":
        return f"{torch.__version__} {torch.cuda.get_device_name(device)}"
    threads, instructions = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    return f"{torch.__version__} {device.type} {instructions} {threads} threads"


def _remove(graph: StoredGraph) -> None:
    with suppress(OSError):  # another process removes it too, or reads it on Windows
        graph.path.unlink()


def _graph_of(arrays: dict[str, NDArray[Any]], key: str) -> sp.csr_matrix:
    """Return the graph of a file; raise a `ValueError` if it is not the one of the key."""
    stored, shape, pointer, column, value = (arrays[name] for name in PARTS)
    if str(stored) != key:
        raise ValueError("it is another graph")
    integers = all(array.dtype.kind == "i" for array in (shape, pointer, column))
    if not integers or value.dtype.kind != "f" or shape.shape != (2,):
        raise ValueError("its arrays are of other types")
    graph = sp.csr_matrix((value, column, pointer), shape=tuple(shape.tolist()))
    graph.check_format(full_check=True)
    if not np.isfinite(graph.data).all():
        raise ValueError("its values are not finite")
    return graph


def _key(kind: str, parts: Sequence[Part], made_by: Sequence[ModuleType]) -> str:
    digest = hashlib.sha256(f"{FORMAT}\n{kind}\n".encode())
    for text in (*map(_source_of, made_by), *_described(parts)):
        # With its length, so that no two sequences of texts are the same bytes.
        digest.update(f"{len(text)}\n".encode())
        digest.update(memoryview(text))
    return digest.hexdigest()


def _described(parts: Sequence[Part]) -> Iterator[bytes | memoryview]:
    for part in parts:
        if isinstance(part, str | int):
            yield f"{type(part).__name__} {part}".encode()
            continue
        yield f"{part.dtype} {tuple(part.shape)}".encode()
        yield from _blocks_of_bytes(part)


def _blocks_of_bytes(part: NDArray[Any] | Tensor) -> Iterator[memoryview]:
    tensor = (torch.from_numpy(part) if isinstance(part, np.ndarray) else part).detach()
    flat = tensor.reshape(-1)
    for block in torch.split(flat, HASHED_BYTES // flat.element_size()):
        yield block.cpu().contiguous().view(torch.uint8).numpy().data


@cache
def _source_of(module: ModuleType) -> bytes:
    """Return the text of a module: what it builds is not taken for what a later one builds."""
    try:
        return inspect.getsource(module).encode()
    except OSError:  # installed without it
        return f"{module.__name__} {metadata.version('recbole-margo')}".encode()
