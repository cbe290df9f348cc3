"""How well items are ranked that no model was trained with, and what simple baselines reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from recbole_margo.data.features import modality_names, raw_features
from recbole_margo.data.protocol import ColdItems, cold_items_of
from recbole_margo.errors import FeatureError
from recbole_margo.evaluation.score_tables import content_of, score_tables
from recbole_margo.graph.bipartite import interaction_matrix
from recbole_margo.nn.content_path import unit_rows
from recbole_margo.nn.new_items import prior_weights

CONTENTS, MEAN_ITEM, NOTHING = "contents", "the mean item", "nothing"
POPULARITY, CONTENT_KNN = "popularity", "content kNN"
# Scores that are computed at once; bounds the memory.
CELLS = 2**24

Scores = Callable[[NDArray[np.int64]], NDArray[np.float32]]


@dataclass(frozen=True)
class ColdResult:
    """Metrics over the cold items of a run, means over users.

    Attributes:
        scored_by: what the scores of cold items come from.
        users: users with training interactions and cold ones.
        interactions: of these users with these items.
        among_cold: `recall@20` and the like, where cold items alone are ranked.
        among_all: where all items are ranked that the user does not know.
        warm: of the baselines, the metrics of the usual test.
    """

    scored_by: str
    users: int
    items: int
    interactions: int
    among_cold: Mapping[str, float]
    among_all: Mapping[str, float]
    warm: Mapping[str, float]


@dataclass(frozen=True)
class ColdTest:
    """The candidates and hits of a cold test; items are the trained ones, then the cold ones.

    Attributes:
        trained: training interactions, PAD left out [U, I].
        known: interactions of any part [U, I].
        tested: interactions of the usual test, and what is masked there, both [U, I].
        wanted: interactions with cold items [U, C].
    """

    cold: ColdItems
    trained: sp.csr_matrix
    known: sp.csr_matrix
    tested: sp.csr_matrix
    masked: sp.csr_matrix
    wanted: sp.csr_matrix
    topk: tuple[int, ...]

    @classmethod
    def of_loaders(cls, config: Any, loaders: Sequence[Any]) -> ColdTest | None:
        """Return the cold test of a split, none where no items are cold."""
        train = loaders[0]._dataset
        cold = cold_items_of(train)
        if cold is None:
            return None
        train_part, valid, test = (interaction_matrix(loader._dataset)[:, 1:] for loader in loaders)
        masked = train_part if config["eval_protocol"] == "mmrec" else train_part + valid
        shape = (train.user_num, len(cold.tokens))
        wanted = sp.csr_matrix((np.ones(len(cold.users)), (cold.users, cold.items)), shape)
        wanted.data[:] = 1
        # Nothing is known of users without training interactions.
        has = np.diff(train_part.indptr) > 0
        wanted = sp.csr_matrix(sp.diags(has.astype(float)) @ wanted)
        wanted.eliminate_zeros()
        known = train_part + valid + test
        topk = tuple(np.atleast_1d(config["topk"]).tolist())
        return cls(cold, train_part, known, test, masked, wanted, topk)

    def result(self, scores: Scores, scored_by: str) -> ColdResult:
        """Return the metrics of the cold items.

        Args:
            scores: of users [B] for all items [B, I + C].
        """
        trained = self.trained.shape[1]
        users = np.flatnonzero(np.diff(self.wanted.indptr))

        def of_cold(block: NDArray[np.int64]) -> NDArray[np.float32]:
            return scores(block)[:, trained:]

        masked = sp.hstack([self.known, sp.csr_matrix(self.wanted.shape)], "csr")
        everything = sp.hstack([sp.csr_matrix(self.trained.shape), self.wanted], "csr")
        return ColdResult(
            scored_by,
            users=len(users),
            items=self.wanted.shape[1],
            interactions=int(self.wanted.nnz),
            among_cold=ranking_metrics(of_cold, users, self.wanted, None, self.topk),
            among_all=ranking_metrics(scores, users, everything, masked, self.topk),
            warm={},
        )

    def warm(self, scores: Scores) -> dict[str, float]:
        """Return the metrics of the usual test, without the cold items."""
        users = np.flatnonzero(np.diff(self.tested.indptr))

        def of_trained(block: NDArray[np.int64]) -> NDArray[np.float32]:
            return scores(block)[:, : self.trained.shape[1]]

        return ranking_metrics(of_trained, users, self.tested, self.masked, self.topk)


def evaluate_cold_items(config: Any, loaders: Sequence[Any], model: Any) -> ColdResult | None:
    """Return how well a trained model ranks the cold items of its run, none where there are none.

    A cold item's row of the item table is that of `ContentPath`. A model whose scores do not depend
    on contents has nothing to tell cold items apart by: each gets the mean row of the trained
    items, in random order. A model without tables cannot score them at all.
    """
    test = ColdTest.of_loaders(config, loaders)
    if test is None:
        return None
    train = loaders[0]._dataset
    tables = score_tables(model, train)
    if tables is None:
        empty: dict[str, float] = {}
        counted = test.result(_flat(test), NOTHING)
        return replace(counted, among_cold=empty, among_all=empty)
    users, items = (table.detach().float().cpu().numpy() for table in tables)
    items = items[1:]
    rows = _rows_of_contents(config, train, model, test.cold)
    how = CONTENTS
    if rows is None:
        rows, how = np.tile(items.mean(axis=0), (len(test.cold.tokens), 1)), MEAN_ITEM
    everything = np.concatenate([items, rows])
    lost = np.flatnonzero(~rows.any(axis=1)) + len(items)

    def scores(block: NDArray[np.int64]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = users[block] @ everything.T
        found[:, lost] = -np.inf
        return found

    return test.result(scores, how)


def cold_baselines(config: Any, loaders: Sequence[Any]) -> dict[str, ColdResult]:
    """Return what baselines reach that need no training, by name.

    `popularity` ranks by training interactions, of which cold items have none. `content kNN` ranks
    by the mean cosine with the contents of the items that the user was trained on, summed over the
    modalities; it is left out where there are no features.
    """
    test = ColdTest.of_loaders(config, loaders)
    if test is None:
        return {}
    counts = np.asarray(test.trained.sum(axis=0), np.float32).ravel()
    popular = np.concatenate([counts, np.zeros(len(test.cold.tokens), np.float32)])
    baselines: dict[str, Scores] = {POPULARITY: lambda block: np.tile(popular, (len(block), 1))}
    train = loaders[0]._dataset
    try:
        names = modality_names(config)
        tokens = [str(token) for token in train.field2id_token[train.iid_field][1:]]
        matrices, _ = raw_features(config, names, [*tokens, *test.cold.tokens])
    except FeatureError:
        matrices = []
    if matrices:
        baselines[CONTENT_KNN] = _content_knn([unit_rows(each) for each in matrices], test.trained)
    return {
        name: replace(test.result(scores, name), warm=test.warm(scores))
        for name, scores in baselines.items()
    }


def ranking_metrics(
    scores: Scores,
    users: NDArray[np.int64],
    wanted: sp.csr_matrix,
    masked: sp.csr_matrix | None,
    topk: Sequence[int],
) -> dict[str, float]:
    """Return Recall@K and NDCG@K as RecBole defines them, means over users.

    Args:
        scores: of users [B] for all items [B, I]; of equal ones the first item comes first.
        users: who is evaluated [N].
        wanted: which items count [U, I].
        masked: which items are no candidates [U, I].
    """
    longest, step = max(topk), max(CELLS // wanted.shape[1], 1)
    hits = []
    for start in range(0, len(users), step):
        block = users[start : start + step]
        found = np.array(scores(block), np.float32)
        if masked is not None:
            found[masked[block].nonzero()] = -np.inf
        top = np.argsort(-found, axis=1, kind="stable")[:, :longest]
        there = np.isfinite(np.take_along_axis(found, top, axis=1))
        hits.append(np.take_along_axis(wanted[block].toarray() > 0, top, axis=1) & there)
    counts = np.diff(wanted.indptr)[users]
    hit = np.concatenate(hits) if hits else np.zeros((0, longest), bool)
    gains = 1 / np.log2(np.arange(2, longest + 2))
    metrics = {}
    for k in topk:
        recall = hit[:, :k].sum(axis=1) / counts
        ideal = np.cumsum(gains)[np.minimum(counts, k) - 1]
        ndcg = (hit[:, :k] * gains[: hit[:, :k].shape[1]]).sum(axis=1) / ideal
        metrics[f"recall@{k}"], metrics[f"ndcg@{k}"] = float(recall.mean()), float(ndcg.mean())
    return dict(sorted(metrics.items(), key=lambda item: item[0].split("@")[0], reverse=True))


@torch.no_grad()
def _rows_of_contents(
    config: Any, train: Any, model: Any, cold: ColdItems
) -> NDArray[np.float32] | None:
    content = content_of(config, train, model)
    if content is None:
        return None
    raw, present = raw_features(config, content.path.modalities, cold.tokens)
    weights = None
    if hasattr(model, "item_weights") and getattr(model, "stage", "") != "stage1":
        known, has = (
            table[1:].cpu().numpy() for table in (model.item_weights(), model.modality_mask)
        )
        weights = prior_weights(known, has, present)
    return content.item_rows(raw, present, weights)


def _content_knn(rows: Sequence[NDArray[np.float32]], trained: sp.csr_matrix) -> Scores:
    def scores(block: NDArray[np.int64]) -> NDArray[np.float32]:
        history = trained[block]
        counts = np.maximum(np.asarray(history.sum(axis=1)), 1)
        total = np.zeros((len(block), len(rows[0])), np.float32)
        for matrix in rows:
            profiles = (history @ matrix[: trained.shape[1]]) / counts
            total += np.asarray(profiles, np.float32) @ matrix.T
        return total

    return scores


def _flat(test: ColdTest) -> Scores:
    width = test.trained.shape[1] + len(test.cold.tokens)
    return lambda block: np.zeros((len(block), width), np.float32)
