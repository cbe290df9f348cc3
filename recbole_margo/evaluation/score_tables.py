"""The tables whose products are the scores of a model, and the path from contents to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_margo.data.features import feature_statistics, load_item_features
from recbole_margo.model.base import MultimodalRecommender
from recbole_margo.nn.new_items import Content

# Users on whom it is looked whether products are the scores.
CHECKED_USERS = 64
TOLERANCE = 1e-4
# What RecBole's models call their tables: kept after the first ranking, or trained as they are.
NAMES = (("restore_user_e", "restore_item_e"), ("user_embedding", "item_embedding"))


@torch.no_grad()
def score_tables(model: Any, dataset: Any) -> tuple[Tensor, Tensor] | None:
    r"""Return user table [U, K] and item table [I, K], if their products are the scores.

    .. math:: \text{full\_sort\_predict}(u) = e_u E_I^\top

    A model of this package says which they are. Of others the tables that RecBole's models have by
    custom are tried, and their products compared with what the model predicts for users spread
    over all of them.
    """
    if isinstance(model, MultimodalRecommender):
        return model.scoring_tables()
    if not isinstance(model, nn.Module) or not hasattr(model, "full_sort_predict"):
        return None
    predict: Any = model.full_sort_predict
    count = min(CHECKED_USERS, dataset.user_num - 1)
    users = torch.linspace(1, dataset.user_num - 1, count, device=_device(model)).long()
    try:
        predicted = predict(Interaction({dataset.uid_field: users}))
    except (NotImplementedError, AttributeError, KeyError, TypeError, IndexError):
        return None
    scores = predicted.view(count, -1)[:, 1:]
    for of_users, of_items in _candidates(model):
        if (len(of_users), len(of_items)) != (dataset.user_num, dataset.item_num):
            continue
        if of_users.shape[1] != of_items.shape[1]:
            continue
        products = of_users[users] @ of_items[1:].T
        if torch.allclose(products, scores, TOLERANCE, TOLERANCE * float(scores.abs().max())):
            return of_users, of_items
    return None


def _candidates(model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    for names in NAMES:
        tables = [_table(getattr(model, name, None)) for name in names]
        if tables[0] is not None and tables[1] is not None:
            yield tables[0], tables[1]


def _table(found: Any) -> Tensor | None:
    table = found.weight if isinstance(found, nn.Embedding) else found
    return table.detach() if isinstance(table, Tensor) and table.dim() == 2 else None


def _device(model: nn.Module) -> torch.device:
    return next((each.device for each in model.parameters()), torch.device("cpu"))


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
        tuple(one.encoder for one in statistics),
    )
