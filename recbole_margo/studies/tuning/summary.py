"""What came out of a search, as plain data."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from recbole_margo.studies.tuning.libraries import import_optuna
from recbole_margo.studies.tuning.plan import TuningPlan
from recbole_margo.studies.tuning.study import best_trial, counted_trials, trial_error

FEWEST_FOR_IMPORTANCES = 4


def best_values(plan: TuningPlan, trial: Any) -> dict[str, Any]:
    """Return what a trial chose, by key.

    Args:
        plan: the search.
        trial: one of its trials.
    """
    return {
        dimension.key: dimension.value_of(trial.params[dimension.key])
        for dimension in plan.space
        if dimension.key in trial.params
    }


def summarize_study(
    plan: TuningPlan, study: Any, final: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the summary of a search, which `recbole_margo.report` shows.

    Args:
        plan: the search.
        study: its study.
        final: summary of the training with the best values, None before it.
    """
    config = plan.config({})
    best, own = best_trial(study), plan.own_values()
    importances, note = _importances(plan, study)
    return {
        "model": plan.model,
        "dataset": plan.dataset,
        "eval_protocol": config["eval_protocol"],
        "valid_metric": config["valid_metric"],
        "bigger_is_better": bool(config["valid_metric_bigger"]),
        "settings": dict(plan.settings),
        "seed": plan.seed,
        "planned_trials": plan.trials,
        "space": [
            {
                "key": dimension.key,
                "scale": dimension.scale,
                "low": None if dimension.scale == "choice" else dimension.low,
                "high": None if dimension.scale == "choice" else dimension.high,
                "text": dimension.text(),
                "own": config[dimension.key],
            }
            for dimension in plan.space
        ],
        "trials": [_trial(plan, study, trial, own) for trial in counted_trials(study)],
        "best": None if best is None else best.number,
        "best_values": None if best is None else best_values(plan, best),
        "importances": importances,
        "importances_note": note,
        "final": None if final is None else _final(final),
    }


def _trial(plan: TuningPlan, study: Any, trial: Any, own: Mapping[str, Any]) -> dict[str, Any]:
    scores = trial.intermediate_values
    values = best_values(plan, trial)
    state = trial.state.name.lower()
    return {
        "number": trial.number,
        "state": "failed" if state == "fail" else state,
        "value": trial.value if state == "complete" else None,
        # Of the stage that a pruned trial was in.
        "last_score": scores[max(scores)] if scores else None,
        "validations": len(scores),
        "own": bool(own) and own.items() <= values.items(),
        "values": values,
        "seconds": trial.user_attrs.get("seconds"),
        "error": trial_error(study, trial),
    }


def _importances(plan: TuningPlan, study: Any) -> tuple[dict[str, float] | None, str | None]:
    """Return the share of the variance of the score that each hyper-parameter explains."""
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


def _final(summary: Mapping[str, Any]) -> dict[str, Any]:
    (entry,) = summary["models"]
    valid = [score for score in entry["valid"] if score is not None]
    return {
        "seeds": list(summary["seeds"]),
        "split": summary["split"],
        "absent_parts": list(summary["absent_parts"]),
        "metrics": list(summary["metrics"]),
        "valid": valid,
        "valid_mean": statistics.fmean(valid) if valid else None,
        "valid_std": statistics.stdev(valid) if len(valid) > 1 else None,
        "values": entry["values"],
        "mean": entry["mean"],
        "std": entry["std"],
        "errors": entry["errors"],
    }
