"""One trial: a training that sees validation only."""

from __future__ import annotations

import gc
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from recbole.utils import init_seed

from recbole_margo.config import Config
from recbole_margo.run import load_split
from recbole_margo.studies.tuning.libraries import import_optuna
from recbole_margo.studies.tuning.plan import TuningPlan
from recbole_margo.studies.tuning.study import (
    ERROR,
    best_trial,
    counted_trials,
    open_study,
    trial_error,
)
from recbole_margo.training.distributed import find_trainer
from recbole_margo.training.outputs import tensorboard_in
from recbole_margo.training.trainer import MultimodalTrainer

LONGEST_ERROR = 1000


def run_trial(plan: TuningPlan, url: str, parallel: bool = False) -> None:
    """Run one trial of a search and write its result into the study; in any process.

    A training that fails is a failed trial, not a failure of the search.

    Args:
        plan: the search.
        url: storage of its study.
        parallel: whether several trials run at the same time.
    """
    study = open_study(plan, url, parallel)
    numbers = []

    def objective(trial: Any) -> float:
        numbers.append(trial.number)
        return _score(plan, trial)

    study.optimize(objective, n_trials=1, catch=(Exception,))
    gc.collect()
    _announce(plan, study, numbers[0])


def _score(plan: TuningPlan, trial: Any) -> float:
    """Return the best validation score of the values that a trial chose."""
    pruned = import_optuna().TrialPruned
    values = {dimension.key: dimension.suggest(trial) for dimension in plan.space}
    started = perf_counter()
    try:
        score = validation_score(plan.config(values), _Report(trial))
    except pruned:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        trial.set_user_attr(ERROR, reason[:LONGEST_ERROR])
        raise
    finally:
        trial.set_user_attr("seconds", perf_counter() - started)
    if score is None or score != score:
        trial.set_user_attr(ERROR, f"the validation score is {score}")
        raise ValueError("no validation score")
    return score


class _Report:
    """Hands the scores of a training to the study and ends it where the study says so.

    Args:
        trial: the optuna trial.
    """

    def __init__(self, trial: Any) -> None:
        self.trial = trial

    def __call__(self, step: int, score: float) -> None:
        self.trial.report(score, step)
        if self.trial.should_prune():
            raise import_optuna().TrialPruned()


def validation_score(config: Config, report: Callable[[int, float], None]) -> float | None:
    """Train a model and return its best validation score, that of the last stage.

    Nothing is kept on disk, and the test interactions are never looked at.

    Args:
        config: the config.
        report: called after each validation with a step and the score. The step is the epoch, from
            0; stage n begins at n times the epochs that a stage may have, so that equal steps mean
            the same in trainings whose stages ended early.
    """
    with tempfile.TemporaryDirectory(prefix="recbole-margo-tune-") as folder:
        config["checkpoint_dir"] = folder
        with tensorboard_in(Path(folder) / "tensorboard"):
            train, valid, _ = load_split(config)
            init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
            model = config.model_class(config, train._dataset).to(config["device"])
            trainer = find_trainer(config.model_class, config["model"])(config, model)

            def validated(epoch: int, score: float) -> None:
                step = epoch
                if isinstance(trainer, MultimodalTrainer):
                    step = (len(trainer.progress) - 1) * trainer.epochs
                    step += trainer.progress[-1].epochs - 1
                report(step, float(score))

            try:
                score, _ = trainer.fit(
                    train,
                    valid,
                    verbose=False,
                    saved=False,
                    show_progress=False,
                    callback_fn=validated,
                )
            finally:
                trainer.tensorboard.close()
    return None if score is None else float(score)


def _announce(plan: TuningPlan, study: Any, number: int) -> None:
    """Log what came out of a trial and which one is the best so far."""
    ended = counted_trials(study)
    trial = study.get_trials(deepcopy=False)[number]
    values = ", ".join(f"{key} = {_short(value)}" for key, value in trial.params.items())
    error = trial_error(study, trial)
    result = f"FAILED, {error}" if error else "pruned"
    if trial.state.name == "COMPLETE":
        result = f"{trial.value:.4f}"
    best = best_trial(study)
    logging.getLogger().warning(
        "Trial %d, %d of %d done: %s with %s%s",
        number,
        len(ended),
        plan.trials,
        result,
        values,
        "" if best is None else f"; best {best.value:.4f}, trial {best.number}",
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
