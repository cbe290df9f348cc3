"""Tiny data sets on disk, and what RecBole and this project make of them.

A `World` holds tokens only, so that a test can derive what it expects without the code under test:
internal ids are asked from RecBole's dataset at the end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dense_formulas as dense
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import recbole_margo  # noqa: F401  # prepares RecBole's imports, so it comes first
from recbole_margo.config import Config
from recbole_margo.data.protocol import load_dataset, prepare_loaders
from recbole_margo.model.parameters import Parameters
from recbole_margo.registry import find_model, find_trainer
from recbole_margo.store.feature_files import write_features
from recbole_margo.store.splits import write_splits

NAME = "tiny"
SPLITS = ("train", "valid", "test")
MODALITY_NAMES = ("image", "text", "audio")

# Sizes that keep a model tiny; a model takes those that it knows.
SMALL = {
    "embedding_size": 8,
    "projection_size": 10,
    "item_neighbors": 4,
    "user_neighbors": 3,
}
SETTINGS = {
    "topk": [5],
    "valid_metric": "Recall@5",
    "metrics": ["Recall", "NDCG"],
    "epochs": 3,
    "stopping_step": 20,
    "train_batch_size": 16,
    "learning_rate": 0.01,
    "use_gpu": False,
    "show_progress": False,
    "save_dataset": False,
    "log_wandb": False,
}


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
        return tuple(self.features)

    def items_of(self, user: str, *splits: str) -> set[str]:
        """Return the items of a user in some splits."""
        return {item for split in splits for who, item in self.splits[split] if who == user}

    def without(self, missing: Mapping[str, Sequence[str]]) -> World:
        """Return the world in which modality -> items are missing."""
        features = {
            modality: {
                item: row for item, row in rows.items() if item not in missing.get(modality, ())
            }
            for modality, rows in self.features.items()
        }
        return dataclasses.replace(self, features=features)

    def with_several_positives(self) -> World:
        """Return the world in which users have 1 to 4 items to test, and u3 has none."""
        random = np.random.default_rng(5)
        test = []
        for user, item in self.splits["test"]:
            known = self.items_of(user, "train", "valid", "test")
            others = random.permutation([f"i{i}" for i in range(15) if f"i{i}" not in known])
            test += [(user, str(each)) for each in (item, *others[: random.integers(0, 4)])]
        test = [pair for pair in test if pair[0] != "u3"]
        return dataclasses.replace(self, splits={**self.splits, "test": test})

    def with_items_reordered(self, seed: int) -> World:
        """Return the same world with other internal item ids; users keep theirs.

        RecBole numbers tokens by first appearance, so the rows of each user are shuffled.
        """
        random = np.random.default_rng(seed)
        splits = {}
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
        """Write the data set as this project has it on disk; returns the folder of data sets."""
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
    """Return a world without any structure: 4 training items a user, 1 to validate, 1 to test."""
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

    Validation and test hold the same held-out item, one a user; `users` and `items` are per block.
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


# Patterns of missing modalities in `random_world`; each leaves every modality to some items.
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


@dataclass
class Experiment:
    """What one run of a model on a world is made of."""

    config: Any
    dataset: Any
    loaders: tuple[Any, Any, Any]
    model: Any

    def item_ids(self, tokens: Sequence[str]) -> np.ndarray:
        return np.asarray(self.dataset.token2id(self.dataset.iid_field, list(tokens)))

    def user_ids(self, tokens: Sequence[str]) -> np.ndarray:
        return np.asarray(self.dataset.token2id(self.dataset.uid_field, list(tokens)))

    @property
    def item_tokens(self) -> list[str]:
        return [str(token) for token in self.dataset.field2id_token[self.dataset.iid_field]]

    @property
    def user_tokens(self) -> list[str]:
        return [str(token) for token in self.dataset.field2id_token[self.dataset.uid_field]]

    def dense_inputs(self, world: World) -> dense.Inputs:
        """Return the graph, features and mask of a world by internal ids, found by token."""
        users, items = zip(*world.splits["train"], strict=True)
        R = np.zeros((self.dataset.user_num, self.dataset.item_num))
        R[self.user_ids(users), self.item_ids(items)] = 1
        mask = np.zeros((self.dataset.item_num, len(world.features)), dtype=bool)
        features = []
        for m, rows in enumerate(world.features.values()):
            ids = self.item_ids(list(rows))
            # The files hold float32.
            stored = np.stack(list(rows.values())).astype(np.float32).astype(np.float64)
            matrix = np.zeros((self.dataset.item_num, stored.shape[1]))
            matrix[ids], mask[ids, m] = stored, True
            features.append(matrix)
        return dense.Inputs(R, features, mask)

    def parameters(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Return the model's parameters in float64, those under a prefix without it."""
        return {
            name.removeprefix(prefix): value.detach().cpu().double().numpy().copy()
            for name, value in self.model.named_parameters()
            if name.startswith(prefix)
        }

    def interaction(self, **columns: Sequence[int]) -> Any:
        """Return a RecBole interaction of the model's fields `user`, `item` and `negative`."""
        from recbole.data.interaction import Interaction

        fields = {
            "user": self.model.USER_ID,
            "item": self.model.ITEM_ID,
            "negative": self.model.NEG_ITEM_ID,
        }
        tensors = {fields[name]: torch.tensor(ids) for name, ids in columns.items()}
        return Interaction(tensors).to(self.config["device"])

    def random_triplets(self, count: int = 40, seed: int = 0) -> list[tuple[int, int, int]]:
        """Return triplets of user, positive and negative item, PAD excluded."""
        random = np.random.default_rng(seed)
        users = random.integers(1, self.dataset.user_num, count)
        items = random.integers(1, self.dataset.item_num, (2, count))
        return [tuple(int(x) for x in triplet) for triplet in zip(users, *items, strict=True)]

    def batch(self, triplets: Sequence[tuple[int, int, int]]) -> Any:
        """Return triplets as RecBole's trainer would hand them over."""
        users, positives, negatives = zip(*triplets, strict=True)
        return self.interaction(user=users, item=positives, negative=negatives)

    def randomize(self) -> None:
        """Draw every parameter anew: values that are equal at the start would hide a mix-up."""
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.normal_()

    def loss_terms(self, triplets: Sequence[tuple[int, int, int]]) -> list[float]:
        """Return the loss terms of a batch as training computes them."""
        self.model.train()
        terms = self.model.calculate_loss(self.batch(triplets))
        return [term.item() for term in terms]

    def all_scores(self) -> np.ndarray:
        """Return the scores of every user and item [U, I], as an evaluation computes them."""
        self.model.eval()
        return self.scores_now()

    def scores_now(self) -> np.ndarray:
        """Return the scores of every user and item [U, I] in whatever mode the model is."""
        with torch.no_grad():
            scores = self.model.full_sort_predict(
                self.interaction(user=range(self.dataset.user_num))
            )
        return scores.view(self.dataset.user_num, -1).cpu().numpy()

    def trainer(self) -> Any:
        """Return a new trainer of the model, which writes into the config's `checkpoint_dir`."""
        return find_trainer(type(self.model), self.config["model"])(self.config, self.model)


def small_settings(model: str) -> dict[str, Any]:
    """Return the sizes of `SMALL` that a model has a hyper-parameter for."""
    parameters: type[Parameters] | None = getattr(find_model(model), "parameters_class", None)
    known = parameters.descriptions() if parameters else {}
    return {key: value for key, value in SMALL.items() if key in known}


def make_config(root: Path, model: str, **settings: Any) -> Config:
    """Return the config of a small model on the world that `World.write` put under `root`."""
    values = {
        **SETTINGS,
        **small_settings(model),
        "data_path": str(root),
        "checkpoint_dir": str(root / "saved"),
        **settings,
    }
    return Config(model, NAME, config_dict=values)


def prepare(root: Path, model: str, **settings: Any) -> Experiment:
    """Load a written world and build a small model on it, all seeded as a real run is."""
    from recbole.utils import init_seed

    config = make_config(root, model, **settings)
    init_seed(config["seed"], config["reproducibility"])
    dataset = load_dataset(config)
    loaders = prepare_loaders(config, dataset, config.model_class)
    init_seed(config["seed"], config["reproducibility"])
    built = config.model_class(config, loaders[0]._dataset).to(config["device"])
    return Experiment(config, dataset, loaders, built)


@pytest.fixture
def double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is computed in float32 be computed in float64, for finite differences."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
