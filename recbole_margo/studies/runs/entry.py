"""An entry of a comparison: a model with settings, and the parts its data must have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbole_margo.config import Config, Settings, known_keys
from recbole_margo.data.features import check_features
from recbole_margo.data.protocol import check_dataset
from recbole_margo.defaults import read_yaml
from recbole_margo.errors import ConfigError
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.run import load_split
from recbole_margo.studies.wording import PART_NAMES


@dataclass(frozen=True)
class Entry:
    """A model with settings of its own.

    Args:
        label: its name in tables, unique in a comparison.
        settings: values by key that only this entry has.
    """

    label: str
    model: str
    settings: Settings = field(default_factory=dict)

    @classmethod
    def of_models(cls, models: Sequence[str]) -> list[Entry]:
        """Return one entry per model, of the model's name."""
        return [cls(name, name) for name in models]

    @property
    def folder(self) -> str:
        """The label as a folder's name."""
        return re.sub(r"[^\w.+-]+", "-", self.label).strip("-")

    def run_folder(self, root: Path, seed: int) -> Path:
        """Return the folder of one run in the folder of a comparison."""
        return root / f"seed-{seed}" / self.folder


def merged_settings(config_files: Sequence[str] | None, config_dict: Settings | None) -> Settings:
    """Return the values of YAML files, the later the stronger, and above them those given."""
    settings: dict[str, Any] = {}
    for file in config_files or []:
        settings.update(read_yaml(Path(file)))
    settings.update(config_dict or {})
    return settings


def build_configs(entries: Sequence[Entry], dataset: str, settings: Settings) -> dict[str, Config]:
    """Build the config of every entry before anything is trained.

    A value of `settings` goes to every model that knows its key; an entry's own settings are the
    stronger.

    Raises:
        RecBoleMargoError: if there is no entry, two share a label or a folder, or a model, a key, a
            value or the dataset is not there.
    """
    if not entries:
        raise ConfigError("name at least one model")
    folders = [entry.folder for entry in entries]
    twice = sorted({entry.label for entry in entries if folders.count(entry.folder) > 1})
    if twice:
        raise ConfigError(f"models of a comparison need different names, found {', '.join(twice)}")
    keys = {}
    for model in dict.fromkeys(entry.model for entry in entries):
        defaults = Config(model, dataset)
        keys[model] = known_keys(defaults.model_class, defaults.internal_config_dict)
    configs = {}
    for entry in entries:
        of_others = {key for model in keys if model != entry.model for key in keys[model]}
        taken = {
            key: value
            for key, value in settings.items()
            if key in keys[entry.model] or key not in of_others
        }
        configs[entry.label] = Config(entry.model, dataset, config_dict={**taken, **entry.settings})
        check_dataset(configs[entry.label])
        if issubclass(configs[entry.label].model_class, MultimodalRecommender):
            check_features(configs[entry.label])
    return configs


def require_part(config: Config, part: str, study: str) -> None:
    """Refuse a study on data whose split leaves a part empty that it cannot do without.

    Args:
        study: what it is called, with its article.

    Raises:
        ConfigError: if no interaction falls into the part, or validation is switched off.
    """
    name = PART_NAMES[part]
    if part == "valid" and config["eval_step"] < 1:
        raise ConfigError(
            f"{study} needs validation: `eval_step` must be at least 1, found {config['eval_step']}"
        )
    sizes = dict(zip(("train", *PART_NAMES), map(_size, load_split(config)), strict=True))
    if sizes[part]:
        return
    found = " / ".join(map(str, sizes.values()))
    files = config["benchmark_filename"]
    how = f"the files {', '.join(files)}" if files else f"`eval_args`, {config['eval_args']}"
    raise ConfigError(
        f"{study} needs a {name} part: {how} leave no interaction for it, found {found} (train / "
        "valid / test); choose a split that does"
    )


def _size(loader: object) -> int:
    return len(loader._dataset)  # type: ignore[attr-defined]
