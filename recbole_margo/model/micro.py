"""MICRO: latent structures in each modality, fused by attention and contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from recbole_margo.model.lattice import LATTICE, LATTICEParameters
from recbole_margo.model.paper import Paper
from recbole_margo.model.parameters import hyperparameter
from recbole_margo.nn.content_path import array, spread_tables
from recbole_margo.nn.latent_item_graphs import MixedItemGraph
from recbole_margo.nn.losses import log_sum_exp_of_products, mean_over
from recbole_margo.nn.projection import ModalityAttention


@dataclass(frozen=True, kw_only=True)
class MICROParameters(LATTICEParameters):
    """Hyper-parameters of MICRO, beside those that it shares with LATTICE."""

    contrastive_weight: float = hyperparameter(
        "weight of the contrast between the modalities and their fusion", low=0.0, paper=0.03
    )
    temperature: float = hyperparameter("tau of the contrast", low=1e-3, paper=0.5)
    contrastive_items: str = hyperparameter(
        "anchors of the contrast: all items, or for speed the batch's positive ones",
        choices=("all", "batch"),
        paper="all",
    )
    learning_rate: float = hyperparameter("learning rate of the optimiser", low=0.0, paper=5e-4)


class MICRO(LATTICE):
    r"""Hears from neighbours in each modality's graph and fuses them by attention.

    .. math:: G_m = (1 - \lambda)\, \mathrm{norm}(S_m) + \lambda N_m, \quad e^m = G_m^n Q, \quad
        h_i = \sum_m \alpha_i^m e_i^m, \qquad
        r_{ui} = \langle e_u, e_i + \mathrm{rownorm}(h)_i \rangle

        \ell_n^m = -\frac{\cos(e_n^m, h_n)}{\tau} + \ln\Big(\sum_j e^{\cos(e_n^m, h_j) / \tau} +
        \sum_{j \ne n} e^{\cos(e_n^m, e_j^m) / \tau}\Big), \qquad
        L = L_{bpr} + \frac{\lambda_r}{2B} \lVert E_B \rVert^2 +
        \gamma \sum_m \mathrm{mean}_n\, \ell_n^m

    S, N and the interaction graph are LATTICE's, the attention is `ModalityAttention`. The contrast
    runs over all items in blocks that are computed again for the gradient, which is exact.

    Source: Zhang, Zhu, Liu, Zhang, Wu, Wang, "Latent Structure Mining with Contrastive Modality
    Fusion for Multimedia Recommendation", IEEE TKDE 2022, its structure
    learning and contrastive modality fusion.

    Departures from the paper:
        - `graph_refresh` and `momentum_between_refreshes` as in LATTICE.
        - Triplets are RecBole's: every interaction once an epoch, in batches of
          `train_batch_size`, not 1,024 users drawn uniformly.
        - `contrastive_items: batch` takes as anchors the batch's positive items alone, against all
          items; an unbiased sample of `all` only where every item is equally popular.
        - An item that misses a modality takes no part in its graph, its attention or its contrast,
          neither as an anchor nor below the logarithm.
        - The penalty is divided by the batch's own size.
    """

    parameters_class = MICROParameters
    paper = Paper(
        title="Latent Structure Mining with Contrastive Modality Fusion for Multimedia "
        "Recommendation",
        authors="Jinghao Zhang, Yanqiao Zhu, Qiang Liu, Mengqi Zhang, Shu Wu, Liang Wang",
        venue="IEEE TKDE",
        year=2022,
        link="https://arxiv.org/abs/2111.00678",
    )
    loss_names = ("recommendation", "contrast", "regularization")
    content_kind = "micro"

    def _build_fusion(self) -> None:
        self.attention = ModalityAttention(self.hyperparameters.embedding_size)

    def build_item_graphs(self) -> list[MixedItemGraph]:
        """Return the item graphs of the current parameters, one a modality, with a gradient."""
        projected = self.project_features(self.item_graphs.projections)
        return self.item_graphs.separate(projected, self.modality_mask)

    def modality_embeddings(self, item_graphs: list[MixedItemGraph]) -> tuple[Tensor, Tensor]:
        """Return the items' e^m [I, M, d] and their fusion h [I, d]."""
        of_modalities = torch.stack([self._spread(graph) for graph in item_graphs], dim=1)
        weights = self.attention(of_modalities, self.modality_mask)
        return of_modalities, (weights.unsqueeze(-1) * of_modalities).sum(dim=1)

    @property
    def shares_batches(self) -> bool:  # type: ignore[override]
        """Whether the loss is a mean over the rows of a batch, see `MultimodalRecommender`."""
        return self.hyperparameters.contrastive_items == "all" or self.nothing_missing

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """Return the ranking loss, the weighted contrast and the weighted penalty."""
        item_graphs = self.item_graphs.for_training(self.build_item_graphs)
        of_modalities, fused = self.modality_embeddings(item_graphs)
        ranking, penalty = self.ranking_and_penalty(interaction, *self.embeddings(fused))
        if self.hyperparameters.contrastive_items == "all":
            anchors = torch.arange(1, self.n_items, device=fused.device)  # PAD is no item
        else:
            anchors = interaction[self.ITEM_ID]
        contrast = self._contrast(of_modalities, fused, anchors)
        return (
            ranking,
            self.hyperparameters.contrastive_weight * contrast,
            self.hyperparameters.reg_weight * penalty,
        )

    def _contrast(self, of_modalities: Tensor, fused: Tensor, anchors: Tensor) -> Tensor:
        """Return the contrast summed over the modalities, with anchors [N], a scalar."""
        root = self.hyperparameters.temperature**0.5
        fused = functional.normalize(fused, dim=1) / root
        of_modalities = functional.normalize(of_modalities, dim=2) / root
        total = fused.new_zeros(())
        for m, present in enumerate(self.modality_mask.T):
            own = of_modalities[:, m]
            starts = own[anchors]
            with_fused = log_sum_exp_of_products(starts, fused, present)
            with_own = log_sum_exp_of_products(starts, own, present, skip=anchors)
            agreement = (starts * fused[anchors]).sum(dim=1)
            losses = torch.logaddexp(with_fused, with_own) - agreement
            total = total + mean_over(losses, present[anchors])
        return total

    def _fusion_tables(self) -> dict[str, NDArray[Any]]:
        tables, layers = self.attention.tables(), self.hyperparameters.item_graph_layers
        for m, graph in enumerate(self.build_item_graphs()):
            tables[f"learned_degrees_{m}"] = array(graph.learned_degrees)[1:]
            tables |= spread_tables(graph, self.item_embedding, layers, m)
        return tables

    def scoring_tables(self) -> tuple[Tensor, Tensor]:
        """Return users [U, d] and items [I, d]; the item graphs are built anew."""
        _, fused = self.modality_embeddings(self.build_item_graphs())
        return self.embeddings(fused)
