"""The base of every multimodal model."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_margo.data.features import ItemFeatures, load_item_features
from recbole_margo.defaults import shipped_values
from recbole_margo.graph.bipartite import interaction_matrix
from recbole_margo.model.paper import Paper
from recbole_margo.model.parameters import Parameters


class MultimodalRecommender(GeneralRecommender):  # type: ignore[misc]
    """A RecBole `GeneralRecommender` with item features of any number of modalities.

    A model drops into stock RecBole: it finds its features through the config and fills missing
    hyper-parameters from `properties/model/<name>.yaml`. A subclass builds its parts in `__init__`
    and implements `calculate_loss` and `scoring_tables`; the rest of RecBole's interface is here.

    Training goes in `training_stages`. The trainer calls `begin_stage` before each of them,
    `begin_epoch` before each epoch and `epoch_statistics` after it.

    Args:
        config: RecBole's `Config`.
        dataset: RecBole's training `Dataset`.
    """

    input_type = InputType.PAIRWISE
    parameters_class: ClassVar[type[Parameters]]
    paper: ClassVar[Paper]
    loss_names: tuple[str, ...] = ("loss",)
    training_stages: tuple[str, ...] = ("training",)

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        _fill_feature_settings(config)
        self.hyperparameters: Any = self.parameters_class.from_config(config, type(self).__name__)
        features = load_item_features(config, dataset)
        self.modalities = features.modalities
        self.feature_checksums = features.checksums
        self._register_features(features)
        self.interactions = interaction_matrix(dataset)
        self._tables: tuple[Any, tuple[Tensor, Tensor]] | None = None

    def _register_features(self, features: ItemFeatures) -> None:
        self.register_buffer("modality_mask", features.mask, persistent=False)
        for index, matrix in enumerate(features.matrices):
            self.register_buffer(f"feature_matrix_{index}", matrix, persistent=False)

    @property
    def features(self) -> list[Tensor]:
        """The raw features, one matrix [I, D_m] per modality."""
        return [getattr(self, f"feature_matrix_{m}") for m in range(len(self.modalities))]

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return user table [U, K] and item table [I, K] whose products are the scores."""
        raise NotImplementedError

    def begin_stage(self, stage: str) -> None:
        """Prepare one of the `training_stages`; it starts from the best epoch of the last one."""

    def resume_stage(self, stage: str) -> None:
        """Go on with a stage that an interrupted run began; the parameters are loaded after it."""

    def begin_epoch(self, epoch: int) -> None:
        """Do the work that is due before an epoch, for example draw a sub-graph."""

    def epoch_statistics(self) -> dict[str, float]:
        """Return figures of the epoch for the logs, by name, and start counting anew."""
        return {}

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return the optimiser's parameter groups for the current stage.

        Args:
            learning_rate: the global learning rate.

        Returns:
            Groups as `torch.optim` takes them.
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
