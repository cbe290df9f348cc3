"""The plan of a comparison: entries and seeds on one split; MARGO's ablations; labels of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from recbole_margo.config import Config, Settings
from recbole_margo.data.features import modality_names
from recbole_margo.errors import CheckpointError, ConfigError
from recbole_margo.settings.processes import check_other_machines
from recbole_margo.store.plain import from_plain
from recbole_margo.store.reading import read_json
from recbole_margo.studies.runs.entry import Entry, build_configs
from recbole_margo.studies.runs.run_many import Job
from recbole_margo.studies.runs.trained_run import TrainedRun, find_runs

PLAN_FILE = "comparison-plan.json"
FULL_MODEL = "MARGO"
SUM, MEAN = "w/o weight", "w/o weight, mean"
ABLATIONS: dict[str, Settings] = {
    SUM: {"item_weights": False},
    "w/o L_cal": {"alpha": 0.0},
    "w/o two-stage": {"two_stage": False},
    "w/o nograd": {"stop_gradient": False},
}

Kind = TypeVar("Kind", bound="ComparisonPlan")


@dataclass(frozen=True)
class ComparisonPlan:
    """A comparison: every entry is trained with every seed on the same split.

    Args:
        reference: label of the entry that the others are tested against.
        settings: values by key, for every entry that knows them.
    """

    entries: tuple[Entry, ...]
    dataset: str
    seeds: tuple[int, ...]
    reference: str
    settings: Settings = field(default_factory=dict)

    @classmethod
    def of(
        cls: type[Kind],
        entries: Sequence[Entry],
        dataset: str = "ml-100k",
        seeds: Sequence[int] = (1, 2, 3),
        settings: Settings | None = None,
        reference: str | None = None,
    ) -> Kind:
        """Return the plan of a comparison whose reference is the first entry if none is named."""
        reference = reference or next((entry.label for entry in entries), "")
        return cls(tuple(entries), dataset, tuple(seeds), reference, settings or {})

    def check(self) -> None:
        """Raise a `RecBoleMargoError` on bad input."""
        whole = all(type(seed) is int for seed in self.seeds)
        if not self.seeds or not whole or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"`seeds` must be different whole numbers, found {list(self.seeds)}")
        labels = [entry.label for entry in self.entries]
        if self.reference not in labels:
            raise ConfigError(
                f"`reference` must be one of {', '.join(labels)}, found {self.reference!r}"
            )
        if "seed" in self.settings:
            raise ConfigError(
                "a comparison takes its seeds from `seeds`; name the split's with `split_seed`"
            )
        self._configs(self.seeds[0])

    def jobs(self, root: Path) -> list[Job]:
        """Return the runs of a comparison in a folder, seed by seed."""
        return [
            Job(entry.label, configs[entry.label], entry.run_folder(root, seed))
            for seed, configs in ((seed, self._configs(seed)) for seed in self.seeds)
            for entry in self.entries
        ]

    def _configs(self, seed: int) -> dict[str, Config]:
        """Return config by label. Without a `split_seed` RecBole's own seed splits for all."""
        settings = {**self.settings, "seed": seed}
        if self.entries and "split_seed" not in settings:
            settings["split_seed"] = Config(self.entries[0].model, self.dataset)["seed"]
        configs = build_configs(self.entries, self.dataset, settings)
        for config in configs.values():
            check_other_machines(config.external_config_dict, {}, "the plan of many runs")
        return configs


def ablation_entries(dataset: str, settings: Settings) -> list[Entry]:
    """Return MARGO, its ablations, MARGO on each single modality, and DRAGON.

    `w/o weight` sums what MARGO's weights average, so that its loss sees larger scores. `w/o
    weight, mean` is the control: the sum divided by the number of modalities inside the loss.

    Args:
        settings: values by key that all share; `modalities` among them says which there are.

    Returns:
        The entries, MARGO first. With one modality there are none of single modalities.

    Source: MARGO (arXiv 2504.16524), Table IV.
    """
    config = Config(FULL_MODEL, dataset, config_dict=dict(settings))
    modalities = modality_names(config)
    entries = Entry.of_models([FULL_MODEL])
    switches = dict(ABLATIONS)
    if len(modalities) > 1:
        switches[MEAN] = {**switches[SUM], "score_scale": config["score_scale"] / len(modalities)}
    entries += [Entry(label, FULL_MODEL, switch) for label, switch in switches.items()]
    if len(modalities) > 1:
        entries += [
            Entry(f"{FULL_MODEL} {modality}", FULL_MODEL, {"modalities": [modality]})
            for modality in modalities
        ]
    return entries + Entry.of_models(["DRAGON"])


def labelled_runs(folder: str | Path) -> list[tuple[str, TrainedRun]]:
    """Return the finished runs of a folder with their labels, such as `w/o nograd`.

    Args:
        folder: as in `find_runs`.

    Raises:
        CheckpointError: if there is no run, or the comparison's plan is damaged.
    """
    root = Path(folder)
    runs = find_runs(root)
    labels: dict[str, str] = {}
    path = root / PLAN_FILE
    if path.is_file():
        try:
            plan = from_plain(ComparisonPlan, read_json(path))
            labels = {entry.folder: entry.label for entry in plan.entries}
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise CheckpointError(f"{path} is not the plan of a comparison: {error}") from error
    return [(labels.get(run.label) or label_of(run), run) for run in runs]


def label_of(run: TrainedRun) -> str:
    """Return what a run of MARGO is called in tables: the name of its ablation, or its folder's."""
    ablations = {Entry(label, FULL_MODEL).folder: label for label in ABLATIONS}
    if run.model_name != FULL_MODEL or run.label != FULL_MODEL:
        return ablations.get(run.label, run.label)
    settings = run.result.hyperparameters
    switched = [
        label
        for label, switch in ABLATIONS.items()
        if all(settings[key] == value for key, value in switch.items())
    ]
    return ", ".join(switched) or FULL_MODEL
