"""DRAGON and MARGO as they are often published: messages edge by edge, everything every batch.

Written from the papers. The loss and its gradient are those of the models in `recbole_margo`, and
a test holds them to that; what differs is how they are computed.
"""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.naive_graphs import (
    NaiveGraphs,
    cooccurrence_counts,
    interaction_edges,
    item_edges,
    strongest_co_users,
)
from recbole_margo.data.features import load_item_features
from recbole_margo.graph.item_knn import modality_shares


class NaiveRecommender(GeneralRecommender):
    """What DRAGON and MARGO have in common, in RecBole's own interface.

    Every item must have every modality.

    Args:
        config: RecBole's `Config`.
        dataset: RecBole's training `Dataset`.
        hyperparameters: those of the model in `recbole_margo`.
        graphs: the graphs, if they are built already.

    Source: DRAGON (Zhou, Zhou, Zhang, Shen, ECAI 2023), section 3.
    """

    input_type = InputType.PAIRWISE

    def __init__(
        self, config: Any, dataset: Any, hyperparameters: Any, graphs: NaiveGraphs | None = None
    ) -> None:
        super().__init__(config, dataset)
        self.hyperparameters = hyperparameters
        loaded = load_item_features(config, dataset)
        if not bool(loaded.mask[1:].all()):
            raise ValueError("the naive reference needs every modality of every item")
        self.modalities = loaded.modalities
        self.features = [matrix.to(self.device) for matrix in loaded.matrices]
        size, hidden = hyperparameters.embedding_size, hyperparameters.projection_size
        self.user_preference = nn.ParameterList(
            nn.init.xavier_normal_(torch.empty(self.n_users, size)) for _ in self.features
        )
        self.projections = nn.ModuleList(
            nn.Sequential(
                nn.Linear(matrix.shape[1], hidden), nn.LeakyReLU(0.01), nn.Linear(hidden, size)
            )
            for matrix in self.features
        )
        graphs = graphs or self.build_graphs(dataset)
        self.interaction_graph = graphs.interactions.to(self.device)
        self.user_neighbors = graphs.user_neighbors
        self.user_weights_of_neighbors = graphs.user_weights.to(self.device)
        self.item_graph = graphs.items.to(self.device)

    def build_graphs(self, dataset: Any) -> NaiveGraphs:
        """Return the graphs of the training interactions and the features.

        Args:
            dataset: RecBole's training `Dataset`.
        """
        users = dataset.inter_feat[self.USER_ID]
        items = dataset.inter_feat[self.ITEM_ID]
        counts = cooccurrence_counts(users, items, self.n_users, self.n_items)
        degrees = torch.bincount(users, minlength=self.n_users).numpy()
        parameters = self.hyperparameters
        shares = modality_shares(parameters.item_graph_weights, self.modalities)
        return NaiveGraphs(
            interaction_edges(users, items, self.n_users, self.n_items),
            *strongest_co_users(counts, degrees, parameters.user_neighbors),
            item_edges(self.features, shares, parameters.item_neighbors),
        )

    def embeddings(self, factors: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return users [U, M * d] and items [I, M * d].

        Args:
            factors: on each user's modalities [U, M]; none: 1.
        """
        user_parts, item_parts = [], []
        for m, features in enumerate(self.features):
            projected = self.projections[m](features)
            nodes = functional.normalize(torch.cat([self.user_preference[m], projected]))
            first = self.interaction_graph.messages(nodes)
            second = self.interaction_graph.messages(first)
            nodes = nodes + first + second
            users, items = nodes[: self.n_users], nodes[self.n_users :]
            if factors is not None:
                users = users * factors[:, m].unsqueeze(1)
            user_parts.append(users)
            item_parts.append(items)
        users, items = torch.cat(user_parts, dim=1), torch.cat(item_parts, dim=1)
        ids = torch.tensor(self.user_neighbors, device=self.device)
        co_users = torch.matmul(self.user_weights_of_neighbors.unsqueeze(1), users[ids])
        neighbors = items
        for _ in range(self.hyperparameters.item_graph_layers):
            neighbors = self.item_graph.messages(neighbors)
        return users + co_users.squeeze(1), items + neighbors

    def preference_penalty(self, users: Tensor) -> Tensor:
        """Return the sum over modalities of the mean squared preferences of a batch [B]."""
        return sum(table[users].square().mean() for table in self.user_preference)

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return users [U, M * d] and items [I, M * d] whose products are the scores."""
        return self.embeddings()

    def predict(self, interaction: Any) -> Tensor:
        """Score pairs [B] of user and item."""
        users, items = self.scoring_tables()
        return (users[interaction[self.USER_ID]] * items[interaction[self.ITEM_ID]]).sum(dim=1)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Score every item for each user [B], with a forward pass of its own."""
        users, items = self.scoring_tables()
        return (users[interaction[self.USER_ID]] @ items.T).view(-1)


class NaiveDragon(NaiveRecommender):
    """DRAGON: scores with modalities side by side, the user's weighted by learned factors."""

    def __init__(
        self, config: Any, dataset: Any, hyperparameters: Any, graphs: NaiveGraphs | None = None
    ) -> None:
        super().__init__(config, dataset, hyperparameters, graphs)
        initial = nn.init.xavier_normal_(torch.empty(self.n_users, len(self.modalities), 1))
        self.user_weights = nn.Parameter(torch.softmax(initial.squeeze(2), dim=1))

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """Return the ranking loss and the weighted regulariser of a batch [B], two scalars."""
        user = interaction[self.USER_ID]
        users, items = self.embeddings(self.user_weights)
        positive = (users[user] * items[interaction[self.ITEM_ID]]).sum(dim=1)
        negative = (users[user] * items[interaction[self.NEG_ITEM_ID]]).sum(dim=1)
        penalty = self.preference_penalty(user) + self.user_weights.square().mean()
        ranking = -functional.logsigmoid(positive - negative).mean()
        return ranking, self.hyperparameters.reg_weight * penalty

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return users [U, M * d] and items [I, M * d]."""
        return self.embeddings(self.user_weights)


class NaiveMargo(NaiveRecommender):
    """MARGO: learns how far each item's modalities can be trusted.

    Stage 1 where the hyper-parameters switch the item weights off, and stage 2 else.

    Source: MARGO (arXiv 2504.16524), Eq. 2-10.
    """

    def __init__(
        self, config: Any, dataset: Any, hyperparameters: Any, graphs: NaiveGraphs | None = None
    ) -> None:
        super().__init__(config, dataset, hyperparameters, graphs)
        weighted = hyperparameters.item_weights
        logits = torch.randn(self.n_items, len(self.modalities)) * hyperparameters.weight_init_std
        self.weight_logits = nn.Parameter(logits, requires_grad=weighted)

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """Return the weighted loss terms of a batch [B], scalars."""
        user, positive_item = interaction[self.USER_ID], interaction[self.ITEM_ID]
        negative_item = interaction[self.NEG_ITEM_ID]
        users, items = self.embeddings()
        positive = self._modality_scores(users[user], items[positive_item])
        negative = self._modality_scores(users[user], items[negative_item])
        penalty = self.hyperparameters.reg_weight * self.preference_penalty(user)
        if not self.hyperparameters.item_weights:
            margin = positive.sum(dim=1) - negative.sum(dim=1)
            return -functional.logsigmoid(margin).mean(), penalty
        weights = torch.softmax(self.weight_logits, dim=1)
        positive_weight, negative_weight = weights[positive_item], weights[negative_item]
        margin = (positive_weight * positive).sum(dim=1) - (negative_weight * negative).sum(dim=1)
        calibration = self._calibration(
            positive - negative, margin, (positive_weight + negative_weight) / 2
        )
        penalty = penalty + self.hyperparameters.beta * self.weight_logits.square().mean()
        ranking = -functional.logsigmoid(margin).mean()
        return ranking, self.hyperparameters.alpha * calibration, penalty

    def _modality_scores(self, users: Tensor, items: Tensor) -> Tensor:
        shape = (len(users), len(self.modalities), -1)
        return (users.view(shape) * items.view(shape)).sum(dim=2)

    def _calibration(self, difference: Tensor, margin: Tensor, weight: Tensor) -> Tensor:
        """Return L_cal of d [B, M], the margin [B] of the weighted scores and mean weights [B, M].

        Source: Eq. 5-8; a triplet that no modality supports has confidence 0.
        """
        supporting = difference >= 0
        reliable = supporting.any(dim=1)
        open_scores = difference.masked_fill(~supporting & reliable.unsqueeze(1), -torch.inf)
        vector = torch.softmax(open_scores, dim=1)
        trust = torch.where(
            reliable & (margin > 0), torch.tanh(margin / self.hyperparameters.tau), 0.0
        )
        if self.hyperparameters.stop_gradient:
            vector, trust = vector.detach(), trust.detach()
        divergence = torch.xlogy(vector, vector) - vector * torch.log(weight)
        return (trust * divergence.sum(dim=1)).mean()

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return users [U, M * d] and items [I, M * d], weighted in stage 2."""
        users, items = self.embeddings()
        if self.hyperparameters.item_weights:
            weights = torch.softmax(self.weight_logits, dim=1)
            items = items * weights.repeat_interleave(self.hyperparameters.embedding_size, dim=1)
        return users, items


NAIVE_MODELS: dict[str, type[NaiveRecommender]] = {"DRAGON": NaiveDragon, "MARGO": NaiveMargo}
