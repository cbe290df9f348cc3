"""What the YAML in a dataset's own folder may say: it describes data and nothing else.

A dataset may come from a stranger. Its YAML must not decide where files are read and written, which
device computes, or what goes to a web service.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

from recbole_margo.defaults import read_yaml
from recbole_margo.errors import ConfigError

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
    "eval_args eval_protocol split_seed repeatable metrics topk valid_metric valid_metric_bigger "
    "metric_decimal_place"
)
SIZES_OF_TRAINING = "epochs stopping_step eval_step train_batch_size eval_batch_size"
KEYS = frozenset(
    " ".join((ATOMIC_FILES, FIELDS, FILTERS, MODALITIES, EVALUATION, SIZES_OF_TRAINING)).split()
)
# These become parts of file names.
PARTS_OF_FILE_NAMES = ("benchmark_filename", "additional_feat_suffix")
# pandas takes a longer separator for a regular expression, which can be made to run for ever.
SEPARATORS = ("field_separator", "seq_separator")


def read_dataset_yaml(path: Path) -> dict[str, Any]:
    """Read the YAML file in the folder of a dataset.

    Returns:
        Values by key, all of which describe data.

    Raises:
        ConfigError: as of `read_yaml`; or a key does not describe data, or a value would reach out
            of the dataset's folder.
    """
    values = read_yaml(path)
    for key in values:
        if key not in KEYS:
            nearest = difflib.get_close_matches(str(key), sorted(KEYS), n=1, cutoff=0.8)
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
