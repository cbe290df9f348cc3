"""What is looked at in a config before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole.utils import InputType, ModelType

from recbole_margo.errors import ConfigError
from recbole_margo.settings.columns import check_columns
from recbole_margo.settings.evaluation import check_evaluation
from recbole_margo.settings.fixed_split import refuse_what_files_fix
from recbole_margo.settings.table import RULES


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

    Args:
        config: the config.

    Raises:
        ConfigError: says why a setting has no effect, and what to do instead.
    """
    refuse_what_files_fix(config)
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
