"""The base of every multimodal model."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_margo.data.feature_transforms import feature_type
from recbole_margo.data.features import ItemFeatures, load_item_features
from recbole_margo.defaults import shipped_values
from recbole_margo.errors import ConfigError
from recbole_margo.graph.bipartite import interaction_matrix
from recbole_margo.graph.graph_cache import GraphCache
from recbole_margo.graph.neighbor_search import NeighborSearch
from recbole_margo.model.paper import Paper
from recbole_margo.model.parameters import Parameters
from recbole_margo.nn.content_path import ContentPath
from recbole_margo.nn.losses import bpr_loss, embedding_penalty
from recbole_margo.nn.propagation import LinearHistory, select_rows
from recbole_margo.resources import multiplies_in_bfloat16

# The epochs over which the learning rate falls by `learning_rate_decay`.
DECAY_EPOCHS = 50
# Key of a parameter group: for how many epochs of the stage its learning rate is 0.
FROZEN_EPOCHS = "frozen_epochs"


class StepCapture(Enum):
    """For how long a CUDA graph of a training step holds (see `training.cuda_graphs`).

    A step can be captured if its shapes and addresses stay the same, and the host neither waits for
    the device nor counts anything in it.
    """

    STAGE = "a whole stage"
    EPOCH = "an epoch without its first batch: `begin_epoch` or that batch makes new tensors"
    NEVER = "no two steps"


class MultimodalRecommender(GeneralRecommender):  # type: ignore[misc]
    """A RecBole `GeneralRecommender` with item features of any number of modalities.

    A model drops into stock RecBole: it finds its features through the config and fills missing
    hyper-parameters from its defaults. A subclass builds its parts in `__init__`
    and implements `calculate_loss` and `scoring_tables`; the rest of RecBole's interface is here.
    A batch has user ids [B], item ids [B] and, unless `uses_negatives` is false, negative ones [B].

    Negatives are drawn by RecBole from all items that a user does not know; the public code of the
    models here draws them from the items seen in training.

    Training goes in `training_stages`. The trainer calls `begin_stage` before each of them,
    `begin_epoch` before each epoch and `epoch_statistics` after it.

    Args:
        config: RecBole's `Config`.
        dataset: RecBole's training `Dataset`.
    """

    input_type = InputType.PAIRWISE
    parameters_class: ClassVar[type[Parameters]]
    paper: ClassVar[Paper]
    # Without them our config samples none; the batch then holds users and items only.
    uses_negatives: ClassVar[bool] = True
    # Whether an item has an embedding of its own, apart from its content.
    uses_item_ids: ClassVar[bool] = True
    loss_names: tuple[str, ...] = ("loss",)
    # What makes a config train its first stage alone, with the keys that do not matter to it at one
    # value, so that runs see that they have it in common; empty: there is but one stage.
    first_stage_settings: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        _fill_feature_settings(config)
        self.hyperparameters: Any = self.parameters_class.from_config(config, type(self))
        # How item graphs of the raw features are searched for; see `graph.item_knn`.
        self.item_neighbor_search = dataclasses.replace(
            NeighborSearch.from_setting(config["item_neighbor_search"]),
            cache=GraphCache.from_settings(config["graph_cache"], config["graph_cache_gigabytes"]),
        )
        features = load_item_features(config, dataset)
        self.modalities = features.modalities
        self.feature_checksums = features.checksums
        self._register_features(features, feature_type(config["feature_precision"]))
        self.interactions = interaction_matrix(dataset)
        self.trainer_announces_epochs = False
        self._epochs_begun = 0
        self._tables: tuple[Any, tuple[Tensor, Tensor]] | None = None

    def _register_features(self, features: ItemFeatures, kept_as: torch.dtype) -> None:
        # On the device at once: the graphs of the items are built where the features are.
        self.register_buffer("modality_mask", features.mask.to(self.device), persistent=False)
        trained = getattr(self.hyperparameters, "train_features", False)
        if trained and kept_as != torch.float32:
            raise ConfigError(
                "`train_features` trains features in float32: set `feature_precision: float32`, "
                "or `train_features: false`"
            )
        if kept_as == torch.bfloat16 and self.device.type == "cpu" and not multiplies_in_bfloat16():
            self.logger.warning(
                "`feature_precision: bfloat16` saves memory here, but costs time: this processor "
                "has no instructions for it"
            )
        for index, matrix in enumerate(each.to(self.device) for each in features.matrices):
            name = f"feature_matrix_{index}"
            if trained:
                self.register_parameter(name, nn.Parameter(matrix))
            else:
                self.register_buffer(name, matrix.to(kept_as), persistent=False)

    @property
    def features(self) -> list[Tensor]:
        """The raw features, one matrix [I, D_m] per modality; parameters if they are trained."""
        return [getattr(self, f"feature_matrix_{m}") for m in range(len(self.modalities))]

    @property
    def shares_batches(self) -> bool:
        """Whether several processes may share a batch.

        They may if its loss is the weighted mean of the losses of its parts, plus terms that the
        batch does not enter: not with a norm that is not squared, a contrast among the rows, or a
        mean over those rows that have a modality.
        """
        return False

    @property
    def step_capture(self) -> StepCapture:
        """For how long a CUDA graph of a training step holds; a model must say that one does."""
        return StepCapture.NEVER

    @property
    def nothing_missing(self) -> bool:
        """Whether every item has every modality."""
        return bool(self.modality_mask[1:].all())

    def project_features(
        self, projections: Iterable[Callable[[Tensor], Tensor]], items: Tensor | None = None
    ) -> list[Tensor]:
        """Project the features of every modality; an item that misses one has a zero row there.

        Args:
            projections: one map [*, D_m] -> [*, d] per modality.
            items: ids [B] of the items to project; none: all.

        Returns:
            Per modality [B, d], or [I, d] for all items, in float32.
        """
        projected = []
        for m, (matrix, projection) in enumerate(zip(self.features, projections, strict=True)):
            present = self.modality_mask[:, m : m + 1]
            if items is not None:
                matrix, present = select_rows(matrix, items), present[items]
            projected.append(projection(matrix).float() * present)
        return projected

    def triplets(self, interaction: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return user ids, item ids and negative item ids of a batch, each [B]."""
        return (
            interaction[self.USER_ID],
            interaction[self.ITEM_ID],
            interaction[self.NEG_ITEM_ID],
        )

    def users_and_items(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Split nodes [U + I, *] into users [U, *] and items [I, *]."""
        return nodes[: self.n_users], nodes[self.n_users :]

    def ranking_and_penalty(
        self, interaction: Any, users: Tensor, items: Tensor, penalty: str = "squared"
    ) -> tuple[Tensor, Tensor]:
        """Return the pairwise ranking loss of a batch and the penalty on its embeddings.

        Args:
            interaction: with user ids [B], item ids [B] and negative item ids [B].
            users: all users [U, K].
            items: all items [I, K].
            penalty: one of `recbole_margo.nn.losses.PENALTIES`.
        """
        user, positive, negative = self.triplets(interaction)
        batch_users = select_rows(users, user)
        positives, negatives = select_rows(items, torch.stack([positive, negative]))
        ranking = bpr_loss(
            (batch_users * positives).sum(dim=1), (batch_users * negatives).sum(dim=1)
        )
        return ranking, embedding_penalty(penalty, batch_users, positives, negatives)

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return user table [U, K] and item table [I, K] whose products are the scores."""
        raise NotImplementedError

    def score_blocks(self) -> tuple[tuple[str, int], ...]:
        """Return name and width of the blocks of columns of the scoring tables, left to right.

        The products of each block are one part of the score: of a modality, of the item's own
        embedding (`id`), or of everything (`score`).
        """
        return (("score", self.scoring_tables()[1].shape[1]),)

    def content_path(self, raw: Sequence[Tensor]) -> ContentPath | None:
        """Return how an item's row of the item table follows from its contents alone.

        Args:
            raw: the features before any training, one [I, D_m] per modality.

        Returns:
            None where the contents do not enter the scores.
        """
        return None

    def linear_history(self) -> LinearHistory | None:
        """Return what user rows are made of; none where they are not linear in a history."""
        return None

    @classmethod
    def stages_of(cls, parameters: Any) -> tuple[str, ...]:
        """Return the names of the stages that a model with these hyper-parameters trains."""
        return ("training",)

    @property
    def training_stages(self) -> tuple[str, ...]:
        """The names of the stages, in order."""
        return self.stages_of(self.hyperparameters)

    def begin_stage(self, stage: str) -> None:
        """Prepare one of the `training_stages`; it starts from the best epoch of the last one."""

    def resume_stage(self, stage: str) -> None:
        """Go on with a stage that an interrupted run began; the parameters are loaded after it."""

    def begin_epoch(self, epoch: int) -> None:
        """Do the work that is due before an epoch (from 0), for example draw a sub-graph.

        A trainer that does not announce epochs (RecBole's plain `Trainer`) only switches the model
        to training; each time counts as the beginning of an epoch then.
        """

    def learning_rate_factor(self, epoch: int) -> float:
        """Return the factor on every learning rate in an epoch (from 0) of a stage."""
        decay: float = getattr(self.hyperparameters, "learning_rate_decay", 1.0)
        return float(decay ** (epoch / DECAY_EPOCHS))

    @property
    def keeps_zero_gradients(self) -> bool:
        """Whether a parameter that a batch leaves out moves on by the optimiser's momentum."""
        return False

    @property
    def keeps_optimizer(self) -> bool:
        """Whether the next stage goes on with the optimiser's state of this one's best epoch."""
        return False

    def epoch_statistics(self) -> dict[str, float]:
        """Return figures of the epoch for the logs, by name, and start counting anew."""
        return {}

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return the optimiser's parameter groups for the current stage.

        Args:
            learning_rate: the global learning rate.

        Returns:
            Groups as `torch.optim` takes them; `FROZEN_EPOCHS` in one keeps it still at first.
        """
        return [{"params": list(self.parameters()), "lr": learning_rate}]

    def predict(self, interaction: Any) -> Tensor:
        """Score pairs of user and item.

        Args:
            interaction: with user ids [B] and item ids [B].

        Returns:
            Scores [B].
        """
        users, items = self._current_tables()
        return (users[interaction[self.USER_ID]] * items[interaction[self.ITEM_ID]]).sum(dim=-1)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Score every item for each user, as one matrix product.

        Args:
            interaction: with user ids [B].

        Returns:
            Scores [B * I], as RecBole expects them.
        """
        users, items = self._current_tables()
        return (users[interaction[self.USER_ID]] @ items.T).view(-1)

    def _table_state(self) -> Any:
        return tuple((parameter.data_ptr(), parameter._version) for parameter in self.parameters())

    def _current_tables(self) -> tuple[Tensor, Tensor]:
        """Return the scoring tables, computed once until a parameter or the mode changes."""
        if self.training or torch.is_grad_enabled():
            return self.scoring_tables()
        state = self._table_state()
        if self._tables is None or self._tables[0] != state:
            self._tables = (state, self.scoring_tables())
        return self._tables[1]

    def train(self, mode: bool = True) -> MultimodalRecommender:
        """Switch between training and evaluation; forgets the scoring tables."""
        self._tables = None
        nn.Module.train(self, mode)
        if mode and not self.trainer_announces_epochs:
            self.begin_epoch(self._epochs_begun)
            self._epochs_begun += 1
        return self

    def load_other_parameter(self, para: dict[str, Any] | None) -> None:
        """Load RecBole's "other parameters" of a checkpoint; forgets the scoring tables."""
        self._tables = None
        super().load_other_parameter(para)

    def __deepcopy__(self, memo: dict[int, Any]) -> MultimodalRecommender:
        """Copy without the scoring tables, which may belong to a graph of gradients."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        state = {name: value for name, value in self.__dict__.items() if name != "_tables"}
        copied.__dict__.update(copy.deepcopy(state, memo), _tables=None)
        return copied


def _fill_feature_settings(config: Any) -> None:
    """Give a stock RecBole config the dataset's shipped settings of its features."""
    shipped = shipped_values(f"dataset/{config['dataset']}.yaml")
    for key in ("modalities", "feature_normalization", "item_graph_weights"):
        if key not in config and key in shipped:
            config[key] = shipped[key]
