"""GRCN and LGMRec on dense float64 arrays, one node and one edge at a time.

Written from `shared/spec/baselines.md` and what the models say of themselves; see `dense_formulas`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from dense_formulas import (
    Array,
    Inputs,
    linear,
    rows_of_length_one,
    softmax,
    softplus,
    symmetric_adjacency,
)

Triplet = tuple[int, int, int]


def ranking(users: Array, items: Array, batch: Sequence[Triplet]) -> float:
    """Return -mean ln sigmoid(r_ui - r_uj) for tables [U, K] and [I, K]."""
    return sum(softplus(users[u] @ items[j] - users[u] @ items[i]) for u, i, j in batch) / len(
        batch
    )


# --- GRCN -----------------------------------------------------------------------------------------


def attention(senders: Sequence[int], receiver: int, X: Array) -> dict[int, float]:
    """Return sender -> share of the softmax over the edges into one receiver."""
    if not senders:
        return {}
    shares = softmax(np.array([X[receiver] @ X[sender] for sender in senders]))
    return {sender: float(share) for sender, share in zip(senders, shares, strict=True)}


def received(senders_of: Mapping[int, Sequence[int]], X: Array) -> Array:
    """Return the messages at every node [N, d], weighed by attention."""
    messages = np.zeros_like(X)
    for receiver, senders in senders_of.items():
        for sender, share in attention(senders, receiver, X).items():
            messages[receiver] += share * X[sender]
    return messages


def routed(
    inputs: Inputs, preferences: Array, contents: Array, m: int, routing: str, iterations: int
) -> Array:
    """Return the users' preferences [U, d] after all iterations.

    `original` runs the whole published algorithm on the edges from users to items, so that what
    arrives at the users is whatever that graph brings them; `paper` runs it on the opposite edges.
    """
    users = len(inputs.R)
    items_of = {u: [int(i) for i in inputs.R[u].nonzero()[0]] for u in range(users)}
    users_of = {
        users + i: [int(u) for u in column.nonzero()[0]] for i, column in enumerate(inputs.R.T)
    }
    with_content = {
        u: [users + i for i in items if inputs.mask[i, m]] for u, items in items_of.items()
    }
    p = preferences
    for _ in range(iterations):
        messages = received(
            users_of if routing == "original" else with_content, np.vstack([p, contents])
        )
        p = rows_of_length_one(p + messages[:users])
    return p


def grcn(
    inputs: Inputs, parameters: Mapping[str, Array], routing: str = "original", iterations: int = 3
) -> tuple[Array, Array]:
    """Return GRCN's users [U, (1 + M) d] and items [I, (1 + M) d]."""
    users, nodes = len(inputs.R), sum(inputs.R.shape)
    confidence = np.vstack([parameters["user_confidence"], parameters["item_confidence"]])
    # candidates[receiver, sender] lists what each modality says of the edge.
    candidates: dict[tuple[int, int], list[float]] = {}
    parts = []
    for m, F in enumerate(inputs.features):
        hidden = linear(F, parameters, f"projections.{m}")
        hidden = np.where(hidden > 0, hidden, 0.01 * hidden)
        hidden[~inputs.mask[:, m]] = 0
        contents = rows_of_length_one(hidden)
        preferences = rows_of_length_one(parameters[f"user_preference.{m}"])
        preferences = routed(inputs, preferences, contents, m, routing, iterations)
        X = np.vstack([preferences, contents])
        Z = X.copy()
        for receiver in range(nodes):
            if receiver < users:
                neighbours = users + inputs.R[receiver].nonzero()[0]
                senders = [int(n) for n in neighbours if inputs.mask[n - users, m]]
            else:
                neighbours = inputs.R[:, receiver - users].nonzero()[0]
                senders = [int(n) for n in neighbours]
            shares = attention(senders, receiver, X)
            for sender in neighbours:
                share = shares.get(int(sender), 0.0)
                Z[receiver] += share * X[sender]
                candidates.setdefault((receiver, int(sender)), []).append(
                    share * confidence[sender, m]
                )
        parts.append(Z)
    W = np.zeros((nodes, nodes))
    for edge, values in candidates.items():
        W[edge] = max(0.0, max(values))
    Q = rows_of_length_one(np.vstack([parameters["user_embedding"], parameters["item_embedding"]]))
    ids = Q + W @ Q + W @ (W @ Q)
    table = np.hstack([ids, *parts])
    return table[:users], table[users:]


def grcn_penalty(parameters: Mapping[str, Array], batch: Sequence[Triplet], modalities: int):
    """Return the mean over 2B rows of the squares of both ids, and the batch's preferences'."""
    rows = [
        parameters["user_embedding"][user] ** 2 + parameters["item_embedding"][item] ** 2
        for user, *items in batch
        for item in items
    ]
    users = [user for user, _, _ in batch]
    of_preferences = sum(
        np.mean([parameters[f"user_preference.{m}"][user] ** 2 for user in users])
        for m in range(modalities)
    )
    return float(np.mean(rows) + of_preferences)


# --- LGMRec ---------------------------------------------------------------------------------------


@dataclass
class Draws:
    """What chance adds to the assignments of one modality.

    Attributes:
        noise_of_items, noise_of_users: Gumbel noise on the logits [I, H], [U, H].
        kept_items, kept_users: what dropout multiplies the shares with [I, H], [U, H].
    """

    noise_of_items: Array | float = 0.0
    noise_of_users: Array | float = 0.0
    kept_items: Array | float = 1.0
    kept_users: Array | float = 1.0


@dataclass
class LGMRecSizes:
    """The hyper-parameters of LGMRec that its embeddings depend on."""

    interaction_layers: int = 2
    modality_layers: int = 2
    hypergraph_layers: int = 1
    assignment_temperature: float = 0.2
    global_weight: float = 0.3


def assignment(logits: Array, noise: Array | float, kept: Array | float, tau: float) -> Array:
    return np.stack([softmax(row) for row in (logits + noise) / tau]) * kept


def mean_content(inputs: Inputs, content: Array, m: int) -> Array:
    """Return each user's mean of the contents [U, d] of the items that have the modality."""
    means = np.zeros((len(inputs.R), content.shape[1]))
    for user, row in enumerate(inputs.R):
        items = [item for item in row.nonzero()[0] if inputs.mask[item, m]]
        if items:
            means[user] = sum(content[item] for item in items) / len(items)
    return means


def lgmrec(
    inputs: Inputs,
    parameters: Mapping[str, Array],
    sizes: LGMRecSizes,
    draws: Sequence[Draws] | None = None,
) -> tuple[Array, Array, list[tuple[Array, Array]]]:
    """Return users [U, d], items [I, d] and each modality's hypergraph users and items."""
    users = len(inputs.R)
    draws = draws or [Draws()] * len(inputs.features)
    A = symmetric_adjacency(inputs.R)
    P = np.vstack([parameters["user_embedding"], parameters["item_embedding"]])
    layers = [P]
    for _ in range(sizes.interaction_layers):
        layers.append(A @ layers[-1])
    C = np.mean(layers, axis=0)
    total, hypergraphs = C.copy(), []
    for m, F in enumerate(inputs.features):
        present = inputs.mask[:, m].astype(float)[:, None]
        content = F @ parameters[f"projections.{m}"] * present
        Z = np.vstack([mean_content(inputs, content, m), content])
        for _ in range(sizes.modality_layers):
            Z = A @ Z
        total += rows_of_length_one(Z)

        logits = F @ parameters[f"hyperedges.{m}"] * present
        tau, drawn = sizes.assignment_temperature, draws[m]
        H_items = assignment(logits, drawn.noise_of_items, drawn.kept_items, tau) * present
        H_users = assignment(inputs.R @ logits, drawn.noise_of_users, drawn.kept_users, tau)
        x = C[users:]
        for _ in range(sizes.hypergraph_layers):
            of_edges = H_items.T @ x
            x, y = H_items @ of_edges, H_users @ of_edges
        hypergraphs.append((y, x))
    spread = sum(np.vstack(pair) for pair in hypergraphs)
    total += sizes.global_weight * rows_of_length_one(spread)
    return total[:users], total[users:], hypergraphs


def contrast(
    anchors: Array,
    targets: Array,
    nodes: Sequence[int],
    tau: float,
    counted: Array | None = None,
) -> float:
    """Return the sum over nodes of -ln(e^(cos(a_n, t_n) / tau) / sum_j e^(cos(a_n, t_j) / tau)).

    j runs over all rows but PAD's; both n and j over those that count.
    """
    a, t = rows_of_length_one(anchors), rows_of_length_one(targets)
    taking_part = [row for row in range(1, len(t)) if counted is None or counted[row]]
    total = 0.0
    for node in nodes:
        if node not in taking_part:
            continue
        denominator = sum(np.exp(a[node] @ t[other] / tau) for other in taking_part)
        total -= float(a[node] @ t[node] / tau - np.log(denominator))
    return total


def contrast_of_pairs(
    hypergraphs: Sequence[tuple[Array, Array]], mask: Array, batch: Sequence[Triplet], tau: float
) -> float:
    """Return the contrasts of users and positive items of all pairs of modalities."""
    users, positives, _ = zip(*batch, strict=True)
    total = 0.0
    for m, n in combinations(range(len(hypergraphs)), 2):
        (y_m, x_m), (y_n, x_n) = hypergraphs[m], hypergraphs[n]
        total += contrast(y_m, y_n, users, tau)
        total += contrast(x_m, x_n, positives, tau, mask[:, m] & mask[:, n])
    return total


def batch_penalty(users: Array, items: Array, batch: Sequence[Triplet], kind: str) -> float:
    """Return (|u| + |p| + |n|) / B of a batch's rows; or half the sum of squares over B."""
    u, p, n = (list(ids) for ids in zip(*batch, strict=True))
    norms = [np.sqrt((rows**2).sum()) for rows in (users[u], items[p], items[n])]
    if kind == "squared":
        return float(sum(norm**2 for norm in norms) / 2 / len(batch))
    return float(sum(norms) / len(batch))
