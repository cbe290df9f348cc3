"""What settings are without effect where files fix the split, and what is recorded of them."""

from __future__ import annotations

from typing import Any

from recbole.utils import ModelType

from recbole_margo.data.atomic_columns import atomic_files
from recbole_margo.data.protocol import FILTERS
from recbole_margo.errors import ConfigError
from recbole_margo.settings.evaluation import FILES

# RecBole filters nothing out of files that fix the split; values that say the same are fine.
NO_FILTER: tuple[Any, ...] = (None, False, "[0,inf)", {})


def refuse_what_files_fix(config: Any) -> None:
    """Raise a `ConfigError` if the user gave a setting that a fixed split leaves without effect.

    Args:
        config: the config.
    """
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
