"""RecBole's configuration, made strict and given the shipped values of this project."""

from __future__ import annotations

import copy
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import recbole.config
import recbole.utils.argument_list
from recbole.utils import ModelType, get_trainer

from recbole_margo.checkpoint_file.schema import is_plain
from recbole_margo.data.protocol import FILTERS
from recbole_margo.defaults import YamlLoader, read_dataset_yaml, read_yaml, shipped_values
from recbole_margo.errors import ConfigError
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.model.parameters import model_defaults
from recbole_margo.recbole_closures import refuse_stored_pickles
from recbole_margo.registry import find_model, find_stored_model
from recbole_margo.rules import close_names
from recbole_margo.settings.checks import (
    check_effects,
    check_values,
    load_needed_columns,
    record_what_files_fix,
)
from recbole_margo.settings.processes import ProcessGroup
from recbole_margo.settings.table import measures_values

# Values by key, as YAML files and command lines give them; RecBole leaves open which.
Settings: TypeAlias = Mapping[str, Any]
PROTOCOLS = ("recbole", "mmrec")
# Keys that RecBole reads although none of its YAML files names them.
KEYS_WITHOUT_YAML = frozenset(
    {
        "data_path",
        "nproc",
        "world_size",
        "ip",
        "port",
        "offset",
        "group_offset",
        "neg_sampling",
        "training_neg_sample_num",
        "numerical_features",
        "discretization",
        "tail_ratio",
    }
)
# Key of a model that is neither ours nor RecBole's: `module:class`.
MODEL_REFERENCE = "model_reference"
# What RecBole computes from other keys; never stored, because it would not be accepted as input.
COMPUTED_KEYS = frozenset(
    {
        "MODEL_TYPE",
        "MODEL_INPUT_TYPE",
        "eval_type",
        "device",
        "single_spec",
        "local_rank",
        "valid_metric_bigger",
        "valid_neg_sample_args",
        "test_neg_sample_args",
    }
)
# What is used in the place of what was given: defaults for what a nested mapping leaves out, the
# columns that other settings need, nothing where files fix the split.
RESOLVED_KEYS = (
    "eval_args",
    "load_col",
    "metrics",
    "topk",
    *FILTERS,
)


class Config(recbole.config.Config):  # type: ignore[misc]
    """RecBole's `Config` that refuses what it does not know.

    Values come, the later the stronger, from RecBole's own YAML files, `properties/overall.yaml`,
    what the model comes with (`model_defaults`), `properties/dataset/<dataset>.yaml`,
    `<dataset>.yaml` in the dataset's folder (which may only describe data), `config_file_list` and
    `config_dict`. The command line is never read here and no text is ever evaluated as code.

    Args:
        model: name of a model, ours or RecBole's, or a model class.
        dataset: name of a dataset.
        config_file_list: YAML files.
        config_dict: values by key.
        stored: whether `config_dict` are the values of a run that has begun. Those hold defaults
            and what was used in the place of what was asked for, so that they are taken as they
            are.

    Raises:
        ConfigError: if a key is unknown (names the nearest), a value is not one that the key can
            have or would be without effect, or a file cannot be read.
    """

    def __init__(
        self,
        model: str | type[Any],
        dataset: str,
        config_file_list: list[str] | None = None,
        config_dict: dict[str, Any] | None = None,
        *,
        stored: bool = False,
    ) -> None:
        if not isinstance(dataset, str) or not re.fullmatch(r"[\w.+-]+", dataset):
            raise ConfigError(
                f"`dataset` must be the name of a folder in data_path, found {dataset!r}"
            )
        self._stored = stored
        super().__init__(model, dataset, config_file_list, config_dict)
        # RecBole pickles its config into checkpoints; a reader of YAML has no business there.
        del self.yaml_loader, self._stored
        # RecBole's trainers pickle it, and a run is loaded from other working directories too.
        self.final_config_dict["data_path"] = str(Path(self["data_path"]).absolute())
        self._check_values()
        if not stored:
            check_effects(self)
        load_needed_columns(self)
        record_what_files_fix(self)
        if issubclass(self.model_class, MultimodalRecommender):
            self.model_class.parameters_class.from_config(self, self.model_class)

    def _build_yaml_loader(self) -> type[YamlLoader]:
        return YamlLoader

    def _load_config_files(self, file_list: list[str] | None) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for file in file_list or []:
            values.update(read_yaml(Path(file)))
        return values

    def _load_variable_config_dict(self, config_dict: dict[str, Any] | None) -> dict[str, Any]:
        # RecBole fills what nested mappings leave out; those of the caller stay as they are.
        return copy.deepcopy(dict(config_dict or {}))

    def _load_cmd_line(self) -> dict[str, Any]:
        return {}

    def _get_model_and_dataset(
        self, model: str | type[Any], dataset: str
    ) -> tuple[str, type[Any], str]:
        model_class = find_model(model) if isinstance(model, str) else model
        return model_class.__name__, model_class, dataset

    def _load_internal_config_dict(self, model: str, model_class: type[Any], dataset: str) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        data_path = self.external_config_dict.get(
            "data_path", self.internal_config_dict["data_path"]
        )
        own_yaml = Path(data_path) / dataset / f"{dataset}.yaml"
        of_dataset = shipped_values(f"dataset/{dataset}.yaml")
        of_dataset.update(of_dataset.pop("models", {}).get(model, {}))
        if own_yaml.exists():
            of_dataset.update(read_dataset_yaml(own_yaml))
        if model_class.type not in (ModelType.GENERAL, ModelType.TRADITIONAL):
            # RecBole chose the columns that context, sequential and knowledge models need.
            of_dataset.pop("load_col", None)
        of_model = model_defaults(model_class)
        of_all = shipped_values("overall.yaml")
        if measures_values(self.internal_config_dict["metrics"]):
            # RecBole compares the scores of context-aware models with labels: no ranking, no cut.
            for values in (of_all, of_dataset):
                values.pop("metrics", None)
                values.pop("valid_metric", None)
        self.internal_config_dict.update(of_all)
        self.internal_config_dict.update(of_model)
        self.internal_config_dict.update(of_dataset)
        if not getattr(model_class, "uses_negatives", True):
            self.internal_config_dict["train_neg_sample_args"] = None

    def _get_final_config_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = super()._get_final_config_dict()
        is_sequential = self.model_class.type == ModelType.SEQUENTIAL
        if is_sequential and values.get("loss_type") == "CE":
            # The loss is over all items, and RecBole refuses its own default for negatives.
            self.internal_config_dict["train_neg_sample_args"] = None
            values["train_neg_sample_args"] = self.external_config_dict.get("train_neg_sample_args")
        self._check_keys()
        if not self._stored:
            check_values(values)
        return values

    def _check_keys(self) -> None:
        known = known_keys(self.model_class, self.internal_config_dict)
        for key in self.external_config_dict:
            if key in known:
                continue
            nearest = close_names(key, sorted(known))
            hint = f"did you mean {' or '.join(nearest)}?" if nearest else "no key is similar"
            raise ConfigError(f"unknown key `{key}` for model {self.model}: {hint}")

    def _check_values(self) -> None:
        refuse_stored_pickles(self.final_config_dict)
        for key, value in self.external_config_dict.items():
            default = self.internal_config_dict.get(key)
            is_number = isinstance(default, (int, float)) and not isinstance(default, bool)
            if is_number and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise ConfigError(f"`{key}` must be a number such as {default}, found {value!r}")
            if isinstance(default, bool) and not isinstance(value, bool):
                raise ConfigError(f"`{key}` must be true or false, found {value!r}")
        ProcessGroup.of_config(self)
        if self.final_config_dict["eval_protocol"] not in PROTOCOLS:
            raise ConfigError(
                f"`eval_protocol` must be one of {list(PROTOCOLS)}, "
                f"found {self.final_config_dict['eval_protocol']!r}"
            )

    def _set_default_parameters(self) -> None:
        try:
            super()._set_default_parameters()
        except (NotImplementedError, ValueError, TypeError, RuntimeError) as error:
            raise ConfigError(str(error)) from error

    def _init_device(self) -> None:
        if not self.final_config_dict["use_gpu"]:
            self.final_config_dict["gpu_id"] = ""
        super()._init_device()

    def as_plain(self) -> dict[str, Any]:
        """Return the values as plain data, from which `from_plain` rebuilds an equal config.

        `Config.as_plain(config)` takes a config of RecBole as well.
        """
        values = {**self.internal_config_dict, **self.external_config_dict}
        for key, value in self.final_config_dict.items():
            # What a model filled from its defaults stands in the final values alone.
            if values.get(key) is None or key in RESOLVED_KEYS:
                values[key] = value
        data_path = self.external_config_dict.get(
            "data_path", self.internal_config_dict["data_path"]
        )
        values.update(
            model=self["model"],
            dataset=self["dataset"],
            # A run is loaded from other working directories too.
            data_path=str(Path(data_path).absolute()),
            checkpoint_dir=str(self["checkpoint_dir"]),
        )
        if isinstance(values.get("feature_path"), str):
            values["feature_path"] = str(Path(values["feature_path"]).absolute())
        found = self.model_class
        if found.__module__.partition(".")[0] not in ("recbole_margo", "recbole"):
            values[MODEL_REFERENCE] = f"{found.__module__}:{found.__qualname__}"
        return {
            key: value
            for key, value in values.items()
            if key not in COMPUTED_KEYS and is_plain(value)
        }

    @classmethod
    def from_plain(cls, values: Mapping[str, Any], model_class: type[Any] | None = None) -> Config:
        """Rebuild the config whose `as_plain` gave the values.

        Args:
            model_class: class of the model; none: the one that the values name.

        Returns:
            The config, on the device that this machine has.

        Raises:
            ConfigError: if the model is in a module of its own that has not been imported.
        """
        settings = dict(values)
        model, dataset = settings.pop("model"), settings.pop("dataset")
        found = model_class or find_stored_model(model, settings.pop(MODEL_REFERENCE, None))
        known = known_keys(found, cls(found, dataset, stored=True).internal_config_dict)
        settings = {key: value for key, value in settings.items() if key in known}
        if (settings.get("train_neg_sample_args") or {}).get("distribution") == "none":
            # RecBole writes "no negatives" in a form that it does not read.
            settings["train_neg_sample_args"] = None
        return cls(found, dataset, config_dict=settings, stored=True)


def known_keys(model_class: type[Any], internal: dict[str, Any]) -> set[str]:
    """Return every key that means something to a model.

    Args:
        internal: the defaults that were found for it.

    Returns:
        Keys of all defaults, of RecBole's argument lists, of the typed hyper-parameters, and for
        RecBole's models those that the model's own source reads from its config.
    """
    lists = vars(recbole.utils.argument_list)
    keys = set(internal) | KEYS_WITHOUT_YAML
    for name in ("general_arguments", "training_arguments", "evaluation_arguments"):
        keys.update(lists[name])
    keys.update(lists["dataset_arguments"])
    if issubclass(model_class, MultimodalRecommender):
        keys.update(model_class.parameters_class.descriptions())
    else:
        source = inspect.getsource(sys.modules[model_class.__module__])
        if model_class.type == ModelType.DECISIONTREE:  # those are read by the trainer alone
            source += inspect.getsource(get_trainer(model_class.type, model_class.__name__))
        keys.update(re.findall(r"""config\[["'](\w+)["']\]""", source))
    return keys - COMPUTED_KEYS
