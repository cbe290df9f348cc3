"""From the contents of an item to its row of the item table, with NumPy and SciPy alone.

A model says with a `ContentPath` what it does to the contents of an item that nobody has interacted
with: its row of the item table as the model itself computes it where the item has no interaction,
and an embedding of its own that is zero. Neighbours are trained items; the lists of trained items
stay as they were.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Features = Sequence[NDArray[np.floating[Any]]]
# Cosines that are held at once; bounds the memory.
CELLS = 2**22


@dataclass(frozen=True)
class ContentPath:
    """How an item's row follows from its features.

    Attributes:
        kind: one of `KINDS`.
        modalities: names of the modalities [M].
        numbers: plain parameters by name.
        tables: arrays by name; those of a modality m end with `_m`.
    """

    kind: str
    modalities: tuple[str, ...]
    numbers: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def item_rows(self, features: Features, present: NDArray[np.bool_]) -> Rows:
        """Return rows of the item table [B, K], without weights of the modalities.

        Args:
            features: as the model takes them, one [B, D_m] per modality.
            present: which item has which modality [B, M].
        """
        masked = [
            np.where(present[:, m : m + 1], rows, 0).astype(np.float32)
            for m, rows in enumerate(features)
        ]
        return KINDS[self.kind](self, masked, present).astype(np.float32)

    def table(self, name: str, m: int | None = None) -> NDArray[Any]:
        """Return a table by name, or a modality's."""
        return self.tables[name if m is None else f"{name}_{m}"]

    def linear(self, name: str, rows: NDArray[Any], m: int | None = None) -> Rows:
        """Return X W^T + b of a layer whose tables are NAME_weight and NAME_bias, if it has one."""
        bias = f"{name}_bias" if m is None else f"{name}_bias_{m}"
        product: Rows = rows @ self.table(f"{name}_weight", m).T
        return product + self.tables[bias] if bias in self.tables else product


@dataclass(frozen=True)
class GraphRows:
    """Rows of an item graph that new items have.

    Attributes:
        known: weights of trained items [B, I].
        own: weight of the item itself [B].
    """

    known: sp.csr_matrix
    own: NDArray[np.float64]

    def scaled(self, factors: NDArray[Any]) -> GraphRows:
        """Return the rows times factors [B]."""
        return GraphRows(sp.diags(factors) @ self.known, self.own * factors)

    def __add__(self, other: GraphRows) -> GraphRows:
        return GraphRows(self.known + other.known, self.own + other.own)

    def spread(self, path: ContentPath, own: Rows, m: int | None = None) -> Rows:
        r"""Return the new items' rows of S^n X [B, K], with the tables `items_layer0` ... of S^l X.

        Args:
            path: with the number `item_graph_layers`, n.
            own: X of the new items [B, K].
            m: a modality.
        """
        for layer in range(int(path.numbers["item_graph_layers"])):
            table = np.asarray(path.table(f"items_layer{layer}", m))
            own = (self.known @ table + self.own[:, None] * own).astype(np.float32)
        return own


def array(table: Any) -> NDArray[Any]:
    """Return a tensor of a model as an array in float32."""
    found: NDArray[Any] = table.detach().float().cpu().numpy()
    return found


def layer_tables(name: str, layer: Any, m: int | None = None) -> dict[str, NDArray[Any]]:
    """Return weight and bias of a linear layer as `ContentPath.linear` reads them."""
    end = "" if m is None else f"_{m}"
    tables = {f"{name}_weight{end}": array(layer.weight)}
    if layer.bias is not None:
        tables[f"{name}_bias{end}"] = array(layer.bias)
    return tables


def spread_tables(
    graph: Callable[[Any], Any], items: Any, layers: int, m: int | None = None
) -> dict[str, NDArray[Any]]:
    """Return S^l X of the trained items, l < n, as `GraphRows.spread` reads them.

    Args:
        graph: the product with S.
        items: X [I, K], PAD first, which is left out.
        layers: n.
        m: a modality.
    """
    end, tables = "" if m is None else f"_{m}", {}
    for layer in range(layers):
        tables[f"items_layer{layer}{end}"] = array(items)[1:]
        items = graph(items) if layer + 1 < layers else items
    return tables


def direction_tables(
    features: Sequence[Any], mask: Any, name: str = "directions"
) -> dict[str, NDArray[np.float16]]:
    """Return the directions of the trained items [I, D_m] for `nearest`, in half precision.

    A cosine keeps three to four decimals, and the table takes half the space.
    """
    present = mask.cpu().numpy()
    return {
        f"{name}_{m}": (unit_rows(array(matrix)) * present[:, m : m + 1])[1:].astype(np.float16)
        for m, matrix in enumerate(features)
    }


def degrees(graph: Any) -> NDArray[np.float64]:
    """Return the row sums of the cosines from which `similarity_knn_graph` was made [I], no PAD.

    An item is its own neighbour with cosine 1, so that its diagonal entry is 1 / degree.
    """
    return _inverse(graph.as_scipy().diagonal().astype(np.float64))[1:]


def unit_rows(rows: NDArray[Any]) -> Rows:
    """Return rows of length 1; those of zeros stay."""
    scale = np.abs(rows).max(axis=-1, keepdims=True, initial=0.0)
    evened = rows / np.where(scale > 0, scale, 1.0)
    length = np.linalg.norm(evened, axis=-1, keepdims=True)
    unit: Rows = (evened / np.where(length > 0, length, 1.0)).astype(np.float32)
    return unit


def nearest(path: ContentPath, rows: Rows, has: NDArray[np.bool_], name: str, m: int) -> GraphRows:
    """Return the cosines of new items with their nearest trained ones and with themselves.

    Args:
        path: with the number `item_neighbors`, the item itself among them, and the directions of
            the trained items [I, D] in the table NAME_m, zeros for those that have none.
        rows: features of the new items [B, D].
        has: which of them have the modality [B].
        name: of the table.
        m: the modality.
    """
    table = path.table(name, m)
    known = np.flatnonzero(np.asarray(table).any(axis=1))
    neighbors = min(int(path.numbers["item_neighbors"]) - 1, len(known))
    directions = unit_rows(rows)
    pointing = np.flatnonzero(has & directions.any(axis=1))
    found = sp.csr_matrix((len(rows), len(table)), dtype=np.float64)
    if neighbors and len(pointing):
        step, parts = max(CELLS // len(known), 1), range(0, len(known), 4096)
        columns, cosines = [], []
        for first in range(0, len(pointing), step):
            asked = directions[pointing[first : first + step]]
            block = np.concatenate(
                [asked @ table[known[some : some + 4096]].astype(np.float32).T for some in parts],
                axis=1,
            )
            best = np.argsort(-block, axis=1, kind="stable")[:, :neighbors]
            columns.append(known[best])
            cosines.append(np.take_along_axis(block, best, axis=1))
        places = np.repeat(pointing, neighbors)
        values = np.concatenate(cosines).ravel().astype(np.float64)
        found = sp.csr_matrix((values, (places, np.concatenate(columns).ravel())), found.shape)
    own = np.zeros(len(rows))
    own[pointing] = 1.0
    return GraphRows(found, own)


def _inverse(values: NDArray[Any]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.divide(1.0, values, out=np.zeros(len(values)), where=values > 0)
    return found


def _root(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.sqrt(_inverse(np.asarray(values, np.float64)))


def _binary(found: GraphRows) -> GraphRows:
    known = found.known.copy()
    known.data[:] = 1.0
    ones = GraphRows(known, found.own)
    return ones.scaled(_inverse(ones.own + np.asarray(known.sum(axis=1)).ravel()))


def _normalized(found: GraphRows, degrees: NDArray[Any]) -> GraphRows:
    """Return D^-1/2 S D^-1/2 with the row sums of the trained items [I]."""
    own_degree = found.own + np.asarray(found.known.sum(axis=1)).ravel()
    scaled = found.known @ sp.diags(_root(degrees))
    return GraphRows(sp.diags(_root(own_degree)) @ scaled, found.own * _inverse(own_degree))


def _combined(path: ContentPath, features: Features, present: NDArray[np.bool_]) -> GraphRows:
    graphs = [
        _binary(nearest(path, rows, present[:, m], "directions", m))
        for m, rows in enumerate(features)
    ]
    shares = np.stack([graph.own > 0 for graph in graphs], axis=1) * path.table("shares")
    total = _inverse(shares.sum(axis=1))
    return _sum(graph.scaled(shares[:, m] * total) for m, graph in enumerate(graphs))


def _sum(graphs: Iterable[GraphRows]) -> GraphRows:
    return reduce(operator.add, graphs)


def _fixed(path: ContentPath, rows: Rows, has: NDArray[np.bool_], m: int) -> GraphRows:
    found = nearest(path, rows, has, "directions", m)
    return _normalized(found, path.table("degrees", m))


def _sigmoid(rows: NDArray[Any]) -> NDArray[Any]:
    opened: NDArray[Any] = 1 / (1 + np.exp(-rows))
    return opened


def _attention(path: ContentPath, contents: Rows, present: NDArray[np.bool_]) -> NDArray[Any]:
    hidden = np.tanh(path.linear("attention", contents))
    logits = np.where(present, hidden @ path.table("attention_query"), -np.inf)
    largest = np.where(present.any(axis=1), logits.max(axis=1), 0.0)
    weights: NDArray[Any] = np.exp(logits - largest[:, None])
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return weights


def _dragon(path: ContentPath, features: Features, present: NDArray[np.bool_]) -> Rows:
    parts = []
    for m, rows in enumerate(features):
        hidden = path.linear("hidden", rows, m)
        hidden = np.where(hidden > 0, hidden, path.numbers["slope"] * hidden)
        parts.append(unit_rows(path.linear("output", hidden, m) * present[:, m : m + 1]))
    own = np.concatenate(parts, axis=1)
    return own + _combined(path, features, present).spread(path, own)


def _light_gcn(path: ContentPath, features: Features, present: NDArray[np.bool_]) -> Rows:
    parts = [path.linear("output", f, m) * present[:, m : m + 1] for m, f in enumerate(features)]
    rows: Rows = np.concatenate(parts, axis=1) / np.float32(path.numbers["layers"] + 1)
    return rows


def _freedom(path: ContentPath, features: Features, present: NDArray[np.bool_]) -> Rows:
    own = np.zeros((len(present), path.table("items_layer0").shape[1]), np.float32)
    return _combined(path, features, present).spread(path, own)


def _vbpr(path: ContentPath, features: Features, present: NDArray[np.bool_]) -> Rows:
    content = path.linear("output", np.concatenate(features, axis=1))
    content *= present.any(axis=1, keepdims=True)
    return np.concatenate([np.zeros_like(content), content], axis=1)


def _grcn(path: ContentPath, features: Features, present: NDArray[np.bool_]) -> Rows:
    parts = []
    for m, rows in enumerate(features):
        projected = path.linear("output", rows, m) * present[:, m : m + 1]
        parts.append(unit_rows(np.where(projected > 0, projected, 0.01 * projected)))
    return np.concatenate([np.zeros_like(parts[0]), *parts], axis=1)


def _slmrec(path: ContentPath, features: Features, present: NDArray[np.bool_]) -> Rows:
    parts = [
        path.linear("output", unit_rows(rows), m) * present[:, m : m + 1]
        for m, rows in enumerate(features)
    ]
    views = np.concatenate([np.zeros_like(parts[0]), *parts], axis=1)
    return path.linear("fusion", views / np.float32(path.numbers["layers"] + 1))


def _mgcn(path: ContentPath, features: Features, present: NDArray[np.bool_]) -> Rows:
    contents = np.stack(_spread_by_modality(path, features, present, _fixed), axis=1)
    common = (_attention(path, contents, present)[:, :, None] * contents).sum(axis=1)
    total: Rows = common
    for m in range(len(features)):
        gate = _sigmoid(path.table("preference_bias", m))
        total = total + gate * (contents[:, m] - common) * present[:, m : m + 1]
    total /= 1 + present.sum(axis=1, keepdims=True)
    return total


def _spread_by_modality(
    path: ContentPath,
    features: Features,
    present: NDArray[np.bool_],
    graph: Callable[[ContentPath, Rows, NDArray[np.bool_], int], GraphRows],
) -> list[Rows]:
    own = np.zeros((len(present), path.table("items_layer0", 0).shape[1]), np.float32)
    return [
        graph(path, rows, present[:, m], m).spread(path, own, m) for m, rows in enumerate(features)
    ]


def _learned(path: ContentPath, rows: Rows, has: NDArray[np.bool_], m: int) -> GraphRows:
    projected = path.linear("projection", rows, m) * has[:, None]
    return nearest(path, projected, has, "projected", m)


def _mixed(path: ContentPath, rows: Rows, has: NDArray[np.bool_], m: int) -> GraphRows:
    share = np.full(len(rows), path.numbers["fixed_graph_share"])
    learned = _normalized(_learned(path, rows, has, m), path.table("learned_degrees", m))
    return learned.scaled(1 - share) + _fixed(path, rows, has, m).scaled(share)


def _lattice(path: ContentPath, features: Features, present: NDArray[np.bool_]) -> Rows:
    weights, share = path.table("modality_weights"), path.numbers["fixed_graph_share"]
    ones = np.ones(len(present))
    learned, fixed = (
        _sum(
            graph(path, rows, present[:, m], m).scaled(weights[m] * ones)
            for m, rows in enumerate(features)
        )
        for graph in (_learned, _fixed)
    )
    graph = _normalized(learned, path.table("learned_degrees"))
    graph = graph.scaled((1 - share) * ones) + fixed.scaled(share * ones)
    own = np.zeros((len(present), path.table("items_layer0").shape[1]), np.float32)
    return unit_rows(graph.spread(path, own))


def _micro(path: ContentPath, features: Features, present: NDArray[np.bool_]) -> Rows:
    contents = np.stack(_spread_by_modality(path, features, present, _mixed), axis=1)
    return unit_rows((_attention(path, contents, present)[:, :, None] * contents).sum(axis=1))


def _lgmrec(path: ContentPath, features: Features, present: NDArray[np.bool_]) -> Rows:
    total: Any = 0.0
    local: Any = 0.0
    for m, rows in enumerate(features):
        logits = rows @ path.table("hyperedges", m) * present[:, m : m + 1]
        logits /= path.numbers["assignment_temperature"]
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        total = total + (shares * present[:, m : m + 1]) @ path.table("edges", m)
        if not path.numbers["modality_layers"]:
            local = local + unit_rows(rows @ path.table("projections", m))
    return np.asarray(local + path.numbers["global_weight"] * unit_rows(total))


KINDS: dict[str, Callable[[ContentPath, Features, NDArray[np.bool_]], Rows]] = {
    "dragon": _dragon,
    "freedom": _freedom,
    "grcn": _grcn,
    "lattice": _lattice,
    "lgmrec": _lgmrec,
    "lightgcn": _light_gcn,
    "mgcn": _mgcn,
    "micro": _micro,
    "slmrec": _slmrec,
    "vbpr": _vbpr,
}
