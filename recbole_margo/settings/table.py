"""The rules of RecBole's keys: of each value alone, and of those of the evaluation together."""

from __future__ import annotations

import codecs
import math
from collections.abc import Mapping
from typing import Any

from recbole.evaluator.register import metrics_dict
from recbole.utils import EvaluatorType

from recbole_margo.errors import ConfigError
from recbole_margo.rules import (
    Rule,
    boolean,
    choice,
    integer,
    intervals,
    list_of,
    mapping,
    mapping_to,
    matching,
    nearest,
    number,
    one_or_list,
    optional,
    refuse,
    share,
    text,
    value_interval,
)

LEAVE_OUT = ("valid_and_test", "valid_only", "test_only")
# Of a ratio that adds up to something else one part may be a slip; 8:1:1 is none.
TOLERANCE = 1e-6
# The key of a split that files fix, as records name it.
FILES = "benchmark_filename"
SEED = integer(0, 2**32 - 1)
# Those that RecBole's trainers know; for any other they would take Adam.
LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam")
TRANSFORMS = (
    "mask_itemseq",
    "inverse_itemseq",
    "crop_itemseq",
    "reorder_itemseq",
    "user_defined",
)
LEVELS = ("debug", "info", "warning", "error", "critical")


def ratio(key: str, value: Any) -> None:
    """Let three parts pass that add up to 1, or that are whole numbers such as 8, 1 and 1."""
    expected = "a list of three numbers such as [0.8, 0.1, 0.1] (training, validation, test)"
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        refuse(key, expected, value)
    for part in value:
        if type(part) not in (int, float) or not math.isfinite(part) or part < 0:
            refuse(key, f"{expected}, none below 0", value)
    if value[0] <= 0:
        refuse(key, f"{expected}, the first above 0", value)
    as_shares = max(value) <= 1 and any(isinstance(part, float) for part in value)
    if as_shares and abs(sum(value) - 1) > TOLERANCE:
        refuse(key, f"{expected} that add up to 1 (here {sum(value):g})", value)


def _split(key: str, value: Any) -> None:
    files = list_of(text, least=3, most=3)
    mapping({"RS": ratio, "LS": choice(*LEAVE_OUT), "TS": ratio, FILES: files})(key, value)
    if len(value) != 1:
        refuse(key, "one of {RS: [0.8, 0.1, 0.1]}, {LS: valid_and_test}, {TS: [...]}", value)


def _mode(key: str, value: Any) -> None:
    named = matching(
        r"full|labeled|(uni|pop)0*[1-9][0-9]*",
        "`full`, `labeled`, or `uniN` or `popN` with a number N of candidates, such as uni100",
    )
    if isinstance(value, dict):
        mapping({"valid": named, "test": named})(key, value)
        if not value:
            refuse(key, "a mode, or one for `valid` and one for `test`", value)
    else:
        named(key, value)


def _group(key: str, value: Any) -> None:
    if value is not None:
        choice("user", "none", ignore_case=isinstance(value, str) and value.lower() == "none")(
            key, value
        )


EVAL_ARGS: Rule = mapping(
    {"split": _split, "order": optional(choice("RO", "TO")), "group_by": _group, "mode": _mode}
)


def _metric(key: str, value: Any) -> None:
    if not isinstance(value, str) or value.lower() not in metrics_dict:
        names = sorted(metric.__name__ for metric in metrics_dict.values())
        raise ConfigError(f"`{key}` names a metric {value!r}: {nearest(value, names)}")


def metrics(key: str, value: Any) -> None:
    """Let the names of RecBole's metrics pass, all of values or all of rankings."""
    named = [value] if isinstance(value, str) else value
    list_of(_metric)(key, named)
    if len({measures_values(name) for name in named}) > 1:
        raise ConfigError(
            f"`{key}` must be metrics of rankings alone, or of values alone "
            f"({', '.join(_value_metrics())}), found {value!r}"
        )


def measures_values(names: str | list[str]) -> bool:
    """Return whether metrics compare scores with labels, as AUC does, and rank no items."""
    first = names if isinstance(names, str) else names[0]
    return bool(metrics_dict[first.lower()].metric_type == EvaluatorType.VALUE)


def _value_metrics() -> list[str]:
    return sorted(metric.__name__ for name, metric in metrics_dict.items() if measures_values(name))


def _names_of_results(names: list[str], cutoffs: list[int]) -> list[str]:
    found = []
    for name in names:
        of_top = {"rec.topk", "rec.items"} & set(metrics_dict[name.lower()].metric_need)
        found += [f"{name}@{k}" for k in cutoffs] if of_top else [name]
    return found


def check_evaluation(values: Mapping[str, Any]) -> None:
    """Raise a `ConfigError` if metrics, cut-offs, selection and mode do not fit together."""
    names = values["metrics"]
    names = [names] if isinstance(names, str) else list(names)
    cutoffs = values["topk"]
    cutoffs = [cutoffs] if isinstance(cutoffs, int) else list(cutoffs)
    results = _names_of_results(names, cutoffs)
    selected = values["valid_metric"]
    if not isinstance(selected, str) or selected.lower() not in [name.lower() for name in results]:
        raise ConfigError(
            f"`valid_metric` must be one of the metrics that are computed, {', '.join(results)}, "
            f"found {selected!r}: change `valid_metric`, or add to `metrics` and `topk`"
        )
    arguments = values["eval_args"]
    mode = arguments.get("mode", "full")
    modes = set(mode.values()) if isinstance(mode, dict) else {mode}
    of_values = measures_values(names)
    if "labeled" in modes and not of_values:
        raise ConfigError(
            f"`eval_args.mode` labeled compares scores with labels, which only "
            f"{', '.join(_value_metrics())} do, found metrics {', '.join(names)}: "
            "set mode to full or uni100, or other `metrics`"
        )
    if "full" in modes and of_values:
        raise ConfigError(
            f"`metrics` {', '.join(names)} compare scores with labels, for which "
            "`eval_args.mode` must be labeled, or uniN such as uni100, found full"
        )
    _check_grouping(arguments)


def _check_grouping(arguments: Mapping[str, Any]) -> None:
    split = next(iter(arguments.get("split") or {"RS": None}))
    group = arguments.get("group_by", "user")
    if split in ("LS", "TS") and "group_by" in arguments and group != "user":
        raise ConfigError(
            f"`eval_args.group_by` must be user for the split {split}, which always splits each "
            f"user's interactions, found {group!r}"
        )


def _encoding(key: str, value: Any) -> None:
    text(key, value)
    try:
        is_text = codecs.lookup(value)._is_text_encoding
    except LookupError:
        is_text = False
    if not is_text:
        refuse(key, "the name of a text encoding such as utf-8", value)


def _columns(key: str, value: Any) -> None:
    if value != "*":
        list_of(text, least=0)(key, value)


def _switch_or_folder(key: str, value: Any) -> None:
    if not isinstance(value, bool) and (not isinstance(value, str) or not value.strip()):
        refuse(key, "auto, false or a folder", value)


_NEGATIVES = mapping(
    {
        "distribution": optional(choice("uniform", "popularity", "none", "None")),
        "sample_num": integer(1),
        "alpha": number(),
        "dynamic": boolean,
        "candidate_num": integer(0),
    }
)


def _negatives(key: str, value: Any) -> None:
    if value == "None":
        return
    if isinstance(value, dict) and value.get("distribution") == "none":
        return  # what RecBole itself writes for none
    _NEGATIVES(key, value)
    if value.get("dynamic") and not value.get("candidate_num"):
        refuse(f"{key}.candidate_num", "1 or more where negatives are dynamic", 0)


def _deprecated(key: str, value: Any) -> None:
    refuse(key, "left out, it has no effect in RecBole: set `train_neg_sample_args`", value)


RULES: dict[str, Rule] = {
    # environment
    "gpu_id": matching(r"-1|[\w-]*(,[\w-]+)*", "GPU numbers such as '0' or '0,1'"),
    "worker": integer(0),
    "seed": SEED,
    "split_seed": optional(SEED),
    "cold_items": optional(share),
    "state": choice(*LEVELS, ignore_case=True),
    "data_path": text,
    "checkpoint_dir": text,
    "wandb_project": text,
    # training
    "epochs": integer(1),
    "train_batch_size": integer(1),
    "learner": choice(*LEARNERS, ignore_case=True),
    "learning_rate": number(above=True),
    "train_neg_sample_args": optional(_negatives),
    "neg_sampling": optional(_deprecated),
    "training_neg_sample_num": optional(_deprecated),
    "eval_step": integer(0),
    "stopping_step": integer(0),
    "clip_grad_norm": optional(
        mapping(
            {
                "max_norm": number(above=True),
                "norm_type": number(),
                "error_if_nonfinite": boolean,
                "foreach": optional(boolean),
            }
        )
    ),
    "weight_decay": number(),
    "graph_cache": _switch_or_folder,
    "graph_cache_gigabytes": number(above=True),
    "cuda_graphs": choice("auto", True, False),
    "matmul_precision": choice("highest", "high"),
    "loss_decimal_place": integer(0),
    "transform": optional(choice(*TRANSFORMS)),
    # evaluation
    "eval_args": EVAL_ARGS,
    "metrics": metrics,
    "topk": one_or_list(integer(1)),
    "valid_metric": text,
    "eval_batch_size": optional(integer(1)),
    "metric_decimal_place": integer(0),
    # data
    "field_separator": text,
    "seq_separator": text,
    "encoding": _encoding,
    "USER_ID_FIELD": text,
    "ITEM_ID_FIELD": text,
    "RATING_FIELD": optional(text),
    "TIME_FIELD": optional(text),
    "LABEL_FIELD": text,
    "NEG_PREFIX": text,
    "LIST_SUFFIX": text,
    "MAX_ITEM_LIST_LENGTH": integer(1),
    "seq_len": optional(mapping_to(integer(1))),
    "threshold": optional(mapping_to(number(float("-inf")))),
    "numerical_features": optional(list_of(text, least=0)),
    "load_col": optional(mapping_to(_columns)),
    "unload_col": optional(mapping_to(list_of(text, least=0))),
    "unused_col": optional(mapping_to(list_of(text, least=0))),
    "additional_feat_suffix": optional(one_or_list(text)),
    "rm_dup_inter": optional(choice("first", "last")),
    "val_interval": optional(mapping_to(value_interval)),
    "user_inter_num_interval": optional(intervals),
    "item_inter_num_interval": optional(intervals),
    "entity_kg_num_interval": optional(intervals),
    "relation_kg_num_interval": optional(intervals),
    "alias_of_user_id": optional(list_of(text, least=0)),
    "alias_of_item_id": optional(list_of(text, least=0)),
    "alias_of_entity_id": optional(list_of(text, least=0)),
    "alias_of_relation_id": optional(list_of(text, least=0)),
    "preload_weight": optional(mapping_to(text)),
    "normalize_field": optional(list_of(text, least=0)),
    "normalize_all": optional(boolean),
    "discretization": optional(
        mapping_to(mapping({"method": choice("ED", "LD"), "bucket": integer(1)}))
    ),
    "benchmark_filename": optional(list_of(text)),
}
