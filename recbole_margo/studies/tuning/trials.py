"""The trials of a search: kept in an optuna study, each a training that sees validation only."""

from __future__ import annotations

import gc
import logging
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from recbole.utils import init_seed

from recbole_margo.config import Config
from recbole_margo.errors import ConfigError, import_optional
from recbole_margo.run import load_split
from recbole_margo.studies.tuning.plan import TuningPlan
from recbole_margo.training.distributed import find_trainer
from recbole_margo.training.outputs import tensorboard_in
from recbole_margo.training.trainer import MultimodalTrainer

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

STUDY_FILE = "study.sqlite3"
# Validations before a trial can be pruned, trials that never are, and how many complete trials must
# have come as far to be a median.
FIRST_STEPS, STARTUP_TRIALS, FEWEST_OTHERS = 10, 5, 3
SECONDS_FOR_A_LOCK = 120
ERROR, LOST, RETRIED = "error", "lost before", "interrupted, tried again"
LONGEST_ERROR = 1000


def import_optuna() -> Any:
    """Return the module `optuna`, silenced: what became of a trial is logged here.

    Raises:
        DataError: it is not installed.
    """
    optuna = import_optional("optuna", "optuna", "`tune`", extra="tune")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def study_url(folder: Path) -> str:
    """Return the URL of the storage in the folder of a search."""
    return f"sqlite:///{(folder / STUDY_FILE).resolve()}"


def shown_url(url: str) -> str:
    """Return the URL of a storage without its password.

    Args:
        url: such as `postgresql://USER:PASSWORD@HOST/DATABASE`.

    Raises:
        ConfigError: if it is no URL of a database.
    """
    import_optuna()
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError) as error:
        # The message would show the password.
        raise ConfigError(
            "--storage: expected the URL of a database, such as sqlite:////folder/trials.sqlite3 "
            "or postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from error


def open_study(plan: TuningPlan, url: str) -> Study:
    """Open the optuna study of a search, which is made if it is not there.

    Raises:
        ConfigError: if the storage cannot be reached.
    """
    optuna = import_optuna()
    from sqlalchemy.exc import SQLAlchemyError

    # Several processes write into one file.
    waiting = {"connect_args": {"timeout": SECONDS_FOR_A_LOCK}} if "sqlite" in url else {}
    own = plan.config({})
    try:
        study: Study = optuna.create_study(
            storage=optuna.storages.RDBStorage(url, engine_kwargs=waiting),
            pruner=optuna.pruners.MedianPruner(
                n_startup_trials=STARTUP_TRIALS,
                n_warmup_steps=FIRST_STEPS * own["eval_step"] - 1,
                n_min_trials=FEWEST_OTHERS,
            ),
            study_name=plan.study,
            direction="maximize" if own["valid_metric_bigger"] else "minimize",
            load_if_exists=True,
        )
    except (SQLAlchemyError, ImportError, ValueError, optuna.exceptions.OptunaError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"cannot open the storage {shown_url(url)}: {reason}") from error
    return study


def prepare_study(plan: TuningPlan, study: Study) -> None:
    """Give the first trial of a new study the model's own values, and close abandoned trials."""
    if not study.get_trials(deepcopy=False):
        own = plan.own_values()
        space = (dimension for dimension in plan.space if dimension.key in own)
        study.enqueue_trial({each.key: each.stored(own[each.key]) for each in space})
    close_abandoned(study)


def close_abandoned(study: Study, error: str | None = None) -> int:
    """Close the trials that no process works on any more, and queue their values again.

    Args:
        study: the study, on which no process works now.
        error: why their processes died. A trial that was queued again for such a death before is
            not queued once more; it counts as failed, with this reason.

    Returns:
        How many trials were still open.
    """
    states = import_optuna().trial.TrialState
    opened = study.get_trials(deepcopy=False, states=(states.RUNNING,))
    for trial in opened:
        if error and LOST in trial.user_attrs:
            study.set_user_attr(_fate(trial), error)
        study.tell(trial.number, state=states.FAIL)
    fates = study.user_attrs
    for trial in study.get_trials(deepcopy=False, states=(states.FAIL,)):
        if ERROR not in trial.user_attrs and _fate(trial) not in fates:
            # What a trial wrote is closed to changes when it has ended.
            study.set_user_attr(_fate(trial), RETRIED)
            values = trial.params or trial.system_attrs.get("fixed_params")
            if values:
                lost = bool(error) or LOST in trial.user_attrs
                study.enqueue_trial(values, user_attrs={LOST: True} if lost else None)
    return len(opened)


def _fate(trial: FrozenTrial) -> str:
    """Return under which name the study says what became of a trial that could not say it."""
    return f"trial {trial.number}"


def trial_error(study: Study, trial: FrozenTrial) -> str | None:
    """Return why a trial of a study failed; None if it did not, or was interrupted."""
    fate = study.user_attrs.get(_fate(trial))
    error = trial.user_attrs.get(ERROR, None if fate == RETRIED else fate)
    return None if error is None else str(error)


def counted_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials that count, in their order: not the interrupted ones."""
    states = import_optuna().trial.TrialState
    ended = study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED, states.FAIL))
    return [trial for trial in ended if trial.state != states.FAIL or trial_error(study, trial)]


def best_trial(study: Study) -> FrozenTrial | None:
    """Return the complete trial with the best score, the first of equals, or None."""
    return min(study.best_trials, key=lambda trial: trial.number, default=None)


def ask_trial(study: Study, seed: int, parallel: bool = False) -> Trial:
    """Return a new trial, which draws its values by TPE from a generator of its own.

    What trial n chooses depends on the seed, on n and on the trials that finished before it, not on
    the process that runs it.

    Args:
        parallel: whether several trials run at the same time; then they avoid each other's values.

    Source: Bergstra, Bardenet, Bengio, Kégl, "Algorithms for Hyper-Parameter Optimization",
    NeurIPS 2011.
    """
    trial = study.ask()
    study.sampler = import_optuna().samplers.TPESampler(
        seed=(seed * 1_000_003 + trial.number) % 2**32, constant_liar=parallel
    )
    return trial


def _asking_alone(url: str) -> AbstractContextManager[Any]:
    """Return a lock on a SQLite file; other databases lock the row of a trial themselves.

    SQLite does not: two processes that ask at the same moment both get the trial that waits.
    """
    from sqlalchemy.engine import make_url

    database = make_url(url).database if url.startswith("sqlite") else None
    return FileLock(f"{database}.lock") if database else nullcontext()


def run_trial(plan: TuningPlan, url: str, parallel: bool = False) -> int:
    """Run one trial of a search and write its result into the study; in any process.

    A training that fails is a failed trial, not a failure of the search.
    """
    optuna = import_optuna()
    study = open_study(plan, url)
    with _asking_alone(url):
        trial = ask_trial(study, plan.seed, parallel)
    values = {dimension.key: dimension.suggest(trial) for dimension in plan.space}
    score, error, state = None, None, None
    started = perf_counter()
    try:
        score = validation_score(plan.config(values), lambda *step: report_score(trial, *step))
        if score is None or score != score:
            error = f"the validation score is {score}"
    except optuna.TrialPruned:
        state = optuna.trial.TrialState.PRUNED
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"[:LONGEST_ERROR]
    trial.set_user_attr("seconds", perf_counter() - started)
    if error is not None:
        trial.set_user_attr(ERROR, error)
        score, state = None, optuna.trial.TrialState.FAIL
    study.tell(trial, score, state)
    gc.collect()
    return trial.number


def report_score(trial: Trial, step: int, score: float) -> None:
    """Tell the study a score of a trial, and end the training where the study says so.

    Raises:
        optuna.TrialPruned: the score is worse than those of the others.
    """
    trial.report(score, step)
    if trial.should_prune():
        raise import_optuna().TrialPruned


def validation_score(config: Config, report: Callable[[int, float], None]) -> float | None:
    """Train a model and return its best validation score, that of the last stage.

    Nothing is kept on disk, and the test interactions are never looked at.

    Args:
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


def log_trial(plan: TuningPlan, study: Study, number: int) -> None:
    """Log what came out of a trial and which one is the best so far."""
    trial, best = study.get_trials(deepcopy=False)[number], best_trial(study)
    values = ", ".join(
        f"{key} = {value:.4g}" if isinstance(value, float) else f"{key} = {value}"
        for key, value in trial.params.items()
    )
    error = trial_error(study, trial)
    result = f"FAILED, {error}" if error else "pruned"
    if trial.state.name == "COMPLETE":
        result = f"{trial.value:.4f}"
    logging.getLogger().warning(
        "Trial %d, %d of %d done: %s with %s%s",
        number,
        len(counted_trials(study)),
        plan.trials,
        result,
        values,
        "" if best is None else f"; best {best.value:.4f}, trial {best.number}",
    )
