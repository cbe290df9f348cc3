"""The checks of a whole config before anything is loaded, and of settings that have no effect.

A setting without effect on this dataset or model is refused; where models of one comparison share
their settings, so that one of them may read it, a warning says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recbole.utils import InputType, ModelType

from recbole_margo.data.atomic_files import atomic_files, check_id_columns, columns_of
from recbole_margo.data.protocol import FILTERS
from recbole_margo.errors import ConfigError
from recbole_margo.rules import nearest
from recbole_margo.settings.table import FILES, RULES, check_evaluation

# Those that have nothing else to learn from where no negatives are drawn.
LABELED_TYPES = (ModelType.CONTEXT, ModelType.DECISIONTREE)
SOURCES = ("inter", "user", "item", "kg", "link", "net")
# RecBole filters nothing out of files that fix the split; values that say the same are fine.
NO_FILTER: tuple[Any, ...] = (None, False, "[0,inf)", {})


def load_needed_columns(config: Any) -> None:
    """Add to `load_col` the columns of interactions that other settings speak of.

    Those are users and items, the times that an order by time needs, and what `val_interval` and
    `threshold` name.
    """
    load, available = config["load_col"], columns_of(config, "inter")
    if available is None or load is None or load.get("inter") == "*":
        return
    named = list(load.get("inter") or [])
    needed = [name for name, _ in _needed(config) if name in available and name not in named]
    if needed:
        config["load_col"] = {**load, "inter": named + list(dict.fromkeys(needed))}


def check_columns(config: Any) -> None:
    """Raise a `ConfigError` if the files lack columns that settings name; it names theirs."""
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
    trains_on_labels = config["MODEL_TYPE"] in LABELED_TYPES and _has_no_negatives(config)
    if not config["threshold"] and (trains_on_labels or _is_tested_on_labels(config)):
        yield config["LABEL_FIELD"], f"{config['model']}, which learns from or is tested on labels,"


def _is_tested_on_labels(config: Any) -> bool:
    return "labeled" in config["eval_args"]["mode"].values()


def _has_no_negatives(config: Any) -> bool:
    return bool(config["train_neg_sample_args"]["distribution"] == "none")


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


def check_values(values: Mapping[str, Any]) -> None:
    """Raise a `ConfigError` if a value is wrong by itself, or beside others of the evaluation."""
    for key, value in values.items():
        if key in RULES:
            RULES[key](key, value)
    check_evaluation(values)


def check_effects(config: Any) -> None:
    """Raise a `ConfigError` if something that the user gave has no effect on this dataset or model.

    It says why, and what to do instead.
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
    is_pointwise = config["MODEL_INPUT_TYPE"] == InputType.POINTWISE
    if _is_tested_on_labels(config) or (is_pointwise and _has_no_negatives(config)):
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
