"""The topic `graph`: how long the graphs take that are built before training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import psutil
import scipy.sparse as sp
import torch

from benchmarks.contenders import NAIVE, OURS
from benchmarks.naive_graphs import (
    cooccurrence_counts,
    interaction_edges,
    item_similarities,
    strongest_co_users,
)
from benchmarks.options import Options
from benchmarks.repeated_timing import in_turn, summary, timed, with_ratios
from benchmarks.shown import NOTHING, cells, duration, ratio, share, spread
from benchmarks.workload import Workload
from recbole_margo.config import Config
from recbole_margo.data.features import load_item_features
from recbole_margo.graph.bipartite import interaction_matrix, normalized_adjacency
from recbole_margo.graph.item_knn import nearest_neighbors
from recbole_margo.graph.user_cooccurrence import softmax_rows, strongest_cooccurrences
from recbole_margo.report.document import Table
from recbole_margo.run import load_split

# The rest of the memory belongs to what else is held.
USABLE_MEMORY = 0.7
FLOAT_BYTES = 4


class _Inputs:
    """What the graphs are built of, on the device where they are built."""

    def __init__(self, workload: Workload) -> None:
        self.device = workload.device
        self.config: Config = workload.config(workload.last_stage())
        dataset = load_split(self.config)[0]._dataset
        features = load_item_features(self.config, dataset)
        self.modalities = features.modalities
        self.matrices = [matrix.to(self.config["device"]) for matrix in features.matrices]
        self.mask = features.mask.to(self.config["device"])
        self.interactions: sp.csr_matrix = interaction_matrix(dataset)
        pairs = self.interactions.tocoo()
        self.users = torch.from_numpy(pairs.row).long()
        self.items = torch.from_numpy(pairs.col).long()
        self.user_neighbors: int = self.config["user_neighbors"]
        self.item_neighbors: int = self.config["item_neighbors"]

    def our_user_graph(self) -> sp.csr_matrix:
        return softmax_rows(strongest_cooccurrences(self.interactions, self.user_neighbors))

    def naive_user_graph(self) -> sp.csr_matrix:
        counts = cooccurrence_counts(self.users, self.items, *self.interactions.shape)
        degrees = np.diff(self.interactions.indptr)
        neighbors, weights = strongest_co_users(counts, degrees, self.user_neighbors)
        return _as_matrix(np.asarray(neighbors), weights.numpy(), len(counts))

    def our_item_graph(self, m: int) -> sp.csr_matrix:
        return nearest_neighbors(self.matrices[m], self.mask[:, m], self.item_neighbors)

    def naive_item_graph(self, m: int) -> sp.csr_matrix:
        best = torch.topk(item_similarities(self.matrices[m]), self.item_neighbors, dim=1)
        values = best.values.cpu().numpy().copy()
        values[0] = 0.0
        return _as_matrix(best.indices.cpu().numpy(), values, len(values))

    def our_adjacency(self) -> sp.csr_matrix:
        return normalized_adjacency(self.interactions)

    def naive_adjacency(self) -> sp.csr_matrix:
        edges = interaction_edges(self.users, self.items, *self.interactions.shape)
        size = sum(self.interactions.shape)
        parts = edges.weight.numpy(), (edges.target.numpy(), edges.source.numpy())
        return sp.csr_matrix(parts, shape=(size, size))


def _as_matrix(columns: np.ndarray, values: np.ndarray, size: int) -> sp.csr_matrix:
    """Return neighbour lists [N, k] as a matrix [N, N] without the entries that weigh nothing."""
    rows = np.arange(len(columns)).repeat(columns.shape[1])
    matrix = sp.csr_matrix((values.ravel(), (rows, columns.ravel())), shape=(size, size))
    matrix.eliminate_zeros()
    return matrix


def measure(workload: Workload, options: Options) -> dict[str, Any]:
    """Time the building of each graph.

    Args:
        workload: the data.
        options: how often.

    Returns:
        By graph, summaries of the contenders, the share of our edges that the naive graph has, and
        the bytes of the dense matrices.
    """
    inputs = _Inputs(workload)
    users, items = inputs.interactions.shape
    tasks: dict[str, tuple[Callable[[], Any], Callable[[], Any], int]] = {
        "user graph": (
            inputs.our_user_graph,
            inputs.naive_user_graph,
            dense_bytes(users, users + items),
        ),
        **{
            f"item kNN, {modality}, {inputs.matrices[m].shape[1]} columns": (
                _of_modality(inputs.our_item_graph, m),
                _of_modality(inputs.naive_item_graph, m),
                dense_bytes(items, items + inputs.matrices[m].shape[1]),
            )
            for m, modality in enumerate(inputs.modalities)
        },
        "adjacency": (inputs.our_adjacency, inputs.naive_adjacency, 0),
    }
    return {
        "graphs": {
            name: _measure_one(name, *task, inputs.device, options.repeats)
            for name, task in tasks.items()
        }
    }


def _of_modality(build: Callable[[int], Any], m: int) -> Callable[[], Any]:
    return lambda: build(m)


def _measure_one(
    name: str,
    ours: Callable[[], sp.csr_matrix],
    naive: Callable[[], sp.csr_matrix],
    size: int,
    device: str,
    repeats: int,
) -> dict[str, Any]:
    contenders = {OURS: lambda: timed(ours, device)}
    if size < USABLE_MEMORY * _free_memory(device):
        contenders[NAIVE] = lambda: timed(naive, device)
    runs = in_turn(name, contenders, repeats)
    graphs = [results[0][1] for results in runs.values()]
    return {
        "contenders": {
            name: summary([run[0] for run in results]) for name, results in runs.items()
        },
        "same_edges": _shared_edges(*graphs) if len(graphs) == 2 else None,
        "dense_bytes": size,
    }


def dense_bytes(rows: int, columns: int) -> int:
    """Return the size of a dense matrix [rows, columns] in float32."""
    return FLOAT_BYTES * rows * columns


def fits_in_memory(rows: int, columns: int, device: str) -> bool:
    """Tell whether a dense matrix [rows, columns] in float32 fits beside what else is held."""
    return dense_bytes(rows, columns) < USABLE_MEMORY * _free_memory(device)


def _free_memory(device: str) -> int:
    if device == "cuda":
        return min(torch.cuda.mem_get_info()[0], psutil.virtual_memory().available)
    return int(psutil.virtual_memory().available)


def _shared_edges(ours: sp.csr_matrix, naive: sp.csr_matrix) -> float:
    """Return the share of our edges that the naive graph has too."""
    both = (ours != 0).multiply(naive != 0).nnz
    return both / max(ours.nnz, 1)


def table(result: Mapping[str, Any]) -> Table:
    """Return the graphs, a row each."""
    rows = []
    for graph, entry in result["graphs"].items():
        times = entry["contenders"]
        naive = times.get(NAIVE)
        faster = next(value for name, _, value in with_ratios(times, NAIVE) if name == OURS)
        rows.append(
            cells(
                graph,
                duration(times[OURS]["median"]),
                spread(times[OURS]),
                NOTHING if naive is None else duration(naive["median"]),
                NOTHING if naive is None else spread(naive),
                share(entry["same_edges"]),
                ratio(faster),
            )
        )
    return Table(
        "Building the graphs",
        (
            "graph",
            OURS,
            "least to largest",
            NAIVE,
            "least to largest",
            "edges alike",
            "times faster",
        ),
        tuple(rows),
        (
            f"{NOTHING}: the dense matrix of the naive reference does not fit into memory. Of the "
            "nearest neighbours, those may differ whose similarities are equal but for rounding.",
        ),
    )
