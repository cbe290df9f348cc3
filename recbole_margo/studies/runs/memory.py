"""How many runs fit into memory at a time, told before any of them starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch

from recbole_margo.config import Config
from recbole_margo.data.atomic_files import atomic_files
from recbole_margo.data.features import feature_folder, read_manifest
from recbole_margo.errors import ConfigError, DataError, RecBoleMargoError
from recbole_margo.studies.runs.pool import Pool

MIB, GIB = 2**20, 2**30
# Measured with MARGO (docs/scaling.md): the libraries of a process, RecBole's tables of a user, and
# what CUDA keeps for itself.
LIBRARIES, TABLES_OF_USER, CUDA_CONTEXT = 400 * MIB, 3600, 500 * MIB
# What graphs are counted in on a GPU, at most: pairs of users, and pairs of items.
USER_CELLS, USER_CELL_BYTES, ITEM_CELLS, ITEM_CELL_BYTES = 2**27, 20, 2**26, 12
SCORES, SCORES_ON_GPU = 2**21, 2**26
CGROUP = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"))


@dataclass(frozen=True)
class Memory:
    """Bytes of a machine's memory and of a GPU's."""

    host: int
    gpu: int = 0


def pool_that_fits(configs: Sequence[Config], pool: Pool) -> Pool:
    """Return a pool with no more runs at a time than fit into this machine's memory.

    Raises:
        ConfigError: if several are asked for and not even one fits.
    """
    workers = pool.workers or 1
    if pool.cluster is not None or workers < 2 or not configs:
        return pool
    needs = [memory_of(config) for config in configs]
    needed = Memory(max(each.host for each in needs), max(each.gpu for each in needs))
    free = free_memory(configs[0]["device"])
    fitting = min(workers, free.host // needed.host)
    if needed.gpu:
        fitting = min(fitting, free.gpu // needed.gpu)
    there = Memory(free.host, free.gpu if needed.gpu else 0)
    words = f"a run takes some {_words(needed)}, and {_words(there)} are free"
    if fitting < 1:
        raise ConfigError(
            f"--workers={workers}: {words}: free some, make the features smaller "
            "(`feature_reduction`, `feature_precision`), or try one at a time, without --workers"
        )
    if fitting < workers:
        logging.getLogger().warning("%d runs at a time in place of %d: %s", fitting, workers, words)
    return replace(pool, workers=int(fitting))


def memory_of(config: Config) -> Memory:
    """Return what a run takes at its peak, by the formulas of docs/scaling.md.

    The sizes are those of the files; what cannot be read counts nothing, as the run itself says
    what is wrong with it.
    """
    users, items, interactions = _sizes(config)
    columns = _columns(config)
    modalities = max(len(columns), 1)
    nodes = (users + items) * modalities * _number(config, "embedding_size", 64)
    hidden = items * modalities * _number(config, "projection_size", 256 if columns else 0)
    neighbors = items * modalities * _number(config, "item_neighbors", 0)
    co_users = users * _number(config, "user_neighbors", 0)
    features = 4 * items * sum(columns)
    on_device = (
        features
        + 20 * nodes  # parameters: value, gradient, two moments, best epoch
        + 16 * (interactions + co_users + neighbors)
        + 32 * nodes  # activations
        + 12 * hidden
    )
    host = LIBRARIES + TABLES_OF_USER * users
    if torch.device(config["device"]).type == "cpu":
        return Memory(host + on_device + 8 * max(SCORES, 64 * items))
    counted = USER_CELL_BYTES * min(USER_CELLS, users**2) if co_users else 0
    compared = ITEM_CELL_BYTES * min(ITEM_CELLS, items**2) if neighbors else 0
    scored = 8 * min(SCORES_ON_GPU, users * items)
    # Features are read into the host's memory first.
    return Memory(host + features, CUDA_CONTEXT + on_device + max(counted, compared, scored))


def free_memory(device: Any) -> Memory:
    """Return what is free of the machine's memory, within the limit of a container, and a GPU's."""
    host = psutil.virtual_memory().available
    try:
        limit, used = (path.read_text().strip() for path in CGROUP)
        host = min(host, max(int(limit) - int(used), 0))
    except (OSError, ValueError):  # no container, or one without a limit
        pass
    place = torch.device(device)
    return Memory(host, torch.cuda.mem_get_info(place)[0] if place.type == "cuda" else 0)


def _sizes(config: Config) -> tuple[int, int, int]:
    wanted = (config["USER_ID_FIELD"], config["ITEM_ID_FIELD"])
    ids: tuple[set[int], set[int]] = (set(), set())
    rows = 0
    for path in atomic_files(config, "inter"):
        try:
            state = (path.stat().st_size, path.stat().st_mtime_ns)
            users, items, count = _ids(path, config["field_separator"], wanted, state)
        except (OSError, ValueError, KeyError):
            continue
        ids[0].update(users)
        ids[1].update(items)
        rows += count
    return len(ids[0]), len(ids[1]), rows


@lru_cache(maxsize=8)  # the runs of a study share their files
def _ids(
    path: Path, separator: str, wanted: tuple[str, str], state: tuple[int, int]
) -> tuple[frozenset[int], frozenset[int], int]:
    """Return hashes of the users and items of a file, and its number of rows."""
    table = pd.read_csv(path, sep=separator, dtype=str, engine="c", encoding_errors="replace")
    table.columns = [str(name).partition(":")[0] for name in table.columns]
    users, items = (frozenset(map(hash, table[name].unique())) for name in map(str, wanted))
    return users, items, len(table)


def _columns(config: Config) -> list[int]:
    if not hasattr(config.model_class, "parameters_class"):
        return []
    try:
        manifest = read_manifest(feature_folder(config), config["dataset"])
    except (RecBoleMargoError, DataError, OSError):
        return []
    chosen = config["modalities"] or list(manifest.modalities)
    return [manifest.modalities[name].dim for name in chosen if name in manifest.modalities]


def _number(config: Config, key: str, otherwise: int) -> int:
    value = config[key]
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def _words(memory: Memory) -> str:
    host = f"{memory.host / GIB:.1f} GiB of memory"
    return f"{host} and {memory.gpu / GIB:.1f} GiB of the GPU's" if memory.gpu else host
