"""The findings of a search, as records whose plain form is `tuning.json`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recbole_margo.config import Settings
from recbole_margo.studies.comparison.result import Comparison
from recbole_margo.studies.tuning.plan import TuningPlan
from recbole_margo.studies.tuning.trials import (
    best_trial,
    counted_trials,
    import_optuna,
    trial_error,
)
from recbole_margo.studies.wording import EvaluatedParts

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

FEWEST_FOR_IMPORTANCES = 4


@dataclass(frozen=True)
class SearchedKey:
    """A hyper-parameter that was searched.

    Attributes:
        scale: `log` or `linear` of a range, `choice` of a list.
        own: the value that the model has without a search.
    """

    key: str
    scale: str
    low: float | None
    high: float | None
    text: str
    own: Any


@dataclass(frozen=True)
class TrialResult:
    """The result of one trial.

    Attributes:
        state: `complete`, `pruned` or `failed`.
        last_score: validation score of its last epoch, in the stage that a pruned one was in.
        own: whether it had the model's own values.
    """

    number: int
    state: str
    value: float | None
    last_score: float | None
    validations: int
    own: bool
    values: Settings
    seconds: float | None
    error: str | None

    @classmethod
    def of(cls, plan: TuningPlan, study: Study, trial: FrozenTrial) -> TrialResult:
        """Return the result of a trial of a search."""
        state = "failed" if trial.state.name == "FAIL" else trial.state.name.lower()
        scores, own, values = trial.intermediate_values, plan.own_values(), plan.chosen(trial)
        return cls(
            number=trial.number,
            state=state,
            value=trial.value if state == "complete" else None,
            last_score=scores[max(scores)] if scores else None,
            validations=len(scores),
            own=bool(own) and own.items() <= values.items(),
            values=values,
            seconds=trial.user_attrs.get("seconds"),
            error=trial_error(study, trial),
        )


@dataclass(frozen=True)
class FinalResult:
    """The trainings with the best values; lists have one value for each seed that finished [S].

    Attributes:
        absent_parts: of `valid` and `test`, what there was not.
        valid: metric of selection on validation [S].
        values: test values [S] by metric.
        mean: of the test values, by metric.
        errors: by seed that failed.
    """

    seeds: tuple[int, ...]
    split: str
    absent_parts: tuple[str, ...]
    metrics: tuple[str, ...]
    valid: tuple[float, ...]
    valid_mean: float | None
    valid_std: float | None
    values: Mapping[str, tuple[float | None, ...]]
    mean: Mapping[str, float | None]
    std: Mapping[str, float | None]
    errors: Mapping[str, str]

    @classmethod
    def of(cls, comparison: Comparison) -> FinalResult:
        """Return what the comparison of one model with itself over seeds says of it."""
        (model,) = comparison.models
        valid = tuple(score for score in model.valid if score is not None)
        return cls(
            seeds=comparison.seeds,
            split=comparison.split,
            absent_parts=comparison.absent_parts,
            metrics=comparison.metrics,
            valid=valid,
            valid_mean=statistics.fmean(valid) if valid else None,
            valid_std=statistics.stdev(valid) if len(valid) > 1 else None,
            values=model.values,
            mean=model.mean,
            std=model.std,
            errors=model.errors,
        )

    @property
    def parts(self) -> EvaluatedParts:
        """The parts that the trainings were evaluated on."""
        return EvaluatedParts.of_absent(self.absent_parts)


@dataclass(frozen=True)
class Tuning:
    """A search, see docs/tune.md.

    Attributes:
        bigger_is_better: whether its largest value is the best.
        settings: values by key that all trials share.
        seed: of the sampler and of every trial.
        trials: those that count, in their order.
        importances: share of the variance of the score that each hyper-parameter explains.
        final: the trainings with the best values, None before them.
    """

    model: str
    dataset: str
    eval_protocol: str
    valid_metric: str
    bigger_is_better: bool
    settings: Settings
    seed: int
    planned_trials: int
    space: tuple[SearchedKey, ...]
    trials: tuple[TrialResult, ...]
    best: int | None
    best_values: Settings | None
    importances: Mapping[str, float] | None
    importances_note: str | None
    final: FinalResult | None

    @classmethod
    def of(cls, plan: TuningPlan, study: Study, final: FinalResult | None = None) -> Tuning:
        """Return what a search has found so far.

        Args:
            final: the trainings with the best values, None before them.
        """
        config, best = plan.config({}), best_trial(study)
        importances, note = _importances(plan, study)
        return cls(
            model=plan.model,
            dataset=plan.dataset,
            eval_protocol=config["eval_protocol"],
            valid_metric=config["valid_metric"],
            bigger_is_better=bool(config["valid_metric_bigger"]),
            settings=dict(plan.settings),
            seed=plan.seed,
            planned_trials=plan.trials,
            space=tuple(
                SearchedKey(
                    key=dimension.key,
                    scale=dimension.scale,
                    low=None if dimension.scale == "choice" else dimension.low,
                    high=None if dimension.scale == "choice" else dimension.high,
                    text=dimension.text(),
                    own=config[dimension.key],
                )
                for dimension in plan.space
            ),
            trials=tuple(TrialResult.of(plan, study, trial) for trial in counted_trials(study)),
            best=None if best is None else best.number,
            best_values=None if best is None else plan.chosen(best),
            importances=importances,
            importances_note=note,
            final=final,
        )

    def ranked(self) -> list[tuple[float, TrialResult]]:
        """Return the complete trials with their scores, the best first, of equals the earlier."""
        sign = -1 if self.bigger_is_better else 1
        complete = [(trial.value, trial) for trial in self.trials if trial.value is not None]
        return sorted(complete, key=lambda each: (sign * each[0], each[1].number))


def _importances(plan: TuningPlan, study: Study) -> tuple[Mapping[str, float] | None, str | None]:
    optuna = import_optuna()
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(complete) < FEWEST_FOR_IMPORTANCES:
        return None, f"fewer than {FEWEST_FOR_IMPORTANCES} trials are complete"
    if len({trial.value for trial in complete}) == 1:
        return None, "all complete trials have the same score"
    if len(plan.space) == 1:
        return None, "only one hyper-parameter was searched"
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=plan.seed)
    try:
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError, ImportError) as error:
        return None, str(error)
    return {key: float(share) for key, share in found.items()}, None
