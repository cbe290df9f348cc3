"""Defects of RecBole's own evaluation and loaders, mended without changing what it computes.

`recbole_margo.compat` puts these in place; each takes what RecBole has and returns what replaces
it. Importing this module imports neither torch nor RecBole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def collector_of_plain_values(collector: type[Any]) -> type[Any]:
    """Let RecBole's `Collector` hold numbers and counters beside tensors.

    It moves all that it has collected to the CPU, also what has no device, and so fails for every
    metric that looks at the items of a ranking: ItemCoverage, GiniIndex, AveragePopularity, ...

    Args:
        collector: RecBole's class, which is changed.
    """
    get_data_struct = collector.get_data_struct

    def get_data_struct_of_all(self: Any) -> Any:
        held = self.data_struct
        plain = {
            name: value for name, value in held._data_dict.items() if not hasattr(value, "cpu")
        }
        for name in plain:
            del held[name]
        returned = get_data_struct(self)
        for name, value in plain.items():
            held.set(name, value)
            returned.set(name, value)
        return returned

    collector.get_data_struct = get_data_struct_of_all
    return collector


def save_with_generators_kept(save: Callable[..., None]) -> Callable[..., None]:
    """Let `save_split_dataloaders` give the loaders the generators back that it takes from them.

    Without them shuffling is not the one of the seed, and a run cannot be resumed.

    Args:
        save: RecBole's function.
    """

    def save_split_dataloaders(config: Any, dataloaders: Sequence[Any]) -> None:
        owners = [owner for loader in dataloaders for owner in (loader, loader.sampler)]
        kept = [(owner, getattr(owner, "generator", None)) for owner in owners]
        try:
            save(config, dataloaders)
        finally:
            for owner, generator in kept:
                owner.generator = generator

    return save_split_dataloaders
