"""The measurements of a robustness study: quality, detection and weights, as one typed record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from recbole_margo.config import Settings
from recbole_margo.evaluation.detection import Estimate
from recbole_margo.report import clean
from recbole_margo.studies.wording import EvaluatedParts


@dataclass(frozen=True)
class FailedRun:
    """A run that failed, and why."""

    model: str
    step: float
    seed: int
    error: str


@dataclass(frozen=True)
class Quality:
    """The test metrics of a model at a step: by metric, the values of the seeds that finished."""

    model: str
    step: float
    seeds: tuple[int, ...]
    values: Mapping[str, tuple[float | None, ...]]
    mean: Mapping[str, float | None]
    std: Mapping[str, float | None]


@dataclass(frozen=True)
class Question:
    """Which items are asked about, and which of them are the negatives."""

    items: str
    negatives: str


HEADLINE = Question("all", "all others")
POPULAR = Question("popular", "all others")
UNTOUCHED = Question("all", "nothing corrupted")
QUESTIONS = (HEADLINE, UNTOUCHED, POPULAR, Question("popular", "nothing corrupted"))


@dataclass(frozen=True)
class SeedDetection:
    """How well a detector finds the corrupted items of one seed, with 95 % intervals."""

    seed: int
    items: int
    positives: int
    auc: float
    auc_low: float
    auc_high: float
    average_precision: float
    average_precision_low: float
    average_precision_high: float
    chance: float


@dataclass(frozen=True)
class DetectorResult:
    """How well a detector answers a question about a modality, over the seeds that can be asked.

    Attributes:
        chance: mean average precision of a score that knows nothing.
        auc_above_reference: the ROC-AUC above MARGO's, on the seeds that both have.
    """

    step: float
    modality: str
    items: str
    negatives: str
    detector: str
    seeds: tuple[SeedDetection, ...]
    auc: Estimate
    average_precision: Estimate
    chance: float
    auc_above_reference: Estimate | None = None


@dataclass(frozen=True)
class RocCurve:
    """The ROC curve of a detector, averaged over seeds."""

    step: float
    modality: str
    detector: str
    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]


@dataclass(frozen=True)
class WeightHistogram:
    """Counts [B] of a model's weights of corrupted and of other items between edges [B + 1]."""

    step: float
    modality: str
    model: str
    edges: tuple[float, ...]
    corrupted: tuple[int, ...]
    mean_corrupted: float
    intact: tuple[int, ...]
    mean_intact: float


@dataclass(frozen=True, kw_only=True)
class RobustnessResult:
    """A robustness study, whose plain form is `robustness.json`; see docs/robustness.md.

    Attributes:
        share: of the items whose rows are corrupted at step 1, by modality.
        shares: share by modality at each of `steps`.
        reference: name of the model that the other detectors are compared with.
        why_no_detection: a sentence where `detection` is empty.
    """

    dataset: str
    eval_protocol: str | None
    split: str
    seeds: tuple[int, ...]
    valid_metric: str | None
    absent_parts: tuple[str, ...] = ()
    share: Mapping[str, float]
    kind: str
    signal_to_noise: float | None
    steps: tuple[float, ...]
    shares: tuple[Mapping[str, float], ...]
    models: tuple[str, ...]
    settings: Settings
    metrics: tuple[str, ...]
    errors: tuple[FailedRun, ...]
    quality: tuple[Quality, ...]
    reference: str
    detection: tuple[DetectorResult, ...]
    roc: tuple[RocCurve, ...]
    weights: tuple[WeightHistogram, ...]
    why_no_detection: str | None

    @property
    def parts(self) -> EvaluatedParts:
        """The parts that the runs were evaluated on."""
        return EvaluatedParts.of_absent(self.absent_parts)

    @property
    def shown_metrics(self) -> tuple[str, ...]:
        """The metrics at the cut-off of the metric of selection, or all if there is none."""
        _, at, cut_off = str(self.valid_metric).partition("@")
        same = tuple(metric for metric in self.metrics if at and metric.endswith(f"@{cut_off}"))
        return same or self.metrics

    def quality_of(self, model: str, step: float) -> Quality:
        """Return the test metrics of a model at a step."""
        return next(one for one in self.quality if (one.model, one.step) == (model, step))

    def detectors(self, step: float, modality: str, question: Question) -> list[DetectorResult]:
        """Return how every detector answers a question."""
        wanted = (step, modality, question.items, question.negatives)
        return [
            row
            for row in self.detection
            if (row.step, row.modality, row.items, row.negatives) == wanted
        ]

    def step_name(self, step: float) -> str:
        """Return which share of the items is corrupted at a step: `text 30 %, audio 20 %`."""
        return "clean" if step == 0 else shares_name(self.shares[self.steps.index(step)])


def shares_name(shares: Mapping[str, float]) -> str:
    """Return shares by modality in words."""
    return ", ".join(f"{clean(name)} {100 * share:g} %" for name, share in shares.items())
