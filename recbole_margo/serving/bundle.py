"""The bundle: what serving needs of a trained model, as plain tables in a folder.

    bundle.json        format, model, dataset, metrics, blocks of the scores; size and SHA-256 of
                       every other file
    users.npy          user table [U, K]
    items.npy          item table [I, K]; a score is the inner product of two rows
    seen_starts.npy    [U + 1]: the items that user u knows stand from starts[u] to starts[u + 1]
    seen_items.npy     [E] rows of the item table
    fold_in.npy        [K, K] map from the mean item of a history to a user, see `fold_in`
    modality_weights.npy, modality_present.npy, modality_scores.npy, modality_q_values.npy
                       [I, M], where the model weighs modalities
    thumbnails.npy, thumbnail_starts.npy
                       small JPEG images of items one after another, see `Thumbnails`
    modality_fitting.npy
                       [M, 3] share of each modality's rows that fit their items, with its interval
    history_*.npy      what user rows are made of, see `UserParts`
    content_*.npy      how rows of new items follow from their contents, see `ContentPath`
    tokens.json        raw ids of users and items in the order of the rows, and items' titles

Nothing in it is code or pickle. Opening maps the tables from disk, and checks all but those of
`content_`, which are large and needed for new items alone: they are checked when they are used.
Bundles of format 1 have neither `fitting`, `history` nor `content`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.nn.new_items import Content

# What every bundle has.
TABLES = ("users", "items", "seen_starts", "seen_items", "fold_in")
# How a JPEG file begins.
JPEG = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Block:
    """Columns of both tables whose products are one part of a score.

    Attributes:
        name: a modality, `id`, or `score` where a score has no parts.
        start: first column.
        stop: the column after the last.
    """

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class BundleFacts:
    """Where a bundle comes from.

    Attributes:
        metrics: test metrics of the run by name; validation's where nothing was tested.
        modalities: names of the modalities [M], empty where the model has no weights for them.
        blocks: parts of a score, which cover all columns.
    """

    model: str
    dataset: str
    seed: int
    eval_protocol: str
    metrics: Mapping[str, float]
    versions: Mapping[str, str]
    modalities: tuple[str, ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class ModalityReliability:
    """How far each item's modalities are trusted.

    Attributes:
        weights: w [I, M], rows sum to 1.
        present: which items have which modality [I, M].
        scores: the held-out score that a row belongs to its item [I, M], the least suspicious the
            largest; NaN where nothing is known of an item.
        q_values: of the test that it does [I, M]; large where there is no sign of it, NaN as above.
        fitting: share of each modality's rows that fit their items, and the ends of its 95 %
            interval [M, 3]; NaN where it was not measured.
    """

    weights: NDArray[np.float32]
    present: NDArray[np.bool_]
    scores: NDArray[np.float32]
    q_values: NDArray[np.float32]
    fitting: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class UserParts:
    r"""The parts of the rows of the user table, where they are linear in the items of a history.

    .. math:: e_u^b = o_u^b + \sum_{j \in N_u} a_{uj}^b s_j^b + \text{rest}_u^b

    for every block b of columns; the rest is what comes from users alike, 0 in LightGCN.

    Attributes:
        own: o, of the user's own embedding [U, K].
        sources: s, of the trained items [I, K].
        starts: the items of user u stand from starts[u] to starts[u + 1] [U + 1].
        items: rows of items that users were trained on [E].
        weights: a, for every block, or one for all [E, B].
    """

    own: NDArray[np.float32]
    sources: NDArray[np.float32]
    starts: NDArray[np.int64]
    items: NDArray[np.int32]
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Thumbnails:
    """Small images of items.

    Attributes:
        content: JPEG files one after another, bytes [T].
        starts: that of the item of row i stands from starts[i] to starts[i + 1], empty if it has
            none [I + 1]; items that were added later are not in it.
    """

    content: NDArray[np.uint8]
    starts: NDArray[np.int64]

    def of(self, row: int) -> bytes:
        """Return the JPEG file of an item, empty if it has none."""
        if row + 1 >= len(self.starts):
            return b""
        found = self.content[self.starts[row] : self.starts[row + 1]].tobytes()
        return found if found.startswith(JPEG) else b""


@dataclass(frozen=True)
class Bundle:
    """A trained model as serving needs it.

    Attributes:
        user_ids: raw ids of users [U].
        item_ids: raw ids of items [I].
        titles: titles of items [I], empty texts where there are none.
        users: user table [U, K].
        items: item table [I, K].
        seen_starts: [U + 1].
        seen_items: rows of items that users know [E].
        fold_in: map [K, K] from the mean item of a history to a user.
        reliability: trust in the modalities, of a model that weighs them.
        thumbnails: small images of items, if there are any.
        history: what user rows are made of, of a model in which they are linear.
        content: what new items need, of a model whose scores depend on contents.
    """

    facts: BundleFacts
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    titles: tuple[str, ...]
    users: NDArray[np.float32]
    items: NDArray[np.float32]
    seen_starts: NDArray[np.int64]
    seen_items: NDArray[np.int32]
    fold_in: NDArray[np.float32]
    reliability: ModalityReliability | None = None
    thumbnails: Thumbnails | None = None
    history: UserParts | None = None
    content: Content | None = None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the tables by the name of their file, without those of the contents."""
        found: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in TABLES}
        for prefix, part in (("modality", self.reliability), ("history", self.history)):
            tables = {} if part is None else vars(part)
            found |= {f"{prefix}_{name}": of for name, of in tables.items() if of is not None}
        if self.thumbnails is not None:
            found["thumbnails"] = self.thumbnails.content
            found["thumbnail_starts"] = self.thumbnails.starts
        return found
