"""How the neighbours of an item graph are looked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recbole_margo.errors import ConfigError

# Method -> its parameters and their defaults; None: chosen by the number of items.
METHODS: dict[str, dict[str, int | None]] = {
    "exact": {},
    "faiss-flat": {},
    "faiss-ivf": {"nlist": None, "nprobe": 16},
    "faiss-hnsw": {"m": 32, "ef_construction": 80, "ef_search": 64},
}


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

    Source: the names are those of faiss (Douze et al., "The Faiss library", 2024) and of HNSW
    (Malkov and Yashunin, TPAMI 2020).
    """

    method: str
    parameters: tuple[tuple[str, int | None], ...] = ()

    @classmethod
    def from_setting(cls, setting: Any) -> NeighborSearch:
        """Read the value of `item_neighbor_search`.

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
                f"`item_neighbor_search` must be one of {', '.join(METHODS)}, or such as "
                f"{{method: faiss-ivf, nprobe: 16}}, found {setting!r}"
            )
        defaults = METHODS[method]
        for name, value in parameters.items():
            if name not in defaults:
                raise ConfigError(
                    f"`item_neighbor_search`: {method} has "
                    f"{', '.join(defaults) or 'no parameters'}, found {name!r}"
                )
            if type(value) is not int or value < 1:
                raise ConfigError(
                    f"`item_neighbor_search`: `{name}` must be a whole number from 1, found "
                    f"{value!r}"
                )
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
