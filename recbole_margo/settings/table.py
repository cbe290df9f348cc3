"""The keys of RecBole, each with the rule that its value must follow."""

from __future__ import annotations

import codecs
from typing import Any

from recbole_margo.settings.evaluation import EVAL_ARGS, metrics
from recbole_margo.settings.rules import (
    Rule,
    boolean,
    choice,
    integer,
    intervals,
    list_of,
    mapping,
    mapping_to,
    matching,
    number,
    one_or_list,
    optional,
    refuse,
    share,
    text,
    value_interval,
)

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
