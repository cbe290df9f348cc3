"""The tables whose products are a model's scores, for models of RecBole too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_margo.model.base import MultimodalRecommender

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

    Returns:
        None if no such tables were found.
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
