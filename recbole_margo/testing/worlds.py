"""Tiny data sets: interactions and features by token, written as a data set on disk.

A `World` holds tokens only, so that a test can derive what it expects without the code under test:
internal ids are asked from RecBole's dataset at the end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from recbole_margo.store.dataset_files import write_splits
from recbole_margo.store.feature_files import write_features

NAME = "tiny"
SPLITS = ("train", "valid", "test")
MODALITY_NAMES = ("image", "text", "audio")


@dataclass(frozen=True)
class World:
    """Interactions by user and item token, and features by item token.

    Attributes:
        splits: train, valid, test -> pairs of user and item token, in the order of the file.
        features: modality -> item token -> vector; an item that is not named misses the modality.
    """

    splits: dict[str, list[tuple[str, str]]]
    features: dict[str, dict[str, np.ndarray]]

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of the modalities, in the order of `features`."""
        return tuple(self.features)

    def items_of(self, user: str, *splits: str) -> set[str]:
        """Return the items of a user in some splits."""
        return {item for split in splits for who, item in self.splits[split] if who == user}

    def without(self, missing: Mapping[str, Sequence[str]]) -> World:
        """Return the world in which some items miss a modality, such as one of `MISSING` says."""
        features = {
            modality: {
                item: row for item, row in rows.items() if item not in missing.get(modality, ())
            }
            for modality, rows in self.features.items()
        }
        return dataclasses.replace(self, features=features)

    def with_several_positives(self) -> World:
        """Return the world in which users have 1 to 4 items to test, and the fourth has none."""
        random = np.random.default_rng(5)
        items = list(dict.fromkeys(item for rows in self.features.values() for item in rows))
        test = []
        for user, item in self.splits["test"]:
            known = self.items_of(user, "train", "valid", "test")
            others = random.permutation([each for each in items if each not in known])
            test += [(user, str(each)) for each in (item, *others[: random.integers(0, 4)])]
        left_out = list(dict.fromkeys(user for user, _ in test))[3]
        test = [pair for pair in test if pair[0] != left_out]
        return dataclasses.replace(self, splits={**self.splits, "test": test})

    def with_items_reordered(self, seed: int) -> World:
        """Return the same world with other internal item ids; users keep theirs.

        RecBole numbers tokens by first appearance, so the rows of each user are shuffled.
        """
        random = np.random.default_rng(seed)
        splits: dict[str, list[tuple[str, str]]] = {}
        for split, pairs in self.splits.items():
            users = list(dict.fromkeys(user for user, _ in pairs))
            splits[split] = []
            for user in users:
                items = [item for who, item in pairs if who == user]
                splits[split] += [(user, str(item)) for item in random.permutation(items)]
        features = {
            modality: {str(item): rows[item] for item in random.permutation(list(rows))}
            for modality, rows in self.features.items()
        }
        return World(splits, features)

    def write(self, root: Path, name: str = NAME) -> Path:
        """Write the data set as this project has it on disk, under a `data_path`; return that."""
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        tables = {
            split: pd.DataFrame(pairs, columns=["user_id", "item_id"])
            for split, pairs in self.splits.items()
        }
        write_splits(folder, name, tables)
        for modality, rows in self.features.items():
            matrix = np.stack(list(rows.values())).astype(np.float32)
            write_features(folder, name, modality, matrix, list(rows), "a test")
        settings = {
            "benchmark_filename": list(SPLITS),
            "load_col": {"inter": ["user_id", "item_id"]},
            "modalities": list(self.features),
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        return root


def random_world(modalities: int = 2, users: int = 20, items: int = 15, seed: int = 0) -> World:
    """Return a world without any structure: 4 training items a user, 1 to validate, 1 to test.

    Args:
        modalities: how many of `MODALITY_NAMES`.
        items: how many items, at most as many as users and at least 6; each is somebody's.
    """
    random = np.random.default_rng(seed)
    splits: dict[str, list[tuple[str, str]]] = {split: [] for split in SPLITS}
    for user in range(users):
        # The first is forced so that every item is somebody's.
        first = user % items
        others = random.permutation([item for item in range(items) if item != first])
        chosen = [f"i{item}" for item in (first, *others[:5])]
        for split, part in zip(SPLITS, (chosen[:4], chosen[4:5], chosen[5:6]), strict=True):
            splits[split] += [(f"u{user}", item) for item in part]
    features = {
        modality: {f"i{item}": random.normal(size=4 + m) for item in range(items)}
        for m, modality in enumerate(MODALITY_NAMES[:modalities])
    }
    return World(splits, features)


def block_world(blocks: int = 3, users: int = 7, items: int = 7, seed: int = 0) -> World:
    """Return a world in which each user likes the items of one block, and one of them is held out.

    Validation and test hold the same held-out item, one a user.
    """
    random = np.random.default_rng(seed)
    splits: dict[str, list[tuple[str, str]]] = {split: [] for split in SPLITS}
    for block in range(blocks):
        for user in range(users):
            token, held_out = f"u{block}.{user}", user % items
            splits["train"] += [
                (token, f"i{block}.{item}") for item in range(items) if item != held_out
            ]
            splits["valid"].append((token, f"i{block}.{held_out}"))
            splits["test"].append((token, f"i{block}.{held_out}"))
    features = {
        modality: {
            f"i{block}.{item}": np.eye(blocks)[block] + 0.1 * random.normal(size=blocks)
            for block in range(blocks)
            for item in range(items)
        }
        for modality in MODALITY_NAMES[:2]
    }
    return World(splits, features)


# Patterns of missing modalities in `random_world(3)`; each leaves every modality to some items.
MISSING: dict[str, dict[str, tuple[str, ...]]] = {
    "nothing missing": {},
    "some items miss one": {"image": ("i1", "i4", "i7"), "text": ("i2", "i4")},
    "an item misses all": dict.fromkeys(MODALITY_NAMES, ("i3",)),
    "most items miss one": {"image": tuple(f"i{item}" for item in range(11))},
    "only one item has one": {"text": tuple(f"i{item}" for item in range(14))},
    "no item has two": {
        "image": tuple(f"i{item}" for item in range(0, 15, 2)),
        "text": tuple(f"i{item}" for item in range(1, 15, 2)),
    },
}
