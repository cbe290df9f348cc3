"""How a trial draws its values, so that the same search draws the same ones."""

from __future__ import annotations

from typing import Any

from recbole_margo.studies.tuning.libraries import import_optuna


def trial_sampler(seed: int, parallel: bool = False) -> Any:
    """Return an optuna sampler that draws by TPE, each trial from a generator of its own.

    What trial n chooses depends on the seed, on n and on the trials that finished before it, not on
    the process that runs it.

    Args:
        seed: of the search.
        parallel: whether several trials run at the same time; then they avoid each other's values.

    Returns:
        An `optuna.samplers.BaseSampler`.

    Source: Bergstra, Bardenet, Bengio, Kégl, "Algorithms for Hyper-Parameter Optimization",
    NeurIPS 2011.
    """
    optuna = import_optuna()

    class TrialSampler(optuna.samplers.BaseSampler):  # type: ignore[misc, name-defined]
        """Hands every call to a `TPESampler` that is made anew for each trial."""

        def __init__(self) -> None:
            self._of_trial = optuna.samplers.TPESampler(seed=seed)

        def before_trial(self, study: Any, trial: Any) -> None:
            self._of_trial = optuna.samplers.TPESampler(
                seed=(seed * 1_000_003 + trial.number) % 2**32, constant_liar=parallel
            )
            self._of_trial.before_trial(study, trial)

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            return self._of_trial.infer_relative_search_space(study, trial)

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
            return self._of_trial.sample_relative(study, trial, search_space)

        def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
            return self._of_trial.sample_independent(study, trial, name, distribution)

        def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
            self._of_trial.after_trial(study, trial, state, values)

    return TrialSampler()
