"""What is looked at in a config before anything is loaded, and settings that have no effect.

What has no effect on this dataset or model is refused, or said where models of one comparison share
their settings, so that what one of them reads may be given to all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole.utils import InputType, ModelType

from recbole_margo.data.atomic_files import atomic_files
from recbole_margo.data.protocol import FILTERS
from recbole_margo.errors import ConfigError
from recbole_margo.settings.columns import check_columns
from recbole_margo.settings.evaluation import FILES, check_evaluation
from recbole_margo.settings.table import RULES

# RecBole filters nothing out of files that fix the split; values that say the same are fine.
NO_FILTER: tuple[Any, ...] = (None, False, "[0,inf)", {})


def check_values(values: Mapping[str, Any]) -> None:
    """Look at every value for itself, and at those of the evaluation together.

    Args:
        values: all values by key, before RecBole reads them.

    Raises:
        ConfigError: names the key, what it may be and what it is.
    """
    for key, value in values.items():
        if key in RULES:
            RULES[key](key, value)
    check_evaluation(values)


def check_effects(config: Any) -> None:
    """Look whether what the user gave has an effect on this dataset with this model.

    Raises:
        ConfigError: says why a setting has no effect, and what to do instead.
    """
    _refuse_what_files_fix(config)
    given = config.external_config_dict
    is_sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    if is_sequential and "eval_args" in given and config["eval_args"]["order"] != "TO":
        raise ConfigError(
            f"`eval_args.order` must be TO for the sequential model {config['model']}, found "
            f"{config['eval_args']['order']!r} (RO where `eval_args` leaves it out)"
        )
    if given.get("threshold") is not None:
        _check_threshold(config)
    check_columns(config)


def _check_threshold(config: Any) -> None:
    """Refuse labels that nobody reads: they are neither compared with scores nor trained on."""
    named = config["threshold"]
    if len(named) != 1:
        raise ConfigError(f"`threshold` must name one column, found {', '.join(named) or 'none'}")
    in_evaluation = "labeled" in config["eval_args"]["mode"].values()
    no_negatives = config["train_neg_sample_args"]["distribution"] == "none"
    in_training = config["MODEL_INPUT_TYPE"] == InputType.POINTWISE and no_negatives
    if in_evaluation or in_training:
        return
    name, least = next(iter(named.items()))
    raise ConfigError(
        f"`threshold` makes labels, and {config['model']} reads none: every interaction would "
        f"stay a positive one. To keep those from {least} on, set "
        f'val_interval: {{{name}: "[{least},inf)"}}'
    )


def _refuse_what_files_fix(config: Any) -> None:
    """Refuse what the user gave and a split that files fix leaves without effect."""
    if not config[FILES]:
        if FILES in (config["eval_args"]["split"] or {}):
            raise ConfigError(f"`eval_args.split` {FILES} needs `{FILES}`, the parts of the files")
        return
    given = config.external_config_dict
    for key in FILTERS:
        if given.get(key) not in NO_FILTER:
            raise ConfigError(_message(config, key))
    used = _used_arguments(config)
    for key, value in (given.get("eval_args") or {}).items():
        if key != "mode" and value != used[key]:
            raise ConfigError(_message(config, f"eval_args.{key}"))


def record_what_files_fix(config: Any) -> None:
    """Write into a config with a fixed split what is used in the place of what is not."""
    if not config[FILES]:
        return
    config["eval_args"] = _used_arguments(config)
    for key in FILTERS:
        if key in config:
            config[key] = False if isinstance(config[key], bool) else None


def _used_arguments(config: Any) -> dict[str, Any]:
    # RecBole's data sets of sequences refuse every other order, also where none is made.
    is_sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    return {
        "split": {FILES: list(config[FILES])},
        "order": "TO" if is_sequential else None,
        "group_by": None,
        "mode": config["eval_args"]["mode"],
    }


def _message(config: Any, key: str) -> str:
    files = ", ".join(path.name for path in atomic_files(config, "inter"))
    joint = atomic_files({**config.final_config_dict, FILES: None}, "inter")[0]
    if joint.is_file():
        remedy = f"set `{FILES}` to null, so that {joint.name} is split anew"
    else:
        remedy = "convert the raw data again with the split or filter that you want"
    return (
        f"`{key}` has no effect on dataset {config['dataset']}: its split is fixed by {files} "
        f"(`{FILES}`); leave it out, or {remedy}"
    )


def without_effect(config: Any) -> list[str]:
    """Return a sentence for each setting that was given and changes nothing."""
    given, said = config.external_config_dict, []
    modes = config["eval_args"]["mode"].values()
    if given.get("split_seed") is not None and config[FILES] and set(modes) <= {"full", "labeled"}:
        said.append(
            f"`split_seed` has no effect: files fix the split ({', '.join(config[FILES])}), and no "
            "candidates are drawn."
        )
    negatives = given.get("train_neg_sample_args") or {}
    draws = negatives != "None" and negatives.get("distribution", "uniform") != "none"
    if negatives and draws and not getattr(config.model_class, "uses_negatives", True):
        said.append(
            f"`train_neg_sample_args` has no effect: {config['model']} learns without negatives."
        )
    return said
