"""Recommendations from a trained model, by raw ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import ConfigError, UnknownIdError
from recbole_margo.serving.bundle import Bundle
from recbole_margo.serving.bundle_files import MANIFEST, open_bundle, write_bundle
from recbole_margo.serving.explanation import Explanation, explain_score
from recbole_margo.serving.new_items import (
    NewFeatures,
    check_encoders,
    fold_in_users,
    read_new_features,
    with_new_items,
)

# Scores that are computed at once; bounds the memory.
CELLS = 2**22
NAMED = 5


@dataclass(frozen=True)
class RankedItem:
    """An item in a list of recommendations.

    Attributes:
        score: its score; of similar items the cosine.
        title: its title, empty if it has none.
    """

    item: str
    score: float
    title: str


@dataclass(frozen=True)
class Recommendations:
    """The list of one user.

    Attributes:
        user: raw id; none for a user who is described by a history alone.
        items: the best first.
        popular: whether these are the most popular items, because the model does not know the user.
    """

    user: str | None
    items: tuple[RankedItem, ...]
    popular: bool = False


class Recommender:
    """Ranks the items of a bundle for its users and for new ones.

    Scores are those of the model's `full_sort_predict`.

    Args:
        bundle: what serving needs of a trained model.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._user_rows = {user: row for row, user in enumerate(bundle.user_ids)}
        self._item_rows = {item: row for row, item in enumerate(bundle.item_ids)}

    @classmethod
    def load(cls, source: str | Path) -> Recommender:
        """Open a bundle, or make one in memory of a finished run.

        Args:
            source: folder of a bundle, or of the run of one model.

        Raises:
            BundleError: the bundle is damaged, or the model of the run has no tables to score with.
            CheckpointError: there is neither a bundle nor a finished run.
        """
        if (Path(source) / MANIFEST).is_file():
            return cls(open_bundle(source))
        # Needs torch and RecBole, and the dataset.
        from recbole_margo.serving.bundling import bundle_of_run

        return cls(bundle_of_run(Path(source)))

    def recommend(
        self,
        users: Sequence[str] | None = None,
        n: int = 10,
        *,
        history: Sequence[str] | None = None,
        exclude_seen: bool = True,
        allow: Iterable[str] | None = None,
        deny: Iterable[str] | None = None,
        on_unknown: Literal["error", "popular"] = "error",
    ) -> list[Recommendations]:
        """Return the n items with the largest scores for each user.

        Args:
            users: raw ids.
            n: length of the lists; a user who knows almost all items gets what is left.
            history: items of one user who is new, in place of `users`.
            exclude_seen: whether to leave out the items that a user knows.
            allow: the only items that may be recommended; none: all.
            deny: items that may not be.
            on_unknown: whether a user whom the model does not know is an error, or gets the most
                popular items.

        Raises:
            UnknownIdError: a user or an item is not known.
            ConfigError: `n` is not between 1 and the number of items, or there are no users.
        """
        self.check_n(n)
        candidates = self._candidates(allow, deny)
        if (users is None) == (history is None):
            raise ConfigError("expected either `users` or `history`, found both or neither")
        if history is not None:
            rows = np.unique(self._rows_of_items(history))
            tables = fold_in_users(self.bundle, [rows])
            seen = [rows if exclude_seen else rows[:0]]
            top, scores = self._top(tables, seen, candidates, n)
            return [Recommendations(None, self._ranked(top[0], scores[0]))]
        return self._of_users(_texts(users), n, exclude_seen, candidates, on_unknown)

    def _of_users(
        self,
        users: Sequence[str],
        n: int,
        exclude_seen: bool,
        candidates: NDArray[np.bool_],
        on_unknown: str,
    ) -> list[Recommendations]:
        if on_unknown not in ("error", "popular"):
            raise ConfigError(f"on_unknown must be `error` or `popular`, found {on_unknown!r}")
        if on_unknown == "error":
            _refuse_unknown("user", users, self._user_rows)
        known = np.array([self._user_rows[u] for u in users if u in self._user_rows], dtype=int)
        ranked = self.rank(known, n, exclude_seen, candidates)
        popular = self._popular(candidates, n) if len(known) < len(users) else ()
        return [
            Recommendations(user, self._ranked(*next(ranked)))
            if user in self._user_rows
            else Recommendations(user, popular, popular=True)
            for user in users
        ]

    def rank(
        self,
        users: NDArray[np.intp],
        n: int,
        exclude_seen: bool = True,
        candidates: NDArray[np.bool_] | None = None,
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Yield the rows of the n best items and their scores for each user, block by block.

        Args:
            users: rows of users [B].
            n: how many.
            exclude_seen: whether to leave out the items that a user knows.
            candidates: which items may be ranked [I]; none: all.

        Returns:
            Per user, item rows [n] and scores [n], or as many as are left.
        """
        allowed = np.ones(len(self.bundle.item_ids), bool) if candidates is None else candidates
        step = max(CELLS // max(len(self.bundle.item_ids), 1), 1)
        for first in range(0, len(users), step):
            block = users[first : first + step]
            seen = [self.seen(user) if exclude_seen else self.seen(user)[:0] for user in block]
            yield from zip(*self._top(self.bundle.users[block], seen, allowed, n), strict=True)

    def seen(self, user: int) -> NDArray[np.int32]:
        """Return the rows of the items that a user, given by row, knows."""
        start, stop = self.bundle.seen_starts[user : user + 2]
        return self.bundle.seen_items[start:stop]

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return the scores [B] of pairs of a user and an item; an `UnknownIdError` for others."""
        users = [user for user, _ in pairs]
        _refuse_unknown("user", users, self._user_rows)
        items = self.bundle.items[self._rows_of_items([item for _, item in pairs])]
        rows = np.array([self._user_rows[user] for user in users], dtype=int)
        scores: NDArray[np.float32] = np.einsum("bk,bk->b", self.bundle.users[rows], items)
        return scores

    def similar_items(
        self, item: str, n: int = 10, modality: str | None = None
    ) -> tuple[RankedItem, ...]:
        """Return the n items whose rows of the item table are most alike, by cosine.

        Args:
            item: raw id.
            n: how many.
            modality: the part of the score to compare by; none: all.

        Raises:
            UnknownIdError: the item is not known.
            ConfigError: the score has no such part, or `n` is out of range.
        """
        self.check_n(n)
        columns = slice(None)
        if modality is not None:
            blocks = {block.name: block for block in self.bundle.facts.blocks}
            if modality not in blocks:
                raise ConfigError(
                    f"modality must be one of {', '.join(blocks)}, found {modality!r:.80}"
                )
            columns = slice(blocks[modality].start, blocks[modality].stop)
        (row,) = self._rows_of_items([item])
        table = self.bundle.items[:, columns]
        lengths = np.maximum(np.linalg.norm(table, axis=1), np.finfo(np.float32).tiny)
        cosines = table @ (table[row] / lengths[row]) / lengths
        others = np.ones(len(cosines), bool)
        others[row] = False
        rows, values = largest(cosines, others, n)
        return self._ranked(rows, values)

    def explain(self, user: str, item: str) -> Explanation:
        """Return the parts of a score, which add up to it, and how far each is to be trusted.

        An `UnknownIdError` names a user or an item, given by raw id, that is not known.
        """
        return explain_score(self.bundle, self.user_row(user), self.item_row(item))

    def add_items(
        self, features: NewFeatures | str | Path, titles: Mapping[str, str] | None = None
    ) -> Recommender:
        """Return a recommender that knows new items too; this one stays as it is.

        A new item is recommended, scored, compared and explained as any other. See
        `recbole_margo.serving.new_items` for what its row is.

        Args:
            features: raw features by item and modality, `{"b7": {"image": row}}`; or a folder in
                the project's feature format.

        Raises:
            BundleError: the contents do not enter the model's scores, or the bundle is too old.
            FeatureError: a row has the wrong columns, a modality is unknown, an item has none; the
                features of a folder are of another encoder than those of the trained items.
            ConfigError: an item is there already.
        """
        if isinstance(features, str | Path):
            where = Path(features)
            features, encoders = read_new_features(where)
            check_encoders(self.bundle, encoders, where)
        return Recommender(with_new_items(self.bundle, features, titles))

    def save(self, folder: str | Path) -> None:
        """Write the bundle whole into a new or empty folder; a `BundleError` at another one."""
        write_bundle(self.bundle, Path(folder))

    def item_row(self, item: str) -> int:
        """Return the row of an item; an `UnknownIdError` if it has none."""
        return int(self._rows_of_items([item])[0])

    def user_row(self, user: str) -> int:
        """Return the row of a user; an `UnknownIdError` if there is none."""
        _refuse_unknown("user", [user], self._user_rows)
        return self._user_rows[user]

    def check_n(self, n: int) -> None:
        """Raise a `ConfigError` unless a list can have `n` items."""
        items = len(self.bundle.item_ids)
        if type(n) is not int or not 1 <= n <= items:
            raise ConfigError(f"n must be a whole number from 1 to {items}, found {n!r:.40}")

    def _rows_of_items(self, items: Sequence[str]) -> NDArray[np.intp]:
        _refuse_unknown("item", _texts(items), self._item_rows)
        return np.array([self._item_rows[item] for item in items], dtype=int)

    def _candidates(
        self, allow: Iterable[str] | None, deny: Iterable[str] | None
    ) -> NDArray[np.bool_]:
        candidates = np.full(len(self.bundle.item_ids), allow is None)
        if allow is not None:
            candidates[self._rows_of_items(list(allow))] = True
        if deny is not None:
            candidates[self._rows_of_items(list(deny))] = False
        return candidates

    def _top(
        self,
        users: NDArray[np.float32],
        seen: Sequence[NDArray[np.integer]],
        candidates: NDArray[np.bool_],
        n: int,
    ) -> tuple[list[NDArray[np.intp]], list[NDArray[np.float32]]]:
        """Return item rows and scores of the n best candidates of each user [B, K]."""
        tops, values = [], []
        block = users @ self.bundle.items.T
        if not candidates.all():
            block[:, ~candidates] = -np.inf
        for scores, known in zip(block, seen, strict=True):
            scores[known] = -np.inf
            rows, best = _largest_finite(scores, n)
            tops.append(rows)
            values.append(best)
        return tops, values

    def _popular(self, candidates: NDArray[np.bool_], n: int) -> tuple[RankedItem, ...]:
        counts = np.bincount(self.bundle.seen_items, minlength=len(candidates))
        return self._ranked(*largest(counts.astype(np.float32), candidates, n))

    def _ranked(
        self, rows: NDArray[np.intp], scores: NDArray[np.float32]
    ) -> tuple[RankedItem, ...]:
        bundle = self.bundle
        return tuple(
            RankedItem(bundle.item_ids[row], float(score), bundle.titles[row])
            for row, score in zip(rows, scores, strict=True)
        )


def largest(
    scores: NDArray[np.float32], allowed: NDArray[np.bool_], n: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return rows and values of the n largest allowed scores; of equal ones the lower row first."""
    return _largest_finite(np.where(allowed, scores, np.float32(-np.inf)), n)


def _largest_finite(
    scores: NDArray[np.float32], n: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return rows and values of the n largest scores above minus infinity; as `largest`."""
    threshold = -np.inf
    if len(scores) > n:
        threshold = np.partition(scores, len(scores) - n)[len(scores) - n]
    rows = np.flatnonzero((scores >= threshold) & (scores > -np.inf))
    values = scores[rows]
    order = np.argsort(-values, kind="stable")[:n]
    return rows[order], values[order]


def _texts(ids: Sequence[str] | None) -> Sequence[str]:
    if ids is None or isinstance(ids, str) or not all(isinstance(each, str) for each in ids):
        raise ConfigError(f"expected a list of raw ids, each a text, found {ids!r:.80}")
    return ids


def _refuse_unknown(kind: str, ids: Sequence[str], known: dict[str, int]) -> None:
    unknown = [each for each in dict.fromkeys(ids) if each not in known]
    if unknown:
        named = ", ".join(repr(each)[:80] for each in unknown[:NAMED])
        more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
        example = next(iter(known), "")
        raise UnknownIdError(
            f"expected ids of {kind}s that the model was trained with, such as {example!r:.80}, "
            f"found {named}{more}",
            kind,
            str(unknown[0]),
        )
