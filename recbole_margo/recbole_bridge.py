"""The doors to stock RecBole: our models by name, and `load_data_and_model` for all checkpoints."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from logging import getLogger
from pathlib import Path
from types import ModuleType
from typing import Any

import recbole.trainer
from recbole.utils import init_logger, init_seed

from recbole_margo.checkpoint_file.fitting import load_into
from recbole_margo.checkpoint_file.schema import checked_config
from recbole_margo.compat import load_checkpoint
from recbole_margo.config import Config
from recbole_margo.data.protocol import load_and_split, split_fingerprint
from recbole_margo.errors import CheckpointError, ConfigError, DatasetNotFoundError
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.registry import OURS, find_model, multimodal_models
from recbole_margo.run_folder import find_folder, with_current_paths
from recbole_margo.training.checkpoint import SPLIT_FINGERPRINT, id_maps
from recbole_margo.training.trainer import MultimodalTrainer


def register() -> None:
    """Make the multimodal models known to RecBole itself.

    Afterwards `recbole.quick_start.run_recbole(model="MARGO")`, `Config(model="MARGO")`,
    `get_model`, `get_trainer` and `load_data_and_model` work unchanged. RecBole finds a model by
    the name of a module in its own packages and a trainer by an attribute of `recbole.trainer`, so
    that is what is added; a model that RecBole has itself is left alone. May be called repeatedly.
    """
    for entry in multimodal_models().values():
        try:
            model_class = entry.load()
        except ConfigError as error:
            if entry.source == OURS:
                raise
            getLogger(__name__).warning("%s", error)
            continue
        module_name = f"recbole.model.general_recommender.{entry.name.lower()}"
        module = _module_with(model_class, entry.name)
        known = module_name in sys.modules and sys.modules[module_name] is module
        if known or importlib.util.find_spec(module_name) is None:
            sys.modules[module_name] = module
            if issubclass(model_class, MultimodalRecommender):
                setattr(recbole.trainer, f"{entry.name}Trainer", MultimodalTrainer)


def _module_with(model_class: type[Any], name: str) -> ModuleType:
    """Return a module that has a class under a name: its own or, under another name, a new one."""
    module = sys.modules[model_class.__module__]
    if getattr(module, name, None) is not model_class:
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)  # RecBole asks whether there is one
        setattr(module, name, model_class)
    return module


def load_data_and_model(model_file: str, trust_checkpoint: bool | None = None) -> Any:
    """Load a dataset and the model that was trained on it, as RecBole's function does.

    Split, masking and candidates are those of the run.

    Args:
        model_file: a checkpoint of RecBole's trainers or of ours.
        trust_checkpoint: whether to load any pickle, see `load_checkpoint`.

    Returns:
        Config, model, dataset, and the loaders of training, validation and test data.

    Raises:
        CheckpointError: if the file cannot be loaded safely, or the data are not those of the run.
        DatasetNotFoundError: if the data are not there.
    """
    return load_silently(model_file, trust_checkpoint, _logger)


def load_silently(
    model_file: str | Path,
    trust_checkpoint: bool | None = None,
    logger_of: Callable[[Any], Any] | None = None,
) -> Any:
    """Do what `load_data_and_model` does without telling config and dataset.

    Args:
        logger_of: returns of a config the logger that they are told to all the same.
    """
    path = Path(model_file)
    checkpoint = load_checkpoint(path, map_location="cpu", trust=trust_checkpoint)
    config, stored_split = _config_of(checkpoint, path)
    logger = logger_of(config) if logger_of else None
    if logger is not None:
        logger.info(config)
    try:
        dataset, loaders = load_and_split(config)
    except DatasetNotFoundError as error:
        raise DatasetNotFoundError(
            f"{path} was trained on data that are missing: {error}"
        ) from error
    if logger is not None:
        logger.info(dataset)
    _check_data(path, checkpoint, stored_split, loaders)
    init_seed(config["seed"], config["reproducibility"])
    model = config.model_class(config, loaders[0]._dataset).to(config["device"])
    _check_features(path, checkpoint, model)
    parameters, others = checkpoint.get("state_dict"), checkpoint.get("other_parameter")
    load_into(model, parameters, others, path)
    return (config, model, dataset, *loaders)


def _config_of(checkpoint: dict[str, Any], path: Path) -> tuple[Any, str | None]:
    """Return the config of a checkpoint on this machine, and the fingerprint of its split."""
    stored = checked_config(checkpoint, path)
    if isinstance(stored, dict):
        values = with_current_paths(stored, path.parent)
        return Config.from_plain(values), stored.get(SPLIT_FINGERPRINT)
    if getattr(stored, "model_class", None) is None:
        stored.model_class = find_model(stored["model"])
    # RecBole's config names the folder of the dataset itself.
    folder = Path(stored["data_path"])
    found = find_folder(folder.parent, folder.name, path.parent) / folder.name
    stored["data_path"] = str(found)
    return stored, stored[SPLIT_FINGERPRINT]


def _logger(config: Any) -> Any:
    """Return the logger, which writes files in the working directory where that can be written."""
    logger = getLogger()
    # RecBole opens a file each time, which a logger that has its handlers never takes nor closes.
    if not logger.handlers:
        try:
            init_logger(config)
        except OSError as error:
            logger.warning("no log file: %s", error)
    return logger


def _check_data(
    path: Path, checkpoint: dict[str, Any], stored_split: str | None, loaders: tuple[Any, ...]
) -> None:
    """Refuse data that are not those of the run, by what a checkpoint says of them."""
    train = loaders[0]._dataset
    remedy = (
        f"{path} was trained on other data than those in {train.config['data_path']}: put the "
        "files back, and leave the keys of the dataset's YAML file as they were, or train again"
    )
    present = id_maps(train)
    for name, found in present.items():
        expected = checkpoint.get(name)
        if expected is not None and list(expected) != found:
            what = name.replace("_", " ")
            raise CheckpointError(
                f"expected the {len(expected) - 1} {what} of the run in their order, found "
                f"{len(found) - 1}, {_first_difference(expected, found)}; {remedy}"
            )
    for split, now in (
        (stored_split, split_fingerprint(*loaders)),
        (checkpoint.get("split"), split_fingerprint(loaders[0])),
    ):
        if split is not None and split != now:
            raise CheckpointError(
                f"expected the interactions of the run (split {split}), found others ({now}); "
                f"{remedy}"
            )


def _first_difference(expected: list[str], found: list[str]) -> str:
    for place, (one, other) in enumerate(zip(expected, found, strict=False)):
        if one != other:
            return f"with {other!r} in the place {place} of {one!r}"
    return "the others missing or new"


def _check_features(path: Path, checkpoint: dict[str, Any], model: Any) -> None:
    expected = checkpoint.get("feature_checksums")
    found = getattr(model, "feature_checksums", None)
    if expected is not None and found is not None and expected != found:
        changed = sorted(
            name for name in {*expected, *found} if expected.get(name) != found.get(name)
        )
        raise CheckpointError(
            f"{path}: expected the features that the model was trained on, found others of "
            f"{', '.join(changed)}: put the files back, or train again"
        )
