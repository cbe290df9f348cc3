"""Items that are kept out of training entirely, whose interactions are the cold test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recbole.utils import ModelType

from recbole_margo.errors import ConfigError, DatasetError

# An item cannot be cold in these: their data hold items in more places than the interactions.
GENERAL = (ModelType.GENERAL, ModelType.TRADITIONAL)


@dataclass(frozen=True)
class ColdItems:
    """The cold items of a dataset; no model of a run knows of them.

    Attributes:
        tokens: raw ids in the order in which they were drawn [C].
        users: internal ids of users of their interactions [E].
        items: places in `tokens` of the items [E].
    """

    tokens: tuple[str, ...]
    users: NDArray[np.int64]
    items: NDArray[np.int64]


def keep_items_cold(config: Any, dataset: Any, seed: int) -> None:
    """Take a share of the items out of a dataset; does nothing where `cold_items` is not set.

    The items leave the id map, the interactions and the table of items, so that neither graphs nor
    negatives nor normalisation see them, whatever the model. Their interactions, of whichever part
    of a fixed split, are kept in the attribute `cold_items` of the dataset. What filters left out
    before is not among them.

    Args:
        config: the config with `cold_items`, a share, or none.
        dataset: RecBole's `Dataset`, not yet split.

    Raises:
        ConfigError: the model's data hold items elsewhere too.
        DatasetError: no items would be left.
    """
    share = config["cold_items"]
    if share is None:
        return
    _check(config, dataset)
    field = dataset.iid_field
    tokens = dataset.field2id_token[field]
    used = np.unique(dataset.inter_feat[field])
    by_token = used[np.argsort(tokens[used].astype(str))]
    count = max(round(share * len(used)), 1)
    if len(used) - count < 2:
        raise DatasetError(
            f"`cold_items: {share}` leaves {len(used) - count} of {len(used)} items to train on: "
            "give a smaller share"
        )
    # Another stream than that of the split, which has the same seed.
    cold = np.random.default_rng([seed, count]).permutation(by_token)[:count]
    place = np.full(len(tokens), -1)
    place[cold] = np.arange(count)
    places = place[dataset.inter_feat[field]]
    dataset.cold_items = ColdItems(
        tuple(str(token) for token in tokens[cold]),
        dataset.inter_feat[dataset.uid_field].to_numpy(np.int64)[places >= 0],
        places[places >= 0],
    )
    _remove(dataset, cold, places < 0)


def cold_items_of(dataset: Any) -> ColdItems | None:
    """Return the cold items of a dataset, or of a part of it, if it has any."""
    found: ColdItems | None = getattr(dataset, "cold_items", None)
    return found


def _remove(dataset: Any, cold: NDArray[np.int64], kept: NDArray[np.bool_]) -> None:
    """Remove items, by id, and all interactions but those that are kept [E]."""
    field = dataset.iid_field
    tokens = dataset.field2id_token[field]
    warm = np.setdiff1d(np.arange(len(tokens)), cold)
    new_id = np.full(len(tokens), -1)
    new_id[warm] = np.arange(len(warm))
    if dataset.benchmark_filename_list is not None:
        ends = np.cumsum(dataset.file_size_list)
        dataset.file_size_list = [int(part.sum()) for part in np.split(kept, ends[:-1])]
    interactions = dataset.inter_feat[kept].reset_index(drop=True)
    interactions[field] = new_id[interactions[field]]
    dataset.inter_feat = interactions
    if dataset.item_feat is not None:
        table = dataset.item_feat[dataset.item_feat[field].isin(warm)].reset_index(drop=True)
        table[field] = new_id[table[field]]
        dataset.item_feat = table
    dataset.field2id_token[field] = tokens[warm]
    dataset.field2token_id[field] = {token: new for new, token in enumerate(tokens[warm])}


def _check(config: Any, dataset: Any) -> None:
    aliases = [name for name in dataset.alias.get("item_id", ()) if name != dataset.iid_field]
    if config["MODEL_TYPE"] not in GENERAL or aliases or config["preload_weight"]:
        raise ConfigError(
            f"`cold_items`: expected a general recommender, found {config['model']} on data that "
            "name items elsewhere too (sequences, graphs, contexts, `alias_of_item_id` or "
            "`preload_weight`): leave `cold_items` out"
        )
    if config["dataloaders_save_path"]:
        raise ConfigError(
            "`cold_items` draws its own split, found `dataloaders_save_path` with another: leave "
            "one of them out"
        )
