"""The weights of modalities that a run learned, and what they look like as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import CheckpointError, ConfigError
from recbole_margo.evaluation.bootstrap import RankCorrelation
from recbole_margo.evaluation.item_weights import ItemWeights
from recbole_margo.run_folder import RunFolder
from recbole_margo.studies.comparison.plan import FULL_MODEL
from recbole_margo.studies.runs.trained_run import TrainedRun
from recbole_margo.training.checkpoint import read_trained

USER_WEIGHTS = "user_weights"
# Above it an item counts as settled on one modality.
DECIDED = 0.9


@dataclass(frozen=True)
class ModalityStatistics:
    """The weights of one modality; None where no row has a choice.

    Args:
        count: rows that have it and a choice.
        share_decided: share of the rows whose weight is above `DECIDED`.
    """

    modality: str
    count: int
    mean: float | None
    std: float | None
    share_decided: float | None


@dataclass(frozen=True)
class WeightStatistics:
    """Entropy and dispersion of one run's weights; None where no row has a choice.

    Args:
        rows: what a row is: `items` or `users`.
        count: rows with two modalities or more.
        relative_entropy: the same as a share of log2 of the number of the row's modalities.
        share_decided: share of the rows with a weight above `DECIDED`.
    """

    label: str
    seed: int
    rows: str
    count: int
    entropy_bits: float | None
    relative_entropy: float | None
    share_decided: float | None
    modalities: tuple[ModalityStatistics, ...]


@dataclass(frozen=True)
class LearnedWeights:
    """Weights of one run, by row: one per item for MARGO, one per user for DRAGON.

    Args:
        rows: what a row is: `items` or `users`.
        modalities: names of the modalities [M].
        weights: weights [N, M], PAD left out; rows sum to 1.
        present: presence mask [N, M]; a missing modality weighs 0.
    """

    label: str
    seed: int
    rows: str
    modalities: tuple[str, ...]
    weights: NDArray[np.float64]
    present: NDArray[np.bool_]

    @classmethod
    def of_run(cls, run: TrainedRun, label: str) -> LearnedWeights | None:
        r"""Take the weights that a run left on disk.

        DRAGON's are free factors, which MARGO's paper draws as shares:
        :math:`|W_u^m| / \sum_{m'} |W_u^{m'}|`.

        Returns:
            The weights; none if the model has none, as MARGO w/o weight and most others.

        Raises:
            CheckpointError: if the files are damaged, or those of the weights are missing.
        """
        if run.model_name == "DRAGON":
            return cls._of_users(run, label)
        if not learns_item_weights(run):
            return None
        found = ItemWeights.load(RunFolder(run.folder).weights)
        weights = found.weights.astype(np.float64)
        return cls(label, run.seed, "items", found.modalities, weights, found.present)

    @classmethod
    def _of_users(cls, run: TrainedRun, label: str) -> LearnedWeights:
        path = RunFolder(run.folder).checkpoint
        state = read_trained(path).state_dict
        if USER_WEIGHTS not in state:
            raise CheckpointError(f"{path}: expected {USER_WEIGHTS} of DRAGON, found none")
        factors = state[USER_WEIGHTS].double().abs().numpy()[1:]
        total = factors.sum(axis=1, keepdims=True)
        even = np.full_like(factors, 1 / factors.shape[1])
        shares = np.divide(factors, total, out=even, where=total > 0)
        names = tuple(run.result.modalities or ())
        return cls(label, run.seed, "users", names, shares, np.ones(shares.shape, dtype=bool))

    @property
    def choice(self) -> NDArray[np.bool_]:
        """Which rows have two modalities or more [N]; with one the weight is 1 by definition."""
        several: NDArray[np.bool_] = self.present.sum(axis=1) > 1
        return several

    @property
    def of_full_rows(self) -> NDArray[np.float64]:
        r"""The weights on the scale of a row that has every modality, w |M_i| / M [N, M].

        The weights of an item sum to one over the modalities that it has, so they are the larger
        the fewer there are, which says nothing about the content. Scaled, equal trust is 1/M in
        every row; where nothing is missing, they are as they were.
        """
        scale = self.present.sum(axis=1, keepdims=True) / self.present.shape[1]
        scaled: NDArray[np.float64] = self.weights * scale
        return scaled

    def of_modality(self, index: int) -> NDArray[np.float64]:
        """Return the weights of a modality where there is a choice and it is present."""
        values: NDArray[np.float64] = self.weights[self.choice & self.present[:, index], index]
        return values

    def statistics(self) -> WeightStatistics:
        """Return entropy, dispersion and how many rows are decided."""
        weights, present = self.weights[self.choice], self.present[self.choice]
        bits = entropy_bits(weights)
        modalities = []
        for index, name in enumerate(self.modalities):
            values = self.of_modality(index)
            deviation = float(values.std()) if len(values) else None
            modalities.append(
                ModalityStatistics(
                    name, len(values), _mean(values), deviation, _mean(values > DECIDED)
                )
            )
        return WeightStatistics(
            self.label,
            self.seed,
            self.rows,
            len(weights),
            _mean(bits),
            _mean(bits / np.log2(present.sum(axis=1))),
            _mean(weights.max(axis=1) > DECIDED),
            tuple(modalities),
        )


@dataclass(frozen=True)
class WeightStability:
    """How far the seeds of one model agree on which items weigh a modality more.

    Args:
        mean: mean Spearman's rho over the pairs of seeds.
    """

    modality: str
    seeds: int
    mean: float
    smallest: float


def weight_stability(weights: Sequence[LearnedWeights]) -> tuple[WeightStability, ...]:
    """Return the agreement of the seeds by modality; nothing for one seed.

    Args:
        weights: item weights of one model, a seed each, of the same items in the same order.
    """
    if len(weights) < 2:
        return ()
    rows = []
    for index, modality in enumerate(weights[0].modalities):
        values = [one.of_modality(index) for one in weights]
        rhos = [RankCorrelation.of(a, b, resamples=1).rho for a, b in combinations(values, 2)]
        rows.append(
            WeightStability(modality, len(weights), float(np.mean(rhos)), float(np.min(rhos)))
        )
    return tuple(rows)


def learns_item_weights(run: TrainedRun) -> bool:
    """Return whether a run learned a weight for each modality of each item."""
    return run.model_name == FULL_MODEL and run.result.hyperparameters.get("item_weights") is True


def audited_runs(
    runs: Sequence[tuple[str, TrainedRun]], label: str | None = None
) -> tuple[str, list[TrainedRun]]:
    """Choose the runs of one label whose weights are audited, one per seed.

    Args:
        label: of the runs; none: `MARGO`, or else the only label whose runs have item weights.

    Returns:
        The label and its runs.

    Raises:
        ConfigError: if there is no such label, or none can be chosen.
        CheckpointError: if the runs were not trained on the same interactions and modalities.
    """
    able = {name: None for name, run in runs if learns_item_weights(run)}
    names = list(able)
    if not names:
        found = ", ".join(dict.fromkeys(name for name, _ in runs))
        raise ConfigError(
            f"expected a run of MARGO with item weights, found {found}: train one with "
            "`recbole-margo train --model=MARGO`"
        )
    if label is None:
        label = FULL_MODEL if FULL_MODEL in names else names[0]
        if len(names) > 1 and label != FULL_MODEL:
            raise ConfigError(f"several runs have item weights: name one of {names} with --label")
    if label not in names:
        raise ConfigError(f"--label must be one of {names}, found {label!r}")
    chosen = [run for name, run in runs if name == label]
    facts = ("dataset", "split", "modalities", "feature_checksums")
    for run in chosen[1:]:
        for fact in facts:
            expected, found = getattr(chosen[0].result, fact), getattr(run.result, fact)
            if found != expected:
                raise CheckpointError(
                    f"{run.folder}: expected the {fact} of {chosen[0].folder} ({expected}), found "
                    f"{found}: give the folder of one run with --run"
                )
    return label, chosen


def entropy_bits(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Return the entropy of each row, :math:`-\sum_m w^m \log_2 w^m`, in bits.

    Args:
        weights: [N, M], rows sum to 1; 0 counts 0.

    Returns:
        [N], between 0 and log2 M.
    """
    logs = np.log2(weights, out=np.zeros_like(weights), where=weights > 0)
    entropy: NDArray[np.float64] = -(weights * logs).sum(axis=1) + 0.0
    return entropy


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
