"""LATTICE, MICRO and MGCN on dense float64 arrays, beside the formulas of `dense_formulas`.

Written from the specification and the models' docstrings alone. Nothing here is fast, and nothing
here may import the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dense_formulas as dense
import numpy as np

Array = np.ndarray
Parameters = Mapping[str, Array]
Triplet = tuple[int, int, int]


@dataclass(frozen=True)
class Sizes:
    """The hyper-parameters that shape the graphs."""

    neighbors: int = 4
    item_layers: int = 1
    interaction_layers: int = 2
    fixed_share: float = 0.9


# --- graphs ---------------------------------------------------------------------------------------


def cosine(x: Array, y: Array) -> float:
    """Return the cosine; a vector without a direction is as far from all as can be told: 0."""
    norms = np.sqrt(x @ x) * np.sqrt(y @ y)
    return float(x @ y / norms) if norms > 0 else 0.0


def similar_items(F: Array, present: Array, k: int) -> Array:
    """Return S [I, I]: the cosines of an item's k nearest, itself included; 0 elsewhere."""
    S = np.zeros((len(F), len(F)))
    items = [item for item in range(len(F)) if present[item] and (F[item] != 0).any()]
    for item in items:
        cosines = np.array([cosine(F[item], F[other]) for other in items])
        for position in np.argsort(-cosines)[:k]:
            S[item, items[position]] = cosines[position]
    return S


def normalized_by_row_sums(S: Array) -> Array:
    """Return D^-1/2 S D^-1/2, D the row sums; a row without a positive sum gets no weight."""
    total = S.sum(axis=1)
    N = np.zeros_like(S)
    for row, column in zip(*S.nonzero(), strict=True):
        if total[row] > 0 and total[column] > 0:
            N[row, column] = S[row, column] / np.sqrt(total[row]) / np.sqrt(total[column])
    return N


def random_walk(R: Array) -> Array:
    """Return D^-1 (A + I) [U + I, U + I] of R [U, I]."""
    users, items = R.shape
    A = np.eye(users + items)
    A[:users, users:] += R
    A[users:, :users] += R.T
    for row in A:
        row /= row.sum()
    return A


def mean_of_layers(A: Array, X: Array, layers: int) -> Array:
    return sum(np.linalg.matrix_power(A, layer) @ X for layer in range(layers + 1)) / (layers + 1)


# --- parts ----------------------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def attention(E: Array, usable: Array, parameters: Parameters) -> Array:
    """Return alpha [N, M] of E [N, M, d]: softmax over the usable modalities of each node."""
    W, b = parameters["attention.query.0.weight"], parameters["attention.query.0.bias"]
    q = parameters["attention.query.2.weight"][0]
    alpha = np.zeros(usable.shape)
    for node in range(len(E)):
        if usable[node].any():
            logits = np.array([q @ np.tanh(W @ E[node, m] + b) for m in range(E.shape[1])])
            alpha[node, usable[node]] = dense.softmax(logits[usable[node]])
    return alpha


def fused(E: Array, alpha: Array) -> Array:
    return np.stack([alpha[node] @ E[node] for node in range(len(E))])


def trained_features(inputs: dense.Inputs, parameters: Parameters) -> list[Array]:
    """Return the features as they are now: parameters where they are trained."""
    return [parameters.get(f"feature_matrix_{m}", F) for m, F in enumerate(inputs.features)]


def projected(inputs: dense.Inputs, parameters: Parameters, prefix: str) -> list[Array]:
    """Return the projected features [I, d] of each modality, 0 where an item misses it."""
    result = []
    for m, F in enumerate(trained_features(inputs, parameters)):
        P = dense.linear(F, parameters, f"{prefix}projections.{m}")
        P[~inputs.mask[:, m]] = 0
        result.append(P)
    return result


def collaborative(
    inputs: dense.Inputs, parameters: Parameters, A: Array, layers: int
) -> tuple[Array, Array]:
    """Return users and items after propagation of the id embeddings over A."""
    ids = np.vstack([parameters["user_embedding"], parameters["item_embedding"]])
    nodes = mean_of_layers(A, ids, layers)
    return nodes[: len(inputs.R)], nodes[len(inputs.R) :]


# --- LATTICE --------------------------------------------------------------------------------------


def lattice_graph(inputs: dense.Inputs, parameters: Parameters, sizes: Sizes) -> Array:
    """Return G [I, I]; `inputs` hold the features at the start, `parameters` those of now."""
    w = dense.softmax(parameters["modality_logits"])
    learned, fixed = np.zeros((2, len(inputs.mask), len(inputs.mask)))
    for m, P in enumerate(projected(inputs, parameters, "item_graphs.")):
        present = inputs.mask[:, m]
        learned += w[m] * similar_items(P, present, sizes.neighbors)
        raw = similar_items(inputs.features[m], present, sizes.neighbors)
        fixed += w[m] * normalized_by_row_sums(raw)
    return (1 - sizes.fixed_share) * normalized_by_row_sums(learned) + sizes.fixed_share * fixed


def lattice(
    inputs: dense.Inputs, parameters: Parameters, sizes: Sizes, graph: Array | None = None
) -> tuple[Array, Array]:
    """Return users [U, d] and items [I, d], with the item graph of now or a given one."""
    G = lattice_graph(inputs, parameters, sizes) if graph is None else graph
    h = np.linalg.matrix_power(G, sizes.item_layers) @ parameters["item_embedding"]
    A = random_walk(inputs.R)
    users, items = collaborative(inputs, parameters, A, sizes.interaction_layers)
    return users, items + dense.rows_of_length_one(h)


# --- MICRO ----------------------------------------------------------------------------------------


def micro_graphs(inputs: dense.Inputs, parameters: Parameters, sizes: Sizes) -> list[Array]:
    """Return G_m [I, I] of every modality."""
    graphs = []
    for m, P in enumerate(projected(inputs, parameters, "item_graphs.")):
        present = inputs.mask[:, m]
        learned = normalized_by_row_sums(similar_items(P, present, sizes.neighbors))
        raw = similar_items(inputs.features[m], present, sizes.neighbors)
        fixed = normalized_by_row_sums(raw)
        graphs.append((1 - sizes.fixed_share) * learned + sizes.fixed_share * fixed)
    return graphs


@dataclass
class MicroTables:
    """What MICRO computes: users [U, d], items [I, d], e^m [I, M, d] and h [I, d]."""

    users: Array
    items: Array
    E: Array
    h: Array


def micro(
    inputs: dense.Inputs,
    parameters: Parameters,
    sizes: Sizes,
    graphs: Sequence[Array] | None = None,
) -> MicroTables:
    """Return the tables, with the item graphs of now or given ones."""
    Q = parameters["item_embedding"]
    graphs = micro_graphs(inputs, parameters, sizes) if graphs is None else graphs
    E = np.stack([np.linalg.matrix_power(G, sizes.item_layers) @ Q for G in graphs], axis=1)
    h = fused(E, attention(E, inputs.mask, parameters))
    A = random_walk(inputs.R)
    users, items = collaborative(inputs, parameters, A, sizes.interaction_layers)
    return MicroTables(users, items + dense.rows_of_length_one(h), E, h)


def micro_contrast(E: Array, h: Array, mask: Array, anchors: Sequence[int], tau: float) -> float:
    """Return the sum over modalities of the mean loss of the anchors that have the modality."""
    total = 0.0
    for m in range(E.shape[1]):
        items = np.flatnonzero(mask[:, m])
        losses = []
        for n in anchors:
            if n not in items:
                continue
            with_fused = [np.exp(cosine(E[n, m], h[j]) / tau) for j in items]
            with_own = [np.exp(cosine(E[n, m], E[j, m]) / tau) for j in items if j != n]
            agreement = np.exp(cosine(E[n, m], h[n]) / tau)
            losses.append(-np.log(agreement / (sum(with_fused) + sum(with_own))))
        if losses:
            total += float(np.mean(losses))
    return total


# --- MGCN -----------------------------------------------------------------------------------------


def gate(X: Array, parameters: Parameters, name: str) -> Array:
    return sigmoid(dense.linear(X, parameters, f"{name}.0"))


def mgcn_contents(inputs: dense.Inputs, parameters: Parameters, sizes: Sizes) -> Array:
    """Return E [U + I, M, d], users first."""
    users = len(inputs.R)
    to_users = dense.symmetric_adjacency(inputs.R)[:users, users:]
    contents = []
    for m, P in enumerate(projected(inputs, parameters, "")):
        present = inputs.mask[:, m]
        N = normalized_by_row_sums(similar_items(inputs.features[m], present, sizes.neighbors))
        e = parameters["item_embedding"] * gate(P, parameters, f"purifiers.{m}")
        e[~present] = 0
        e = np.linalg.matrix_power(N, sizes.item_layers) @ e
        contents.append(np.vstack([to_users @ e, e]))
    return np.stack(contents, axis=1)


def mgcn(inputs: dense.Inputs, parameters: Parameters, sizes: Sizes) -> tuple[Array, Array]:
    """Return behaviour C and side H [U + I, d], users first.

    A user has every modality, an item those of the mask.
    """
    E = mgcn_contents(inputs, parameters, sizes)
    modalities = E.shape[1]
    has = np.vstack([np.ones((len(inputs.R), modalities), dtype=bool), inputs.mask])
    A = dense.symmetric_adjacency(inputs.R)
    C = np.vstack(collaborative(inputs, parameters, A, sizes.interaction_layers))
    K = fused(E, attention(E, has, parameters))
    preferences = [gate(C, parameters, f"preferences.{m}") for m in range(modalities)]
    H = np.zeros_like(C)
    for node in range(len(C)):
        parts = [K[node]]
        for m in range(modalities):
            if has[node, m]:
                parts.append(preferences[m][node] * (E[node, m] - K[node]))
        H[node] = sum(parts) / len(parts)
    return C, H


def info_nce(anchors: Array, targets: Array, tau: float) -> float:
    """Return the mean loss of rows that belong together, among the rows of the batch."""
    losses = []
    for n, anchor in enumerate(anchors):
        terms = [np.exp(cosine(anchor, target) / tau) for target in targets]
        losses.append(-np.log(terms[n] / sum(terms)))
    return float(np.mean(losses))


# --- losses ---------------------------------------------------------------------------------------


def ranking(users: Array, items: Array, batch: Sequence[Triplet]) -> float:
    return dense.plain_ranking(users[:, None], items[:, None], batch)


def penalty(users: Array, items: Array, batch: Sequence[Triplet]) -> float:
    """Return the squared norms of a batch's embeddings over twice the size of the batch."""
    squares = sum(
        (users[user] ** 2).sum() + (items[i] ** 2).sum() + (items[j] ** 2).sum()
        for user, i, j in batch
    )
    return float(squares) / 2 / len(batch)


# --- gradients ------------------------------------------------------------------------------------


def numeric_gradient(function, parameters: Parameters, name: str, step: float = 1e-5) -> Array:
    """Return the central differences of a scalar function by every entry of one parameter."""
    value = parameters[name]
    gradient = np.zeros_like(value)
    for place in np.ndindex(value.shape):
        sides = []
        for sign in (1, -1):
            moved = value.copy()
            moved[place] += sign * step
            sides.append(function({**parameters, name: moved}))
        gradient[place] = (sides[0] - sides[1]) / (2 * step)
    return gradient
