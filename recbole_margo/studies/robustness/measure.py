"""The calculation of a robustness study: which items were corrupted, and which detectors tell."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_margo.data.features import load_item_features
from recbole_margo.errors import CheckpointError
from recbole_margo.evaluation.detection import (
    Detection,
    auc_estimate,
    detect,
    mean_roc,
    precision_estimate,
)
from recbole_margo.evidence.item_evidence import item_evidence
from recbole_margo.evidence.item_targets import item_targets
from recbole_margo.graph.bipartite import interaction_matrix
from recbole_margo.studies.audit.learned_weights import LearnedWeights
from recbole_margo.studies.comparison.plan import FULL_MODEL
from recbole_margo.studies.comparison.result import Comparison
from recbole_margo.studies.robustness.plan import RobustnessPlan
from recbole_margo.studies.robustness.result import (
    HEADLINE,
    QUESTIONS,
    DetectorResult,
    FailedRun,
    Quality,
    Question,
    RobustnessResult,
    RocCurve,
    SeedDetection,
    WeightHistogram,
)
from recbole_margo.studies.runs.trained_run import TrainedRun

NEIGHBOR_AGREEMENT, HELD_OUT = "neighbor agreement", "held-out score"
BINS = 40
FALSE_POSITIVE_RATES = np.linspace(0.0, 1.0, 101)


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
        if features.checksums != first.result.feature_checksums:
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
        targets = item_targets(interactions)
        evidence = [
            item_evidence(interactions, matrix.numpy(), present[:, column], targets)
            for column, matrix in enumerate(features.matrices)
        ]
        trust[NEIGHBOR_AGREEMENT] = np.stack([one.agreement[1:] for one in evidence], axis=1)
        trust[HELD_OUT] = np.stack([one.scores[1:] for one in evidence], axis=1)
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
        """
        choice = self.present[:, self.column(modality)] & (self.present.sum(axis=1) > 1)
        asked: NDArray[np.bool_] = choice & (self.interactions > 0)
        return asked

    def popular(self, modality: str) -> NDArray[np.bool_]:
        """Return those of `asked` with more training interactions than their median [I - 1]."""
        asked = self.asked(modality)
        if not asked.any():
            return asked
        median = np.median(self.interactions[asked])
        popular: NDArray[np.bool_] = asked & (self.interactions > median)
        return popular

    def intact(self, modality: str) -> NDArray[np.bool_]:
        """Return the positives, and the items of which no modality was corrupted [I - 1]."""
        positive = self.corrupted[:, self.column(modality)]
        intact: NDArray[np.bool_] = positive | ~self.corrupted.any(axis=1)
        return intact

    def rows(self, modality: str, question: Question) -> NDArray[np.bool_]:
        """Return the items that a question is about [I - 1]."""
        of_all = question.items == HEADLINE.items
        rows = self.asked(modality) if of_all else self.popular(modality)
        return rows if question.negatives == HEADLINE.negatives else rows & self.intact(modality)

    def column(self, modality: str) -> int:
        """Return the index of a modality among all."""
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
    learned = LearnedWeights.of_run(run, run.label)
    if learned is None:
        return None
    weights = learned.of_full_rows
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


# Step -> seed -> which items were corrupted, and what the detectors say.
Truth = Mapping[float, Mapping[int, CorruptedItems]]


def measure(plan: RobustnessPlan, compared: Comparison, truth: Truth) -> RobustnessResult:
    """Return what came out of a study.

    Args:
        truth: the corrupted items of each step above 0 and each seed with a finished run.
    """
    by_label = {entry.label: entry for entry in compared.models}
    entries = {
        (model, step): by_label[plan.entry(model, step).label]
        for model in plan.models
        for step in plan.steps
    }
    detection, roc = _detection(plan, truth)
    return RobustnessResult(
        dataset=plan.dataset,
        eval_protocol=compared.eval_protocol,
        split=compared.split,
        seeds=tuple(plan.seeds),
        valid_metric=compared.valid_metric,
        absent_parts=compared.absent_parts,
        share=plan.share,
        kind=plan.kind,
        signal_to_noise=plan.signal_to_noise if plan.kind == "noise" else None,
        steps=tuple(plan.steps),
        shares=tuple(plan.shares(step) for step in plan.steps),
        models=tuple(plan.models),
        settings=plan.settings,
        metrics=compared.metrics,
        errors=tuple(
            FailedRun(model, step, int(seed), error)
            for step in plan.steps
            for model in plan.models
            for seed, error in entries[model, step].errors.items()
        ),
        quality=tuple(
            Quality(
                model,
                step,
                tuple(compared.finished_seeds(entry)),
                entry.values,
                entry.mean,
                entry.std,
            )
            for (model, step), entry in entries.items()
        ),
        reference=FULL_MODEL,
        detection=tuple(detection),
        roc=tuple(roc),
        weights=tuple(_weights(plan, truth)),
        why_no_detection=_why_no_detection(plan, truth, bool(detection)),
    )


def _detection(plan: RobustnessPlan, truth: Truth) -> tuple[list[DetectorResult], list[RocCurve]]:
    """Return how each detector answers each question, and its ROC curve on the headline's."""
    results: list[DetectorResult] = []
    curves: list[RocCurve] = []
    asked = list(itertools.product(truth, plan.share, QUESTIONS))
    for step, modality, question in tqdm(asked, "Detection", leave=False, disable=None):
        scored = _scored(truth[step], modality, question)
        draws = {
            detector: {seed: detect(*draw, seed=seed) for seed, draw in of_seeds.items()}
            for detector, of_seeds in scored.items()
        }
        for detector, of_seeds in draws.items():
            reference = {} if detector == FULL_MODEL else draws.get(FULL_MODEL, {})
            both = [seed for seed in of_seeds if seed in reference]
            of_all = list(of_seeds.values())
            results.append(
                DetectorResult(
                    step=step,
                    modality=modality,
                    items=question.items,
                    negatives=question.negatives,
                    detector=detector,
                    seeds=tuple(_of_seed(seed, draw) for seed, draw in of_seeds.items()),
                    auc=auc_estimate(of_all),
                    average_precision=precision_estimate(of_all),
                    chance=float(np.mean([draw.chance for draw in of_all])),
                    auc_above_reference=auc_estimate(
                        [of_seeds[seed] for seed in both], [reference[seed] for seed in both]
                    )
                    if both
                    else None,
                )
            )
            if question == HEADLINE:
                rates = mean_roc(list(scored[detector].values()), FALSE_POSITIVE_RATES).tolist()
                grid = tuple(FALSE_POSITIVE_RATES.tolist())
                curves.append(RocCurve(step, modality, detector, grid, tuple(rates)))
    return results, curves


def _scored(
    of_seeds: Mapping[int, CorruptedItems], modality: str, question: Question
) -> dict[str, dict[int, tuple[NDArray[np.float64], NDArray[np.bool_]]]]:
    """Return scores and labels by detector and seed, where there are items of both kinds."""
    found: dict[str, dict[int, tuple[NDArray[np.float64], NDArray[np.bool_]]]] = {}
    for seed, draw in of_seeds.items():
        rows, column = draw.rows(modality, question), draw.column(modality)
        labels = draw.corrupted[rows, column]
        if labels.any() and not labels.all():
            for detector, trust in draw.trust.items():
                found.setdefault(detector, {})[seed] = (-trust[rows, column], labels)
    return found


def _of_seed(seed: int, draw: Detection) -> SeedDetection:
    auc, precision = auc_estimate([draw]), precision_estimate([draw])
    return SeedDetection(
        seed=seed,
        items=draw.items,
        positives=draw.positives,
        auc=draw.auc,
        auc_low=auc.low,
        auc_high=auc.high,
        average_precision=draw.average_precision,
        average_precision_low=precision.low,
        average_precision_high=precision.high,
        chance=draw.chance,
    )


def _weights(plan: RobustnessPlan, truth: Truth) -> Iterator[WeightHistogram]:
    """Yield counts over equal bins between the twentieths around all weights, and means."""
    for step, modality, model in itertools.product(truth, plan.share, plan.models):
        corrupted, intact = [np.zeros(0)], [np.zeros(0)]
        for draw in truth[step].values():
            if model in draw.trust:
                column, asked = draw.column(modality), draw.asked(modality)
                weights, bad = draw.trust[model][:, column], draw.corrupted[:, column]
                corrupted.append(weights[asked & bad])
                intact.append(weights[asked & ~bad])
        groups = [np.concatenate(corrupted), np.concatenate(intact)]
        if all(map(len, groups)):
            everything = np.concatenate(groups)
            low, high = np.floor(everything.min() * 20) / 20, np.ceil(everything.max() * 20) / 20
            edges = np.linspace(low, max(high, low + 1 / 20), BINS + 1)
            counts = [tuple(np.histogram(group, edges)[0].tolist()) for group in groups]
            means = [float(group.mean()) for group in groups]
            yield WeightHistogram(
                step=step,
                modality=modality,
                model=model,
                edges=tuple(edges.tolist()),
                corrupted=counts[0],
                mean_corrupted=means[0],
                intact=counts[1],
                mean_intact=means[1],
            )


def _why_no_detection(plan: RobustnessPlan, truth: Truth, detected: bool) -> str | None:
    if plan.kind == "missing":
        return (
            "An item that misses a modality has weight 0 for it by construction: there is nothing "
            "to detect, so only recommendation quality is reported."
        )
    if detected:
        return None
    draws = [draw for seeds in truth.values() for draw in seeds.values()]
    if not draws:
        return "No run on corrupted features finished."
    if all(len(draw.modalities) < 2 for draw in draws):
        return "With one modality its weight is always 1: there is nothing to detect."
    return (
        "No modality has both corrupted and other items that have another modality too and a "
        "training interaction."
    )
