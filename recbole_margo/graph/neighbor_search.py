"""How the nearest of many vectors are looked for, and the indices of faiss that do it."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import ConfigError
from recbole_margo.rules import mapping, whole

if TYPE_CHECKING:  # it loads torch, which a search through faiss does without
    from recbole_margo.graph.graph_cache import GraphCache

# Method -> its parameters and their defaults; None: chosen by the number of items.
METHODS: dict[str, dict[str, int | None]] = {
    "exact": {},
    "faiss-flat": {},
    "faiss-ivf": {"nlist": None, "nprobe": 16},
    "faiss-hnsw": {"m": 32, "ef_construction": 80, "ef_search": 64},
}
# Rows per list on which the lists of an IVF index are trained; faiss asks for 39 at least.
TRAINING_ROWS = 64


@dataclass(frozen=True)
class NeighborSearch:
    """A method of nearest-neighbour search and its parameters.

    - `exact`: every pair is compared, in blocks, on the device of the features.
    - `faiss-flat`: the same by faiss, on the CPU.
    - `faiss-ivf`: items lie in `nlist` lists (none: 4 sqrt(N)); the `nprobe` nearest are searched.
    - `faiss-hnsw`: a graph with `m` links an item, built with `ef_construction` candidates and
      searched with `ef_search`.

    Args:
        method: one of `METHODS`.
        parameters: values by name, all that the method has.
        cache: where exact neighbours of raw features, and user graphs, are kept between trainings.

    Source: the names are those of faiss (Douze et al., "The Faiss library", 2024) and of HNSW
    (Malkov and Yashunin, TPAMI 2020).
    """

    method: str
    parameters: tuple[tuple[str, int | None], ...] = ()
    cache: GraphCache | None = field(default=None, compare=False)

    @classmethod
    def from_setting(cls, setting: Any, key: str = "item_neighbor_search") -> NeighborSearch:
        """Read the value of `item_neighbor_search`, or of an option like it.

        Args:
            setting: a method, or a mapping with `method` and some of its parameters; None: exact.

        Raises:
            ConfigError: if the method does not exist, has no such parameter, or the value of a
                parameter is not a whole number from 1.
        """
        if setting is None:
            return EXACT
        parameters = dict(setting) if isinstance(setting, Mapping) else {"method": setting}
        method = parameters.pop("method", None)
        if not isinstance(method, str) or method not in METHODS:
            raise ConfigError(
                f"`{key}` must be one of {', '.join(METHODS)}, or such as "
                f"{{method: faiss-ivf, nprobe: 16}}, found {setting!r}"
            )
        defaults = METHODS[method]
        mapping(dict.fromkeys(defaults, whole(1)))(key, parameters)
        return cls(method, tuple({**defaults, **parameters}.items()))

    @property
    def is_exact(self) -> bool:
        """Whether the project's own search is used."""
        return self.method == "exact"

    def __getitem__(self, name: str) -> int | None:
        """Return the value of a parameter."""
        return dict(self.parameters)[name]

    def __str__(self) -> str:
        """Return the method and its parameters in words."""
        parts = [f"{name}={value}" for name, value in self.parameters if value is not None]
        return " ".join([self.method, *parts])


EXACT = NeighborSearch("exact")


def untrained_index(search: NeighborSearch, width: int, count: int) -> Any:
    """Return an index of faiss for the largest inner products, without rows.

    Raises:
        ConfigError: if faiss is not installed, or there are fewer vectors than lists.
    """
    faiss = import_faiss()
    metric = faiss.METRIC_INNER_PRODUCT
    if search.method == "faiss-flat":
        return faiss.index_factory(width, "Flat", metric)
    if search.method == "faiss-hnsw":
        index = faiss.index_factory(width, f"HNSW{search['m']},Flat", metric)
        index.hnsw.efConstruction = search["ef_construction"]
        index.hnsw.efSearch = search["ef_search"]
        return index
    lists = search["nlist"] or max(1, min(round(4 * sqrt(count)), count // TRAINING_ROWS))
    if lists > count:
        raise ConfigError(
            f"`item_neighbor_search`: `nlist` must not be above the number of items with "
            f"features, {count}, found {lists}"
        )
    index = faiss.index_factory(width, f"IVF{lists},Flat", metric)
    index.nprobe = min(search["nprobe"] or 1, lists)
    return index


def train_index(
    index: Any, count: int, vectors: Callable[[NDArray[np.intp]], NDArray[np.float32]]
) -> None:
    """Train the lists of an index, if it has any, on a sample of the vectors.

    Args:
        vectors: returns those of some rows, which are sorted.
    """
    if not index.is_trained:
        rows = np.random.default_rng(0).permutation(count)[: TRAINING_ROWS * index.nlist]
        index.train(vectors(np.sort(rows)))


def import_faiss() -> Any:
    """Import faiss.

    Raises:
        ConfigError: it is not installed.
    """
    # It says which instruction sets its build has not been made for.
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise ConfigError(
            f"this search needs faiss, and it is not installed ({error}): "
            "pip install 'recbole-margo[faiss]', or do without (`item_neighbor_search: exact`)"
        ) from error
