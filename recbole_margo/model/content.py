"""The path from contents to scores of a trained model, with what its features went through."""

from __future__ import annotations

import dataclasses
from typing import Any

from recbole_margo.data.features import feature_statistics, load_item_features
from recbole_margo.nn.new_items import Content


def content_of(config: Any, dataset: Any, model: Any) -> Content | None:
    """Return what a new item needs, none where contents do not enter the scores.

    Features of fewer columns (`feature_reduction`) have no map that a new row could take.
    """
    if config["feature_reduction"] or not hasattr(model, "content_path"):
        return None
    # Item graphs are made of the features before any training.
    trained = getattr(model.hyperparameters, "train_features", False)
    raw = list(load_item_features(config, dataset).matrices) if trained else model.features
    path = model.content_path(raw)
    if path is None:
        return None
    statistics = feature_statistics(config, dataset)
    tables = dict(path.tables)
    for m, one in enumerate(statistics):
        if one.mean is not None and one.deviation is not None:
            tables |= {f"mean_{m}": one.mean, f"deviation_{m}": one.deviation}
    return Content(
        dataclasses.replace(path, tables=tables),
        tuple(one.width for one in statistics),
        tuple(one.normalization for one in statistics),
    )
