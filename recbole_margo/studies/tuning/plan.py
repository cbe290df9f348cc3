"""What a search is to do: written down before it begins, read again when it is resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recbole_margo.config import Config
from recbole_margo.errors import CheckpointError, ConfigError
from recbole_margo.run import write_json
from recbole_margo.settings.processes import check_other_machines
from recbole_margo.store.reading import read_json
from recbole_margo.studies.runs.entry import Entry, build_configs, require_part
from recbole_margo.studies.tuning.search_space import Dimension, search_space

PLAN = "tuning-plan.json"


@dataclass(frozen=True)
class TuningPlan:
    """A search for the hyper-parameters of one model on one dataset.

    Args:
        model: name of the model.
        dataset: name of the dataset.
        settings: values by key that all trials share.
        space: what the trials choose from.
        trials: how many trials.
        seed: of the sampler and of the training of every trial.
        seeds: seeds of the final training with the best values.
        study: name of the optuna study.
        storage: where another storage than the folder's own is, without its password.
    """

    model: str
    dataset: str
    settings: Mapping[str, Any]
    space: tuple[Dimension, ...]
    trials: int
    seed: int
    seeds: tuple[int, ...]
    study: str
    storage: str | None = None

    @classmethod
    def make(
        cls,
        model: str,
        dataset: str,
        settings: Mapping[str, Any],
        *,
        over: Sequence[str] = (),
        own_space: Sequence[str] = (),
        trials: int = 20,
        seeds: Sequence[int] = (),
        study: str = "tune",
        storage: str | None = None,
    ) -> TuningPlan:
        """Check what was asked for, every end of every range included.

        Args:
            model: name of the model.
            dataset: name of the dataset.
            settings: values by key; `seed` among them is the search's.
            over: keys to search, see `search_space`.
            own_space: ranges of the user's, see `search_space`.
            trials: how many trials.
            seeds: seeds of the final training; none: the search's.
            study: name of the optuna study.
            storage: where another storage than the folder's own is, without its password.

        Raises:
            RecBoleMargoError: if a trial could not run with what the space holds.
        """
        shared = {key: value for key, value in settings.items() if key != "seed"}
        own = build_configs([Entry(model, model)], dataset, settings)[model]
        plan = cls(
            model=own["model"],
            dataset=dataset,
            # By the same rule as in `compare`, so that both have one split.
            settings={"split_seed": Config(model, dataset)["seed"], **shared},
            space=tuple(search_space(own, over, own_space)),
            trials=trials,
            seed=own["seed"],
            seeds=tuple(seeds) or (own["seed"],),
            study=study,
            storage=storage,
        )
        plan._check(own)
        return plan

    def _check(self, own: Config) -> None:
        if type(self.trials) is not int or self.trials < 1:
            raise ConfigError(f"--trials must be a positive whole number, found {self.trials!r}")
        whole = all(type(seed) is int for seed in self.seeds)
        if not whole or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"--seeds must be different whole numbers, found {list(self.seeds)}")
        require_part(own, "valid", "a search")
        for dimension in self.space:
            for value in dimension.ends():
                self.config({dimension.key: value})

    def config(self, values: Mapping[str, Any]) -> Config:
        """Return the config of a trial.

        Args:
            values: what the trial chose, by key.
        """
        settings = {**self.settings, **values, "seed": self.seed}
        config = Config(self.model, self.dataset, config_dict=settings)
        check_other_machines(config.external_config_dict, {}, "the plan of the search")
        return config

    def own_values(self) -> dict[str, Any]:
        """Return the model's own values of what is searched, where they lie in the space."""
        config = self.config({})
        return {
            dimension.key: config[dimension.key]
            for dimension in self.space
            if dimension.contains(config[dimension.key])
        }

    def write(self, folder: Path) -> None:
        """Write the plan into the folder of the search."""
        space = [dimension.as_plain() for dimension in self.space]
        write_json(folder / PLAN, {**asdict(self), "space": space})

    @classmethod
    def read(cls, folder: Path) -> TuningPlan:
        """Read the plan of a folder.

        Raises:
            CheckpointError: if the folder holds no search.
        """
        try:
            values = read_json(folder / PLAN)
            space = tuple(Dimension.from_plain(one) for one in values["space"])
            return cls(**{**values, "space": space, "seeds": tuple(values["seeds"])})
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{folder} does not hold a search that can be resumed: {error}"
            ) from error
