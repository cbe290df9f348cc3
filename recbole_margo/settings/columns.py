"""Which columns settings need: loaded where the files have them, refused where they do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recbole.utils import ModelType

from recbole_margo.data.atomic_files import atomic_files, check_id_columns, columns_of
from recbole_margo.errors import ConfigError
from recbole_margo.settings.rules import nearest

# Those that have nothing else to learn from where no negatives are drawn.
LABELED_TYPES = (ModelType.CONTEXT, ModelType.DECISIONTREE)
SOURCES = ("inter", "user", "item", "kg", "link", "net")


def load_needed_columns(config: Any) -> None:
    """Add to `load_col` the columns of interactions that other settings speak of.

    Those are users and items, the times that an order by time needs, and what `val_interval` and
    `threshold` name.

    Args:
        config: the config, whose `load_col` is replaced.
    """
    load, available = config["load_col"], columns_of(config, "inter")
    if available is None or load is None or load.get("inter") == "*":
        return
    named = list(load.get("inter") or [])
    needed = [name for name, _ in _needed(config) if name in available and name not in named]
    if needed:
        config["load_col"] = {**load, "inter": named + list(dict.fromkeys(needed))}


def check_columns(config: Any) -> None:
    """Look whether the files have the columns that the settings name.

    Args:
        config: the config, as the user gave it and RecBole completed it.

    Raises:
        ConfigError: names the columns that there are.
    """
    available = columns_of(config, "inter")
    if available is None:
        return  # it is said later that the dataset is missing
    check_id_columns(config)
    if "load_col" in config.external_config_dict:
        _check_loaded(config)
    load, unload = config["load_col"] or {}, config["unload_col"] or {}
    for source in unload:
        _check_source(config, "unload_col", source)
        if load.get(source) and load[source] != "*":
            raise ConfigError(
                f"`unload_col` names columns of {source} and `load_col` too: set `load_col` to "
                "null, so that all columns are loaded but those"
            )
    for name, why in _needed(config):
        if name in unload.get("inter", ()):
            raise ConfigError(f"`unload_col` leaves out `{name}`, which {why} needs")
        if name not in available and not (
            why.startswith("`val_interval") and _of_others(config, name)
        ):
            file = " and ".join(path.name for path in atomic_files(config, "inter"))
            raise ConfigError(
                f"{why} needs the column `{name}`, found in {file}: {', '.join(available)}"
                f"{_remedy(config, name)}"
            )


def _needed(config: Any) -> Iterator[tuple[str, str]]:
    """Yield the columns of interactions that settings speak of, and which setting it is."""
    for key in ("USER_ID_FIELD", "ITEM_ID_FIELD"):
        if config[key] is not None:
            yield config[key], f"`{key}`"
    arguments = config["eval_args"]
    if not config["benchmark_filename"]:
        if arguments["order"] == "TO":
            yield config["TIME_FIELD"], "`eval_args.order` TO"
        elif "TS" in (arguments["split"] or {}):
            yield config["TIME_FIELD"], "`eval_args.split` TS"
        for name in config["val_interval"] or {}:
            yield name, f"`val_interval.{name}`"
    for name in config["threshold"] or {}:
        yield name, f"`threshold.{name}`"
    if not config["threshold"] and reads_labels(config):
        yield config["LABEL_FIELD"], f"{config['model']}, which learns from or is tested on labels,"


def reads_labels(config: Any) -> bool:
    """Return whether labels of interactions are trained on or compared with scores."""
    if "labeled" in config["eval_args"]["mode"].values():
        return True
    no_negatives = config["train_neg_sample_args"]["distribution"] == "none"
    return bool(no_negatives and config["MODEL_TYPE"] in LABELED_TYPES)


def _remedy(config: Any, name: str) -> str:
    if name == config["TIME_FIELD"]:
        return ": set TIME_FIELD to the column of times"
    if name == config["LABEL_FIELD"]:
        return (
            ": let `threshold` make labels from a column, such as {rating: 4}, or set LABEL_FIELD "
            "to the column of labels"
        )
    return ""


def _of_others(config: Any, name: str) -> bool:
    """Return whether a column of users or items is there and is loaded."""
    load = config["load_col"]
    for source in ("user", "item"):
        if name in (columns_of(config, source) or ()):
            loaded = load is None or load.get(source) == "*" or name in load.get(source, ())
            if not loaded:
                raise ConfigError(
                    f"`val_interval.{name}` needs the column `{name}` of {source}: add it to "
                    f"`load_col`, {{{source}: [..., {name}]}}"
                )
            return True
    return False


def _check_loaded(config: Any) -> None:
    for source, names in (config["load_col"] or {}).items():
        _check_source(config, "load_col", source)
        available = columns_of(config, source)
        files = ", ".join(path.name for path in atomic_files(config, source))
        if available is None:
            raise ConfigError(f"`load_col.{source}` names columns of {files}, which is not there")
        for name in () if names == "*" else names:
            if name not in available:
                raise ConfigError(
                    f"`load_col.{source}` names a column `{name}`, found in {files}: "
                    f"{', '.join(available)}"
                )


def _check_source(config: Any, key: str, source: str) -> None:
    known = [*SOURCES, *(config["additional_feat_suffix"] or [])]
    if source not in known:
        raise ConfigError(f"unknown key `{source}` in `{key}`: {nearest(source, known)}")
