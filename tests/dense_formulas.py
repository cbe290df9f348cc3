"""The models' formulas on dense float64 arrays, one node, pair and modality at a time.

Written from the published equations alone, to check the sparse and batched code against. Nothing
here is fast, and nothing here may import the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


def softplus(x: float) -> float:
    return max(x, 0.0) + float(np.log1p(np.exp(-abs(x))))


def softmax(x: Array) -> Array:
    shifted = np.exp(x - x.max())
    return shifted / shifted.sum()


def rows_of_length_one(X: Array) -> Array:
    result = np.zeros_like(X)
    for row, x in enumerate(X):
        norm = np.sqrt((x**2).sum())
        result[row] = x / max(norm, 1e-12)
    return result


# --- graphs -------------------------------------------------------------------------------------


def symmetric_adjacency(R: Array) -> Array:
    """Return D^-1/2 A D^-1/2 [U + I, U + I] of R [U, I], without self loops."""
    users, items = R.shape
    A = np.zeros((users + items, users + items))
    for user, item in zip(*R.nonzero(), strict=True):
        scale = np.sqrt(R[user].sum() * R[:, item].sum())
        A[user, users + item] = A[users + item, user] = 1 / scale
    return A


def binary_knn(F: Array, present: Array, k: int) -> Array:
    """Return the kNN graph [I, I] by cosine, the item itself included, every edge 1/k."""
    S = np.zeros((len(F), len(F)))
    items = [item for item in range(len(F)) if present[item] and (F[item] != 0).any()]
    k = min(k, len(items))
    for item in items:
        cosine = [
            F[item] @ F[other] / np.linalg.norm(F[item]) / np.linalg.norm(F[other])
            for other in items
        ]
        for position in np.argsort(cosine)[::-1][:k]:
            S[item, items[position]] = 1 / k
    return S


def item_graph(features: Sequence[Array], mask: Array, weights: Sequence[float], k: int) -> Array:
    """Return the weighted sum of the kNN graphs; an item's missing modality spreads its weight."""
    S = np.zeros((len(mask), len(mask)))
    graphs = [binary_knn(F, mask[:, m], k) for m, F in enumerate(features)]
    for item in range(len(mask)):
        total = sum(weights[m] for m in range(len(weights)) if mask[item, m])
        for m, graph in enumerate(graphs):
            if mask[item, m]:
                S[item] += weights[m] / total * graph[item]
    return S


def co_user_graph(R: Array, k: int) -> Array:
    """Return the softmax of shared-item counts over each user's k strongest co-users [U, U]."""
    C = np.zeros((len(R), len(R)))
    for user in range(len(R)):
        shared = {
            other: int((R[user] * R[other]).sum()) for other in range(len(R)) if other != user
        }
        ranked = sorted(
            (other for other in shared if shared[other]),
            key=lambda other: (-shared[other], R[other].sum(), other),
        )[:k]
        if ranked:
            C[user, ranked] = softmax(np.array([shared[other] for other in ranked], dtype=float))
    return C


# --- backbones ----------------------------------------------------------------------------------


@dataclass
class Inputs:
    """What a backbone sees.

    Attributes:
        R: training interactions [U, I].
        features: per modality [I, D_m].
        mask: which item has which modality [I, M].
    """

    R: Array
    features: list[Array]
    mask: Array


def linear(X: Array, parameters: Mapping[str, Array], name: str) -> Array:
    return X @ parameters[f"{name}.weight"].T + parameters[f"{name}.bias"]


def dragon(
    inputs: Inputs,
    parameters: Mapping[str, Array],
    graph_weights: Sequence[float],
    item_neighbors: int,
    user_neighbors: int,
    item_layers: int = 1,
    user_weights: Array | None = None,
) -> tuple[Array, Array]:
    """Return DRAGON's users [U, M, d] and items [I, M, d]."""
    users = len(inputs.R)
    A = symmetric_adjacency(inputs.R)
    S = item_graph(inputs.features, inputs.mask, graph_weights, item_neighbors)
    C = co_user_graph(inputs.R, user_neighbors)
    all_users, all_items = [], []
    for m, F in enumerate(inputs.features):
        hidden = linear(F, parameters, f"projections.{m}.0")
        hidden = np.where(hidden > 0, hidden, 0.01 * hidden)
        projected = linear(hidden, parameters, f"projections.{m}.2")
        projected[~inputs.mask[:, m]] = 0
        X = rows_of_length_one(np.vstack([parameters[f"user_preference.{m}"], projected]))
        Z = X + A @ X + A @ (A @ X)
        Z_users, Z_items = Z[:users], Z[users:]
        if user_weights is not None:
            Z_users = Z_users * user_weights[:, m : m + 1]
        all_users.append(Z_users + C @ Z_users)
        all_items.append(Z_items + np.linalg.matrix_power(S, item_layers) @ Z_items)
    return np.stack(all_users, axis=1), np.stack(all_items, axis=1)


def lightgcn(inputs: Inputs, parameters: Mapping[str, Array], layers: int) -> tuple[Array, Array]:
    """Return users [U, M, d] and items [I, M, d] of LightGCN in each modality."""
    users = len(inputs.R)
    A = symmetric_adjacency(inputs.R)
    all_users, all_items = [], []
    for m, F in enumerate(inputs.features):
        projected = linear(F, parameters, f"projections.{m}")
        projected[~inputs.mask[:, m]] = 0
        X = np.vstack([parameters[f"user_preference.{m}"], projected])
        mean = sum(np.linalg.matrix_power(A, layer) @ X for layer in range(layers + 1))
        mean = mean / (layers + 1)
        all_users.append(mean[:users])
        all_items.append(mean[users:])
    return np.stack(all_users, axis=1), np.stack(all_items, axis=1)


def preference_penalty(parameters: Mapping[str, Array], users: Array, modalities: int) -> float:
    """Return the sum over modalities of the mean squared preference entries of a batch."""
    return sum(
        float((parameters[f"user_preference.{m}"][users] ** 2).mean()) for m in range(modalities)
    )


# --- losses -------------------------------------------------------------------------------------


def item_weights(logits: Array, present: Array) -> Array:
    """Return w_i [M]: the softmax over the present modalities; uniform if there is none."""
    if not present.any():
        return np.full(len(logits), 1 / len(logits))
    w = np.zeros(len(logits))
    w[present] = softmax(logits[present])
    return w


def modality_scores(user: Array, item: Array) -> Array:
    """Return r_ui^m [M] of a user [M, d] and an item [M, d]."""
    return np.array([user[m] @ item[m] for m in range(len(user))])


def reliability(difference: Array, usable: Array) -> Array | None:
    """Return z [M] of d [M]; none if no modality supports the pair."""
    supporting = usable & (difference >= 0)
    if not supporting.any():
        return None
    z = np.zeros(len(difference))
    z[supporting] = softmax(difference[supporting])
    return z


def confidence(positive: float, negative: float, z: Array | None, tau: float) -> float:
    if z is None or positive <= negative:
        return 0.0
    return float(np.tanh((positive - negative) / tau))


def divergence(z: Array, w: Array) -> float:
    """Return KL(z || w)."""
    return sum(float(z[m] * np.log(z[m] / w[m])) for m in range(len(z)) if z[m] > 0)


@dataclass
class Triplets:
    """What MARGO's second stage computes of a batch.

    Attributes:
        ranking: L_rec.
        calibration: L_cal, before alpha.
        targets: z and c of every triplet.
    """

    ranking: float
    calibration: float
    targets: list[tuple[Array | None, float]]


def plain_ranking(users: Array, items: Array, batch: Sequence[tuple[int, int, int]]) -> float:
    """Return L_rec of the unweighted sum of the modality scores."""
    total = 0.0
    for user, positive, negative in batch:
        s_ui = modality_scores(users[user], items[positive]).sum()
        s_uj = modality_scores(users[user], items[negative]).sum()
        total += softplus(-(s_ui - s_uj))
    return total / len(batch)


def difference_spread(users: Array, items: Array, mask: Array) -> Array:
    """Return the root mean square of r_ui^m - r_uj^m [M] over all users and pairs of items."""
    squares: list[list[float]] = [[] for _ in range(mask.shape[1])]
    for user in users[1:]:
        r = np.array([modality_scores(user, item) for item in items])
        for m, found in enumerate(squares):
            known = r[mask[:, m], m]
            found.extend(((known[:, None] - known[None, :]) ** 2).ravel())
    return np.array([np.sqrt(np.mean(found)) for found in squares])


def weighted_terms(
    users: Array,
    items: Array,
    logits: Array,
    mask: Array,
    batch: Sequence[tuple[int, int, int]],
    tau: float,
    targets: list[tuple[Array | None, float]] | None = None,
    unit: Array | float = 1.0,
) -> Triplets:
    """Return the terms of stage 2; given targets are constants, as under a stop-gradient.

    `unit` [M] is that of the differences of Eq. 5.
    """
    ranking, calibration, computed = 0.0, 0.0, []
    for number, (user, i, j) in enumerate(batch):
        r_i, r_j = modality_scores(users[user], items[i]), modality_scores(users[user], items[j])
        w_i, w_j = item_weights(logits[i], mask[i]), item_weights(logits[j], mask[j])
        positive, negative = float(w_i @ r_i), float(w_j @ r_j)
        if targets is None:
            z = reliability((r_i - r_j) / unit, mask[i] & mask[j])
            c = confidence(positive, negative, z, tau)
        else:
            z, c = targets[number]
        ranking += softplus(-(positive - negative))
        if z is not None and c > 0:
            calibration += c * divergence(z, (w_i + w_j) / 2)
        computed.append((z, c))
    return Triplets(ranking / len(batch), calibration / len(batch), computed)
