"""YAML values: how they are read, those shipped in `properties/`, and those of a dataset."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from recbole_margo.errors import ConfigError, DataError
from recbole_margo.store.reading import read_small
from recbole_margo.yaml_loader import MAX_CHARACTERS, load_bounded

# An interval such as [5,inf), or several with ; between them.
HALF_OPEN = re.compile(r"\s*(?=.*[()])[\[(][^\[\](){}:,]+,[^\[\](){}:,]+[\])](\s*;[^{}:]*)?")
# The same as the value of a key in YAML, where brackets that differ must be quoted.
UNQUOTED = re.compile(r":[ \t]+(\[[^\[\](){}:,\n]+,[^\[\](){}:,\n]+\))")


def parse_yaml(text: str, origin: str = "the given value") -> Any:
    """Parse YAML text without ever running code.

    Args:
        origin: where it came from, for the error message.

    Raises:
        ConfigError: if the text is not valid YAML, names a key twice, or stands for more values
            than any configuration has.
    """
    try:
        return load_bounded(text)
    except ValueError as error:
        bare = UNQUOTED.search(text)
        hint = f'; write the interval {bare[1]} in quotes, "{bare[1]}"' if bare else ""
        raise ConfigError(f"{origin} is not valid YAML: {error}{hint}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping of keys to values.

    Returns:
        The mapping; empty if the file is empty.

    Raises:
        ConfigError: if the file is missing, is no regular file of at most 1 MiB, is not valid YAML
            or holds no mapping.
    """
    try:
        text = read_small(path, MAX_CHARACTERS)
    except OSError as error:
        raise ConfigError(f"cannot read the config file {path}: {error.strerror}") from error
    except DataError as error:
        raise ConfigError(f"cannot read the config file {error}") from error
    values = parse_yaml(text, origin=f"the config file {path}")
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"the config file {path} must hold `key: value` lines, found {type(values).__name__}"
        )
    return values


def properties_folder() -> Path:
    """Return the folder of the shipped YAML values, in an installed package or in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "properties"
    return installed if installed.is_dir() else package.parent / "properties"


@cache
def _shipped(relative_path: str) -> dict[str, Any]:
    path = properties_folder() / relative_path
    return read_yaml(path) if path.is_file() else {}


def shipped_values(relative_path: str) -> dict[str, Any]:
    """Return the values of one shipped YAML file.

    Args:
        relative_path: for example `model/MARGO.yaml`.

    Returns:
        A new mapping; empty if nothing is shipped under that name.
    """
    return dict(_shipped(relative_path))


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """Read `--key=value` and `--key value` words; values are YAML, never evaluated as code.

    Args:
        words: the words that argparse did not know.

    Raises:
        ConfigError: if a word has another form, or a key comes twice with different values.
    """
    settings: dict[str, Any] = {}
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("--") or word == "--":
            raise ConfigError(f"expected --key=value, found {word!r}")
        key, equals, text = word[2:].partition("=")
        if not equals:
            if not remaining or remaining[0].startswith("--"):
                raise ConfigError(f"--{key} has no value: write --{key}=value")
            text = remaining.pop(0)
        if HALF_OPEN.fullmatch(text):
            value: Any = text  # RecBole's intervals are texts, and brackets that differ no YAML
        else:
            value = parse_yaml(text, origin=f"the value of --{key}")
        if key in settings and settings[key] != value:
            raise ConfigError(f"--{key} is given twice: {settings[key]!r} and {value!r}")
        settings[key] = value
    return settings


def refuse_settings(settings: Mapping[str, Any]) -> None:
    """Raise a `ConfigError` if there are settings where a resumed run keeps its own."""
    if settings:
        raise ConfigError(
            f"a resumed run keeps its settings; leave out --{', --'.join(settings)} "
            "or start a new run"
        )


# A dataset may come from a stranger: its YAML describes data and decides nothing else, not where
# files are read and written, which device computes, or what goes to a web service.
ATOMIC_FILES = (
    "field_separator seq_separator benchmark_filename additional_feat_suffix "
    "load_col unload_col unused_col numerical_features "
    "alias_of_user_id alias_of_item_id alias_of_entity_id alias_of_relation_id preload_weight"
)
FIELDS = (
    "USER_ID_FIELD ITEM_ID_FIELD RATING_FIELD TIME_FIELD LABEL_FIELD NEG_PREFIX seq_len "
    "ITEM_LIST_LENGTH_FIELD LIST_SUFFIX MAX_ITEM_LIST_LENGTH POSITION_FIELD "
    "HEAD_ENTITY_ID_FIELD TAIL_ENTITY_ID_FIELD RELATION_ID_FIELD ENTITY_ID_FIELD"
)
FILTERS = (
    "rm_dup_inter val_interval filter_inter_by_user_or_item user_inter_num_interval "
    "item_inter_num_interval entity_kg_num_interval relation_kg_num_interval kg_reverse_r "
    "threshold normalize_field normalize_all discretization"
)
MODALITIES = (
    "modalities feature_normalization feature_reduction feature_precision item_neighbor_search"
)
EVALUATION = (
    "eval_args eval_protocol split_seed cold_items repeatable metrics topk valid_metric "
    "valid_metric_bigger metric_decimal_place"
)
SIZES_OF_TRAINING = "epochs stopping_step eval_step train_batch_size eval_batch_size"
DATASET_KEYS = frozenset(
    " ".join((ATOMIC_FILES, FIELDS, FILTERS, MODALITIES, EVALUATION, SIZES_OF_TRAINING)).split()
)
# These become parts of file names.
PARTS_OF_FILE_NAMES = ("benchmark_filename", "additional_feat_suffix")
# pandas takes a longer separator for a regular expression, which can be made to run for ever.
SEPARATORS = ("field_separator", "seq_separator")


def read_dataset_yaml(path: Path) -> dict[str, Any]:
    """Read the YAML file in the folder of a dataset.

    Raises:
        ConfigError: as of `read_yaml`; or a key does not describe data, or a value would reach out
            of the dataset's folder.
    """
    values = read_yaml(path)
    for key in values:
        if key not in DATASET_KEYS:
            nearest = difflib.get_close_matches(str(key), sorted(DATASET_KEYS), n=1, cutoff=0.8)
            hint = f"did you mean {nearest[0]}? If not, take" if nearest else "Take"
            raise ConfigError(
                f"{path}: the YAML of a dataset may only describe data (fields, files, filters, "
                f"modalities, evaluation, epochs and batch sizes), found `{_shown(key)}`: {hint} "
                "it out, and give it with --config_files or on the command line if you want it"
            )
    for key in PARTS_OF_FILE_NAMES:
        value = values.get(key)
        for part in value if isinstance(value, list) else [value]:
            if part is not None and not re.fullmatch(r"[\w.+-]+", str(part)):
                raise ConfigError(
                    f"{path}: `{key}` names parts of file names, made of letters, digits and "
                    f"_ . + -, found {part!r}"
                )
    for key in SEPARATORS:
        value = values.get(key, " ")
        if not isinstance(value, str) or len(value) != 1:
            raise ConfigError(f"{path}: `{key}` must be a single character, found {value!r}")
    return values


def _shown(key: object) -> str:
    """Return the begin of a key without line breaks or codes that a terminal obeys."""
    return ascii(str(key))[1:-1][:60]
