"""Which items were corrupted, and how far each detector trusts each modality of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recbole_margo.data.features import load_item_features
from recbole_margo.errors import CheckpointError
from recbole_margo.evidence.neighbor_agreement import neighbor_agreement
from recbole_margo.graph.bipartite import interaction_matrix
from recbole_margo.studies.audit.learned_weights import LearnedWeights
from recbole_margo.studies.runs.trained_run import TrainedRun

NEIGHBOR_AGREEMENT = "neighbor agreement"


@dataclass(frozen=True)
class CorruptedItems:
    """The truth of one seed at one step, and what detectors say.

    Args:
        items: item tokens [I - 1], PAD left out.
        modalities: names of the modalities [M].
        present: which items have which modality [I - 1, M].
        corrupted: which items were corrupted in which modality [I - 1, M].
        interactions: training interactions of each item [I - 1].
        trust: detector -> how far each modality of each item is trusted [I - 1, M].
    """

    items: NDArray[np.str_]
    modalities: tuple[str, ...]
    present: NDArray[np.bool_]
    corrupted: NDArray[np.bool_]
    interactions: NDArray[np.int64]
    trust: Mapping[str, NDArray[np.float64]]

    @classmethod
    def of_runs(cls, runs: Mapping[str, TrainedRun]) -> CorruptedItems:
        """Read the truth and the weights of finished runs on the same corrupted features.

        Args:
            runs: name of a model -> its run, at least one; those without weights say nothing.

        Raises:
            CheckpointError: if the feature files or the interactions changed since.
        """
        first = next(iter(runs.values()))
        features = load_item_features(first.config, first.dataset)
        if features.checksums != first.record["feature_checksums"]:
            raise CheckpointError(
                f"{first.folder}: the feature files changed since the model was trained: put them "
                "back, or start the study anew"
            )
        interactions = interaction_matrix(first.dataset)
        present = features.mask.numpy()
        items = first.dataset.field2id_token[first.dataset.iid_field][1:].astype(str)
        trust = {}
        for name, run in runs.items():
            weights = _weights_of(run, len(items), features.modalities)
            if weights is not None:
                trust[name] = weights
        agreement = [
            neighbor_agreement(interactions, matrix.numpy(), present[:, column])[1:]
            for column, matrix in enumerate(features.matrices)
        ]
        trust[NEIGHBOR_AGREEMENT] = np.stack(agreement, axis=1)
        return cls(
            items=items,
            modalities=features.modalities,
            present=present[1:],
            corrupted=features.corrupted.numpy()[1:],
            interactions=np.asarray(interactions.sum(axis=0)).ravel().astype(np.int64)[1:],
            trust=trust,
        )

    def asked(self, modality: str) -> NDArray[np.bool_]:
        """Return the items whose modality a weight can be asked about [I - 1].

        They have the modality and another one, for a weight says nothing without a choice, and at
        least one training interaction, for nothing is learned without.

        Args:
            modality: its name.
        """
        choice = self.present[:, self.column(modality)] & (self.present.sum(axis=1) > 1)
        asked: NDArray[np.bool_] = choice & (self.interactions > 0)
        return asked

    def popular(self, modality: str) -> NDArray[np.bool_]:
        """Return those of `asked` with more training interactions than their median [I - 1].

        Args:
            modality: name of the modality.
        """
        asked = self.asked(modality)
        if not asked.any():
            return asked
        popular: NDArray[np.bool_] = asked & (
            self.interactions > np.median(self.interactions[asked])
        )
        return popular

    def intact(self, modality: str) -> NDArray[np.bool_]:
        """Return the items of which no modality was corrupted, and the positives [I - 1].

        Args:
            modality: whose corruption is to be found.
        """
        intact: NDArray[np.bool_] = self.corrupted[:, self.column(modality)] | ~self.corrupted.any(
            axis=1
        )
        return intact

    def column(self, modality: str) -> int:
        """Return the place of a modality among all."""
        return self.modalities.index(modality)


def user_shares_of_items(
    shares: NDArray[np.floating], interactions: sp.csr_matrix
) -> NDArray[np.float64]:
    r"""Return what users' weights say about items: how far their users trust a modality.

    .. math:: w_i^m = \frac{1}{|U_i|} \sum_{u \in U_i} \frac{|W_u^m|}{\sum_{m'} |W_u^{m'}|}

    Args:
        shares: the fractions [U, M].
        interactions: binary training interactions R [U, I].

    Returns:
        The weights [I, M]; 0 for an item without a user.
    """
    users = sp.csr_matrix(interactions.T, dtype=np.float64)
    count = np.asarray(users.sum(axis=1))
    mean: NDArray[np.float64] = (users @ shares.astype(np.float64)) / np.maximum(count, 1.0)
    return mean


def _weights_of(
    run: TrainedRun, items: int, modalities: tuple[str, ...]
) -> NDArray[np.float64] | None:
    """Return the weights of a run [I - 1, M], none if its model learned none."""
    learned = LearnedWeights.of_run(run, run.label)
    if learned is None:
        return None
    weights = learned.weights
    if learned.rows == "users":
        # Row and column 0 are PAD's.
        interactions = interaction_matrix(run.dataset)[1:, 1:]
        weights = user_shares_of_items(weights, interactions)
    if learned.modalities != modalities or len(weights) != items:
        raise CheckpointError(
            f"{run.folder}: expected the weights of {items} items and the modalities "
            f"{', '.join(modalities)}, found {len(weights)} items and "
            f"{', '.join(learned.modalities)}: train the model again"
        )
    return weights
