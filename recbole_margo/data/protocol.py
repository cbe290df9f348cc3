"""Loading, splitting and masking: what is trained on, what is tested, which items are cold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recbole.data import create_dataset, data_preparation
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.sampler import Sampler
from recbole.utils import EvaluatorType, ModelType, init_seed

from recbole_margo.data.atomic_files import check_id_columns, check_rows
from recbole_margo.data.evaluation_lists import (
    keep_candidates,
    use_compact_lists,
    without_tensors_by_user,
)
from recbole_margo.errors import (
    ConfigError,
    DataError,
    DatasetError,
    DatasetNotFoundError,
    RecBoleMargoError,
)
from recbole_margo.recbole_mends import refuse_users_who_know_all

# An item cannot be cold in these: their data hold items in more places than the interactions.
GENERAL = (ModelType.GENERAL, ModelType.TRADITIONAL)
USERS_PER_EVALUATION_BATCH = 1024
RECBOLE_EVAL_BATCH_SIZE = 4096
PARTS = ("train", "valid", "test")
# Keys by which RecBole leaves interactions out before it splits.
FILTERS = (
    "user_inter_num_interval",
    "item_inter_num_interval",
    "val_interval",
    "rm_dup_inter",
    "filter_inter_by_user_or_item",
    "entity_kg_num_interval",
    "relation_kg_num_interval",
)
LOOK_AT_FILES = (
    "look at the header of its files, tab-separated `field:type` as in `user_id:token`, and at "
    "`load_col`, `USER_ID_FIELD` and `ITEM_ID_FIELD`"
)
LOOK_AT_SPLIT = (
    "look at `eval_args` or the files of the split, which must leave interactions to train on"
)


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


def check_dataset(config: Any) -> None:
    """Look whether the interaction files of a dataset are there.

    Raises:
        DatasetNotFoundError: if the interaction files are missing; says which, where they were
            looked for and what brings them.
        ConfigError: if a fixed split has not three files, or the files have no columns of users
            and items; says which they have.
    """
    name, folder = config["dataset"], Path(config["data_path"])
    parts = config["benchmark_filename"]
    if parts and (not isinstance(parts, list) or len(parts) != len(PARTS)):
        raise ConfigError(
            f"`benchmark_filename` must name three parts, such as [train, valid, test], found "
            f"{parts!r}: for a part that there is not, write a file with the header line alone"
        )
    names = [f"{name}.{part}.inter" for part in parts] if parts else [f"{name}.inter"]
    missing = [file for file in names if not (folder / file).is_file()]
    if missing:
        raise DatasetNotFoundError(
            f"dataset {name!r} is not complete: {', '.join(missing)} not found in "
            f"{folder.resolve()}; make it of your own tables with `recbole-margo convert "
            f"tabular --source INTERACTIONS --name {name} --output_dir {folder.parent}`, or of one "
            "of the sources that `recbole-margo convert --help` names; or point `data_path` to the "
            "folder that holds it"
        )
    check_id_columns(config)
    check_rows(config)


def load_dataset(config: Any) -> Any:
    """Load a dataset with RecBole.

    Raises:
        DatasetNotFoundError: as `check_dataset` does.
        DatasetError: if RecBole cannot read the files.
    """
    check_dataset(config)
    with _errors_of_recbole(config, "read", LOOK_AT_FILES):
        return create_dataset(config)


@contextmanager
def _errors_of_recbole(config: Any, action: str, remedy: str) -> Iterator[None]:
    """Let what RecBole, or pandas under it, stumbles over in a dataset say where it is."""
    try:
        yield
    except (RecBoleMargoError, DataError, OSError, MemoryError):
        raise
    except Exception as error:
        folder = Path(config["data_path"]).resolve()
        raise DatasetError(
            f"RecBole cannot {action} the dataset {config['dataset']!r} in {folder} "
            f"({type(error).__name__}: {' '.join(str(error).split())}): {remedy}"
        ) from error


def load_and_split(config: Any) -> tuple[Any, tuple[Any, Any, Any]]:
    """Load a dataset and split it as `split_seed` says; without one the config's `seed` decides.

    Items that `cold_items` keeps out of training leave the dataset before the split.

    Args:
        config: the config, which names the model in `model_class`.

    Returns:
        RecBole's `Dataset`, and the loaders of training, validation and test.
    """
    init_seed(split_seed(config), config["reproducibility"])
    dataset = load_dataset(config)
    keep_items_cold(config, dataset, split_seed(config))
    return dataset, prepare_loaders(config, dataset, config.model_class)


def prepare_loaders(config: Any, dataset: Any, model_class: type[Any]) -> tuple[Any, Any, Any]:
    """Split a dataset and build the loaders of training, validation and test.

    In the protocol `recbole` a user's training and validation items leave the candidates at test;
    in the protocol `mmrec`, that of the published tables, only the training items do. Validation
    masks the training items in both. What is masked is no candidate of a sampled evaluation, whose
    candidates are drawn once for a split.

    Args:
        config: the config, whose `eval_batch_size` is filled if it has none: RecBole counts
            user-item cells, and 1,024 users a batch is our default.
        model_class: class of the model, which may score only pairs.

    Returns:
        RecBole's loaders of training, validation and test data; those of full rankings list their
        items compactly.
    """
    # RecBole stores loaders as soon as they are made, and whoever loads them expects its tensors.
    with nullcontext() if config["save_dataloaders"] else without_tensors_by_user():
        train, valid, test = recbole_loaders(config, dataset, model_class)
    use_compact_lists(valid)
    use_compact_lists(test)
    keep_candidates(valid, split_seed(config))
    masked = train._dataset if config["eval_protocol"] == "mmrec" else None
    keep_candidates(test, split_seed(config), masked)
    return train, valid, test


def recbole_loaders(config: Any, dataset: Any, model_class: type[Any]) -> tuple[Any, Any, Any]:
    """Split a dataset and build the loaders as RecBole leaves them; see `prepare_loaders`."""
    if config["eval_batch_size"] is None:
        of_pairs = AbstractRecommender.full_sort_predict  # decision trees have none at all
        ranks_all = getattr(model_class, "full_sort_predict", of_pairs) is not of_pairs
        users = USERS_PER_EVALUATION_BATCH * dataset.item_num
        config["eval_batch_size"] = users if ranks_all else RECBOLE_EVAL_BATCH_SIZE
    with _errors_of_recbole(config, "split", LOOK_AT_SPLIT):
        train, valid, test = data_preparation(config, dataset)
    refuse_impossible_negatives(valid, test)
    if not hasattr(model_class, "uses_negatives"):  # ours leave some interactions out instead
        refuse_impossible_negatives(train)
    if config["eval_protocol"] == "mmrec" and isinstance(test, FullSortEvalDataLoader):
        sampler = Sampler("train", train._dataset).set_phase("train")
        test = FullSortEvalDataLoader(config, test._dataset, sampler, shuffle=False)
    return train, valid, test


def split_seed(config: Any) -> int:
    """Return the seed of the split: `split_seed`, or else `seed`."""
    seed: int = config["seed"] if config["split_seed"] is None else config["split_seed"]
    return seed


def check_cutoffs(config: Any, dataset: Any) -> None:
    """Raise a `ConfigError` if rankings are to be cut off beyond the last item."""
    if config["eval_type"] == EvaluatorType.RANKING and max(config["topk"]) >= dataset.item_num:
        raise ConfigError(
            f"`topk` asks for the first {max(config['topk'])} items, but the dataset has "
            f"{dataset.item_num - 1}: give smaller numbers, and a `valid_metric` among them"
        )


def refuse_impossible_negatives(*loaders: Any) -> None:
    """Raise a `DataError` if loaders are to draw negatives for users who know every item."""
    for loader in loaders:
        arguments = getattr(loader, "neg_sample_args", {"sample_num": "none"})
        if "none" not in arguments.values() and type(loader._sampler) is Sampler:
            users = loader._dataset.inter_feat[loader._dataset.uid_field]
            refuse_users_who_know_all(loader._sampler, users)


def split_fingerprint(*loaders: Any) -> str:
    """Return a hash of which interactions are in which part, to show that models share a split.

    Returns:
        The first 16 hexadecimal digits of a SHA-256 over user and item tokens, by part.
    """
    digest = hashlib.sha256()
    for loader in loaders:
        part = loader._dataset
        users = part.field2id_token[part.uid_field][part.inter_feat[part.uid_field].numpy()]
        items = part.field2id_token[part.iid_field][part.inter_feat[part.iid_field].numpy()]
        pairs = np.char.add(np.char.add(users.astype(str), "\t"), items.astype(str))
        digest.update("\n".join(np.sort(pairs).tolist()).encode() + b"\n\n")
    return digest.hexdigest()[:16]
