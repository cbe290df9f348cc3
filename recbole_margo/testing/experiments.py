"""A world as RecBole and this project load it: config, dataset, loaders and a small model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import init_seed
from torch import Tensor

from recbole_margo.config import Config
from recbole_margo.data.protocol import load_dataset, prepare_loaders
from recbole_margo.model.parameters import Parameters
from recbole_margo.registry import find_model
from recbole_margo.testing.worlds import NAME
from recbole_margo.training.distributed import find_trainer

# Sizes that keep a model tiny; a model takes those that it has a hyper-parameter for.
SMALL: dict[str, Any] = {
    "embedding_size": 8,
    "projection_size": 10,
    "item_neighbors": 4,
    "user_neighbors": 3,
}
# A short training on the CPU that prints and keeps nothing beside its checkpoints.
SETTINGS: dict[str, Any] = {
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


@dataclass
class Experiment:
    """One run of a model on a world."""

    config: Any
    dataset: Any
    loaders: tuple[Any, Any, Any]
    model: Any

    def item_ids(self, tokens: Sequence[str]) -> np.ndarray:
        """Return RecBole's internal ids of items."""
        return np.asarray(self.dataset.token2id(self.dataset.iid_field, list(tokens)))

    def user_ids(self, tokens: Sequence[str]) -> np.ndarray:
        """Return RecBole's internal ids of users."""
        return np.asarray(self.dataset.token2id(self.dataset.uid_field, list(tokens)))

    @property
    def item_tokens(self) -> list[str]:
        """The tokens of all items by internal id; the first is PAD."""
        return [str(token) for token in self.dataset.field2id_token[self.dataset.iid_field]]

    @property
    def user_tokens(self) -> list[str]:
        """The tokens of all users by internal id; the first is PAD."""
        return [str(token) for token in self.dataset.field2id_token[self.dataset.uid_field]]

    def parameters(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Return the model's parameters in float64, those under a prefix without it."""
        return {
            name.removeprefix(prefix): value.detach().cpu().double().numpy().copy()
            for name, value in self.model.named_parameters()
            if name.startswith(prefix)
        }

    def interaction(self, **columns: Sequence[int]) -> Any:
        """Return a RecBole interaction of the model's fields `user`, `item` and `negative`."""
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
        return [
            (int(user), int(positive), int(negative))
            for user, positive, negative in zip(users, *items, strict=True)
        ]

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
        return [term.item() for term in self.losses(self.batch(triplets))]

    def losses(self, batch: Any) -> tuple[Tensor, ...]:
        """Return the loss terms of a batch with their gradients, one or several."""
        terms = self.model.calculate_loss(batch)
        return terms if isinstance(terms, tuple) else (terms,)

    def backward(self, triplets: Sequence[tuple[int, int, int]]) -> None:
        """Add the gradients of the sum of a batch's loss terms to those of the parameters."""
        torch.autograd.backward(torch.stack(self.losses(self.batch(triplets))).sum())

    def stages(self) -> Iterator[str]:
        """Begin one stage of the model after another, in the mode of training."""
        for stage in self.model.training_stages:
            self.model.begin_stage(stage)
            self.model.train()
            yield stage

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
        found: np.ndarray = scores.view(self.dataset.user_num, -1).cpu().numpy()
        return found

    def trainer(self) -> Any:
        """Return a new trainer of the model, which writes into the config's `checkpoint_dir`."""
        return find_trainer(type(self.model), self.config["model"])(self.config, self.model)

    def fit(self) -> Any:
        """Train the model with a new trainer and return the trainer."""
        trainer = self.trainer()
        trainer.fit(*self.loaders[:2], verbose=False)
        return trainer


def small_settings(model: str | type[Any]) -> dict[str, Any]:
    """Return the sizes of `SMALL` that a model has a hyper-parameter for."""
    model_class = find_model(model) if isinstance(model, str) else model
    parameters: type[Parameters] | None = getattr(model_class, "parameters_class", None)
    known = parameters.descriptions() if parameters else {}
    return {key: value for key, value in SMALL.items() if key in known}


def make_config(root: Path, model: str | type[Any], **settings: Any) -> Config:
    """Return the config of a small model on the world that `World.write` put under `root`.

    The settings are those that differ from `SETTINGS` and `SMALL`.
    """
    values = {
        **SETTINGS,
        **small_settings(model),
        "data_path": str(root),
        "checkpoint_dir": str(root / "saved"),
        **settings,
    }
    return Config(model, NAME, config_dict=values)


def prepare(root: Path, model: str | type[Any], **settings: Any) -> Experiment:
    """Load a written world and build a small model on it, all seeded as a real run is.

    The settings are those of `make_config`.
    """
    config = make_config(root, model, **settings)
    init_seed(config["seed"], config["reproducibility"])
    dataset = load_dataset(config)
    loaders = prepare_loaders(config, dataset, config.model_class)
    init_seed(config["seed"], config["reproducibility"])
    built = config.model_class(config, loaders[0]._dataset).to(config["device"])
    return Experiment(config, dataset, loaders, built)
