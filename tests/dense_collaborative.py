"""Formulas of the models that score with id embeddings: VBPR, BM3, FREEDOM and SLMRec.

Written from the published equations and the specification, one node, pair and modality at a time
on dense float64 arrays, to check the sparse and batched code against. Nothing here is fast, and
nothing here may import the package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import dense_formulas as dense
import numpy as np
from dense_formulas import Array, Inputs

Parameters = Mapping[str, Array]
Pairs = Sequence[tuple[int, int]]
Triplets = Sequence[tuple[int, int, int]]


def cosine(x: Array, y: Array) -> float:
    return float(x @ y / np.sqrt(x @ x) / np.sqrt(y @ y))


def mean_of_powers(A: Array, X: Array, layers: int) -> Array:
    """Return LightGCN's mean of X, A X, ..., A^layers X."""
    return sum(np.linalg.matrix_power(A, n) @ X for n in range(layers + 1)) / (layers + 1)


def penalty(kind: str, matrices: Sequence[Array], rows: int) -> float:
    """Return the sum of Frobenius norms, or of half their squares, by the number of rows."""
    total = 0.0
    for matrix in matrices:
        squares = sum(float(x) ** 2 for x in matrix.ravel())
        total += {"frobenius": np.sqrt(squares), "squared": squares / 2}[kind]
    return total / rows


def raw_features(inputs: Inputs, parameters: Parameters) -> list[Array]:
    """Return the features [I, D_m]: parameters if they are trained, zeros where missing."""
    found = []
    for m, F in enumerate(inputs.features):
        matrix = parameters.get(f"feature_matrix_{m}", F).copy()
        matrix[~inputs.mask[:, m]] = 0
        found.append(matrix)
    return found


def projected(F: Array, present: Array, parameters: Parameters, name: str) -> Array:
    """Return W f + b of the items that have the modality, zeros for the others."""
    X = np.zeros((len(F), len(parameters[f"{name}.weight"])))
    for item in np.flatnonzero(present):
        X[item] = parameters[f"{name}.weight"] @ F[item]
        X[item] += parameters.get(f"{name}.bias", 0)
    return X


def mean_or_zero(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def log_loss(margins: Sequence[float]) -> float:
    """Return the mean of -ln sigma(margin); 0 of none."""
    return mean_or_zero([dense.softplus(-margin) for margin in margins])


# --- VBPR ---------------------------------------------------------------------------------------


def vbpr(inputs: Inputs, parameters: Parameters) -> tuple[Array, Array]:
    """Return VBPR's users [U, 2d] and items [I, 2d]."""
    F = np.hstack(raw_features(inputs, parameters))
    content = projected(F, inputs.mask.any(axis=1), parameters, "projection")
    return parameters["user_embedding"], np.hstack([parameters["item_embedding"], content])


def vbpr_terms(
    users: Array, items: Array, batch: Triplets, kind: str, weight: float
) -> tuple[float, float]:
    """Return VBPR's ranking loss and weighted penalty."""
    ranking = log_loss([users[u] @ items[i] - users[u] @ items[j] for u, i, j in batch])
    u, i, j = (list(column) for column in zip(*batch, strict=True))
    matrices = [users[u], items[i], items[j]]
    return ranking, weight * penalty(kind, matrices, len(batch))


# --- BM3 ----------------------------------------------------------------------------------------


def bm3(inputs: Inputs, parameters: Parameters, layers: int) -> tuple[Array, Array]:
    """Return BM3's users [U, d] and items [I, d] before the predictor."""
    P, Q = parameters["user_embedding"], parameters["item_embedding"]
    Z = mean_of_powers(dense.symmetric_adjacency(inputs.R), np.vstack([P, Q]), layers)
    return Z[: len(P)], Z[len(P) :] + Q


def bm3_scores(inputs: Inputs, parameters: Parameters, layers: int) -> Array:
    users, items = bm3(inputs, parameters, layers)
    return dense.linear(users, parameters, "predictor") @ (
        dense.linear(items, parameters, "predictor").T
    )


def bm3_terms(
    inputs: Inputs,
    parameters: Parameters,
    batch: Pairs,
    layers: int,
    kind: str,
    reg_weight: float,
    modality_weight: float,
    target: Callable[[Array], Array] = lambda x: x,
) -> tuple[float, float, float]:
    """Return the alignment, the modalities' alignments and the penalty.

    Args:
        inputs: what the model sees.
        parameters: by name.
        batch: pairs of user and item.
        layers: products with the graph.
        kind: norm of the penalty.
        reg_weight: lambda.
        modality_weight: gamma.
        target: what happens to a target [d], for example a known dropout.
    """
    users, items = bm3(inputs, parameters, layers)

    def predictor(x: Array) -> Array:
        return parameters["predictor.weight"] @ x + parameters["predictor.bias"]

    alignment = mean_or_zero(
        [
            (1 - cosine(predictor(users[u]), target(items[i])))
            + (1 - cosine(predictor(items[i]), target(users[u])))
            for u, i in batch
        ]
    )
    modalities = 0.0
    for m, F in enumerate(raw_features(inputs, parameters)):
        content = projected(F, inputs.mask[:, m], parameters, f"projections.{m}")
        modalities += mean_or_zero(
            [
                (1 - cosine(predictor(content[i]), target(items[i])))
                + (1 - cosine(predictor(content[i]), target(content[i])))
                for _, i in batch
                if inputs.mask[i, m]
            ]
        )
    # Row 0 of both tables is PAD, which is nobody.
    norm = penalty(kind, [users[1:], items[1:]], len(items) - 1)
    return alignment, modality_weight * modalities, reg_weight * norm


# --- FREEDOM ------------------------------------------------------------------------------------


def freedom(
    inputs: Inputs,
    parameters: Parameters,
    kept: Array,
    layers: int,
    item_layers: int,
    graph_weights: Sequence[float],
    neighbors: int,
) -> tuple[Array, Array]:
    """Return FREEDOM's users [U, d] and items [I, d] over the kept interactions [U, I]."""
    P, Q = parameters["user_embedding"], parameters["item_embedding"]
    Z = mean_of_powers(dense.symmetric_adjacency(kept), np.vstack([P, Q]), layers)
    S = dense.item_graph(inputs.features, inputs.mask, graph_weights, neighbors)
    return Z[: len(P)], Z[len(P) :] + np.linalg.matrix_power(S, item_layers) @ Q


def freedom_terms(
    inputs: Inputs,
    parameters: Parameters,
    tables: tuple[Array, Array],
    batch: Triplets,
    weight: float,
) -> tuple[float, float]:
    """Return FREEDOM's ranking loss and the weighted ones of the modalities."""
    users, items = tables
    ranking = log_loss([users[u] @ items[i] - users[u] @ items[j] for u, i, j in batch])
    single = 0.0
    for m, F in enumerate(raw_features(inputs, parameters)):
        content = projected(F, inputs.mask[:, m], parameters, f"projections.{m}")
        single += log_loss(
            [
                users[u] @ content[i] - users[u] @ content[j]
                for u, i, j in batch
                if inputs.mask[i, m] and inputs.mask[j, m]
            ]
        )
    return ranking, weight * single


def successive_sampling(weights: Sequence[float], count: int) -> dict[frozenset[int], float]:
    """Return the probability of each set that drawing one after another, not put back, gives."""
    probabilities: dict[frozenset[int], float] = {}

    def draw(chosen: tuple[int, ...], probability: float) -> None:
        if len(chosen) == count:
            key = frozenset(chosen)
            probabilities[key] = probabilities.get(key, 0.0) + probability
            return
        left = [edge for edge in range(len(weights)) if edge not in chosen]
        total = sum(weights[edge] for edge in left)
        for edge in left:
            draw((*chosen, edge), probability * weights[edge] / total)

    draw((), 1.0)
    return probabilities


# --- SLMRec -------------------------------------------------------------------------------------


def slmrec_views(inputs: Inputs, parameters: Parameters, layers: int) -> list[tuple[Array, Array]]:
    """Return users [U, d] and items [I, d] of the ids and of every modality, in this order."""
    A, P = dense.symmetric_adjacency(inputs.R), parameters["user_embedding"]
    item_inputs = [parameters["item_embedding"]]
    for m, F in enumerate(inputs.features):
        F = parameters.get(f"feature_matrix_{m}", dense.rows_of_length_one(F))
        item_inputs.append(projected(F, inputs.mask[:, m], parameters, f"projections.{m}"))
    views = []
    for X in item_inputs:
        Z = mean_of_powers(A, np.vstack([P, X]), layers)
        views.append((Z[: len(P)], Z[len(P) :]))
    return views


def slmrec(inputs: Inputs, parameters: Parameters, layers: int) -> tuple[Array, Array]:
    """Return SLMRec's fused users [U, d] and items [I, d]."""
    views = slmrec_views(inputs, parameters, layers)
    users = np.hstack([users for users, _ in views])
    items = np.hstack([items for _, items in views])
    return (
        dense.linear(users, parameters, "user_fusion"),
        dense.linear(items, parameters, "item_fusion"),
    )


def cross_entropy(logits: Array) -> float:
    """Return the mean of -ln softmax at the diagonal [N, N]; 0 of nothing."""
    return mean_or_zero([-float(np.log(dense.softmax(row)[n])) for n, row in enumerate(logits)])


def slmrec_terms(
    inputs: Inputs,
    parameters: Parameters,
    batch: Pairs,
    layers: int,
    temperature: float,
    ssl_temperature: float,
    ssl_weight: float,
) -> tuple[float, float]:
    """Return SLMRec's in-batch ranking loss and the weighted feature alignment."""
    users, items = slmrec(inputs, parameters, layers)
    ranking = cross_entropy(
        np.array([[cosine(users[u], items[i]) / temperature for _, i in batch] for u, _ in batch])
    )
    views = [items for _, items in slmrec_views(inputs, parameters, layers)]
    alignment = 0.0
    for m in range(len(inputs.features)):
        present = [i for _, i in batch if inputs.mask[i, m]]
        anchors = dense.linear(views[0][present], parameters, "id_head")
        targets = views[1 + m][present]
        if m == 0:
            targets = dense.linear(targets, parameters, "first_head")
        else:
            for layer in (0, 1):
                anchors = dense.linear(anchors, parameters, f"coarse_heads.{m - 1}.{layer}")
            targets = dense.linear(targets, parameters, f"later_heads.{m - 1}")
        alignment += cross_entropy(
            np.array([[a @ b / ssl_temperature for b in targets] for a in anchors])
        )
    return ranking, ssl_weight * alignment
