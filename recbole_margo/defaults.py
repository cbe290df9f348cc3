"""YAML values: how they are read, those shipped in `properties/`, and those of a dataset.

A file may come from a stranger: what is read are plain values, and not many.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError

from recbole_margo.errors import ConfigError, DataError
from recbole_margo.rules import close_names
from recbole_margo.store.reading import read_small

# Far above every configuration, far below what a machine notices.
MAX_CHARACTERS = 1 << 20
MAX_NODES = 50_000
MAX_DEPTH = 40
MAX_DIGITS = 64
# A longer text counts as several values.
TEXT_OF_A_VALUE = 64
MERGE = "tag:yaml.org,2002:merge"
# An interval such as [5,inf), or several with ; between them.
HALF_OPEN = re.compile(r"\s*(?=.*[()])[\[(][^\[\](){}:,]+,[^\[\](){}:,]+[\])](\s*;[^{}:]*)?")
# The same as the value of a key in YAML, where brackets that differ must be quoted.
UNQUOTED = re.compile(r":[ \t]+(\[[^\[\](){}:,\n]+,[^\[\](){}:,\n]+\))")


class YamlLoader(yaml.SafeLoader):
    """PyYAML's safe loader that also reads `1e-3` as a number, as RecBole's own loader does.

    A text of a few lines can stand for billions of values by aliases of aliases, which whatever
    copies or prints the values then pays for. So values are counted as if every alias were written
    out.

    Attributes:
        refuses_duplicates: whether a key that stands twice in one mapping is an error, instead of
            the later value taking the place of the first in silence.
    """

    refuses_duplicates = True

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._nodes = 0
        self._depth = 0
        self._deepest = 0
        # By identity of a node that is complete: values in it, and levels below it.
        self._extents: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose one node, counting it and what an alias stands for."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        nodes_before, deepest_before = self._nodes, self._deepest
        self._depth += 1
        self._deepest = self._depth
        self._check_bounds(event)
        node: Any = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._extents:
                _refuse(f"the alias *{event.anchor} stands inside of what it names", event)
            nodes, levels = self._extents[id(node)]
            self._nodes += nodes
            self._deepest = self._depth + levels
        else:
            long_text = (
                len(node.value) // TEXT_OF_A_VALUE if isinstance(node, yaml.ScalarNode) else 0
            )
            self._nodes += 1 + long_text
            levels = self._deepest - self._depth
            self._extents[id(node)] = (self._nodes - nodes_before, levels)
        self._check_bounds(event)
        self._deepest = max(self._deepest, deepest_before)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Compose a mapping whose keys differ."""
        node: Any = super().compose_mapping_node(anchor)
        known = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name in known and key.tag != MERGE and self.refuses_duplicates:
                _refuse(f"the key `{key.value}` stands twice in one mapping", key)
            if name is not None:
                known.add(name)
        return node

    def construct_number(self, node: Any) -> int | float:
        """Read a number that is not absurdly long."""
        if len(str(node.value)) > MAX_DIGITS:
            _refuse(f"a number of {len(node.value)} characters", node)
        integer = node.tag.endswith(":int")
        construct: Any = self.construct_yaml_int if integer else self.construct_yaml_float
        value: int | float = construct(node)
        return value

    def _check_bounds(self, event: Any) -> None:
        if self._deepest > MAX_DEPTH:
            _refuse(f"more than {MAX_DEPTH} levels of values in values", event)
        if self._nodes > MAX_NODES:
            _refuse(f"more than {MAX_NODES:,} values, aliases written out", event)


def _refuse(found: str, place: Any) -> None:
    raise ComposerError(None, None, found, place.start_mark)


YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9][0-9_]*)(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)
for _tag in ("int", "float"):
    YamlLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", YamlLoader.construct_number)


def load_bounded(text: str, loader: type[YamlLoader] = YamlLoader) -> Any:
    """Return the value of YAML text of any origin.

    Raises:
        ValueError: the text is not YAML, or goes beyond the bounds; the message says where.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"more than {MAX_CHARACTERS >> 10:,} Ki characters")
    try:
        # A safe loader: it builds no objects.
        return yaml.load(text, Loader=loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{error.problem or error.context}{place}") from error
    except Exception as error:
        # PyYAML's constructors trip in many ways over a tag whose text is of another kind.
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


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
    """Return the values of a shipped file such as `model/MARGO.yaml`; empty if there is none."""
    return dict(_shipped(relative_path))


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """Read `--key=value` and `--key value` words; values are YAML, never evaluated as code.

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
            nearest = close_names(key, sorted(DATASET_KEYS), 0.8)
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
