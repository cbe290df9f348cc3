"""The study of a search: where its trials are kept, and which of them count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_margo.errors import ConfigError
from recbole_margo.studies.tuning.libraries import import_optuna
from recbole_margo.studies.tuning.plan import TuningPlan
from recbole_margo.studies.tuning.trial_sampler import trial_sampler

STUDY_FILE = "study.sqlite3"
# Validations before a trial can be pruned, trials that never are, and how many complete trials must
# have come as far to be a median.
FIRST_STEPS, STARTUP_TRIALS, FEWEST_OTHERS = 10, 5, 3
SECONDS_FOR_A_LOCK = 120
ERROR, RETRIED = "error", "interrupted, tried again"


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


def open_study(plan: TuningPlan, url: str, parallel: bool = False) -> Any:
    """Open the study of a search, which is made if it is not there.

    Args:
        plan: the search.
        url: of its storage.
        parallel: whether several trials run at the same time.

    Returns:
        An `optuna.Study`.

    Raises:
        ConfigError: if the storage cannot be reached.
    """
    optuna = import_optuna()
    from sqlalchemy.exc import SQLAlchemyError

    # Several processes write into one file.
    waiting = {"connect_args": {"timeout": SECONDS_FOR_A_LOCK}} if "sqlite" in url else {}
    own = plan.config({})
    try:
        return optuna.create_study(
            storage=optuna.storages.RDBStorage(url, engine_kwargs=waiting),
            sampler=trial_sampler(plan.seed, parallel),
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


def prepare_study(plan: TuningPlan, study: Any) -> None:
    """Bring a study into a state from which trials can be run.

    The first trial of a new study gets the model's own values. A trial that an interruption or a
    kill left behind is closed, and its values are tried again.

    Args:
        plan: the search.
        study: its study, on which no process works now.
    """
    if not study.get_trials(deepcopy=False):
        own = plan.own_values()
        study.enqueue_trial(
            {
                dimension.key: dimension.stored(own[dimension.key])
                for dimension in plan.space
                if dimension.key in own
            }
        )
    close_abandoned(study)


def close_abandoned(study: Any, error: str | None = None) -> int:
    """Close the trials that no process works on any more.

    Args:
        study: the study, on which no process works now.
        error: why they ended, if that is to count as a failure; otherwise their values are tried
            again.

    Returns:
        How many trials were still open.
    """
    states = import_optuna().trial.TrialState
    opened = study.get_trials(deepcopy=False, states=(states.RUNNING,))
    for trial in opened:
        if error is not None:
            study.set_user_attr(_fate(trial), error)
        study.tell(trial.number, state=states.FAIL)
    fates = study.user_attrs
    for trial in study.get_trials(deepcopy=False, states=(states.FAIL,)):
        if ERROR not in trial.user_attrs and _fate(trial) not in fates:
            # What a trial wrote is closed to changes when it has ended.
            study.set_user_attr(_fate(trial), RETRIED)
            values = trial.params or trial.system_attrs.get("fixed_params")
            if values:
                study.enqueue_trial(values)
    return len(opened)


def _fate(trial: Any) -> str:
    """Return under which name the study says what became of a trial that could not say it."""
    return f"trial {trial.number}"


def trial_error(study: Any, trial: Any) -> str | None:
    """Return why a trial failed; none if it did not, or was interrupted.

    Args:
        study: the study.
        trial: one of its trials.
    """
    fate = study.user_attrs.get(_fate(trial))
    error = trial.user_attrs.get(ERROR, None if fate == RETRIED else fate)
    return None if error is None else str(error)


def counted_trials(study: Any) -> list[Any]:
    """Return the trials that count: complete, pruned and failed ones, not interrupted ones.

    Args:
        study: the study.

    Returns:
        Its `optuna.trial.FrozenTrial`s in their order.
    """
    states = import_optuna().trial.TrialState
    ended = study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED, states.FAIL))
    return [trial for trial in ended if trial.state != states.FAIL or trial_error(study, trial)]


def best_trial(study: Any) -> Any | None:
    """Return the complete trial with the best validation score, the first of equals, or none.

    Args:
        study: the study.
    """
    optuna = import_optuna()
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if not complete:
        return None
    sign = 1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1
    return max(complete, key=lambda trial: (sign * trial.value, -trial.number))
