"""RecBole's own functions, made to deal with this project's models, datasets and checkpoints.

Importing this module imports neither torch nor RecBole.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recbole_margo.compat import QUICK_START, Mend
from recbole_margo.defaults import read_dataset_yaml
from recbole_margo.errors import UnknownModelError
from recbole_margo.rules import close_names


def get_model_with_advice(get_model: Callable[[str], type[Any]]) -> Callable[[str], type[Any]]:
    """Return RecBole's `get_model` whose error says what to do about a name.

    RecBole looks for an unknown name in all its packages, the last of which needs lightgbm, and
    fails for want of that.
    """

    def get_model_or_tell(model_name: str) -> type[Any]:
        try:
            return get_model(model_name)
        except (ImportError, AttributeError, ValueError) as error:
            advice = _advice(model_name)
            if advice is None:
                raise
            raise UnknownModelError(f"RecBole knows no model {model_name!r}: {advice}") from error

    return get_model_or_tell


def _advice(model_name: str) -> str | None:
    """Return what to do about a name that RecBole does not know; none: it does know it."""
    from recbole_margo.registry import multimodal_models, recbole_models

    ours, theirs = multimodal_models(), recbole_models()
    if model_name in theirs:
        return None
    register = "call recbole_margo.register() first"
    if model_name in ours:
        return f"{register}, which makes the models of {ours[model_name].source} known to it"
    found = close_names(model_name, (*theirs, *ours), 0.5)
    if not found:
        return "no name is similar; `recbole-margo models` lists them all"
    advice = f"did you mean {' or '.join(found)}?"
    return f"{advice} For {found[0]}, {register}" if found[0] in ours else advice


def config_with_dataset_yaml(config_class: type[Any]) -> type[Any]:
    """Let RecBole's `Config` read `<data_path>/<dataset>/<dataset>.yaml`, as ours does.

    A converter writes there which parts the data has, and without it RecBole looks for files that
    do not exist. Values that the user gives are stronger. RecBole's own models read it only where
    they could not be loaded otherwise, so that nothing of theirs changes.
    """
    load = config_class._load_internal_config_dict

    def load_with_dataset(self: Any, model: str, model_class: type[Any], dataset: str) -> None:
        load(self, model, model_class, dataset)
        if type(self)._load_internal_config_dict is load_with_dataset:
            self.internal_config_dict.update(_values_of_dataset(self, model_class, dataset))

    config_class._load_internal_config_dict = load_with_dataset
    return config_class


def _values_of_dataset(config: Any, model_class: type[Any], dataset: str) -> dict[str, Any]:
    from recbole.utils import ModelType

    from recbole_margo.model.base import MultimodalRecommender

    given = config.external_config_dict
    data_path = given.get("data_path", config.internal_config_dict.get("data_path"))
    folder = Path(str(data_path), str(dataset))
    path = folder / f"{dataset}.yaml"
    is_ours = isinstance(model_class, type) and issubclass(model_class, MultimodalRecommender)
    loads_alone = (folder / f"{dataset}.inter").exists() or given.get("benchmark_filename")
    if not path.exists() or (loads_alone and not is_ours):
        return {}
    values = read_dataset_yaml(path)
    if model_class.type not in (ModelType.GENERAL, ModelType.TRADITIONAL):
        # RecBole chose the columns that context, sequential and knowledge models need.
        values.pop("load_col", None)
    return values


def loading_all(_original: Callable[..., Any]) -> Callable[..., Any]:
    """Return what loads our checkpoints too, in the place of RecBole's `load_data_and_model`."""

    def load_data_and_model(model_file: str, trust_checkpoint: bool | None = None) -> Any:
        """Load a dataset and a model; see `recbole_margo.recbole_bridge.load_data_and_model`."""
        from recbole_margo import recbole_bridge

        return recbole_bridge.load_data_and_model(model_file, trust_checkpoint)

    return load_data_and_model


MENDS: tuple[Mend, ...] = (
    ("recbole.utils.utils", "get_model", get_model_with_advice),
    ("recbole.config.configurator", "Config", config_with_dataset_yaml),
    (QUICK_START, "load_data_and_model", loading_all),
)
