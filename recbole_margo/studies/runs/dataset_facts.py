"""What a comparison's slices need to know of its dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recbole_margo.config import config_from_checkpoint
from recbole_margo.data.features import load_item_features
from recbole_margo.run import load_split


def dataset_facts(
    records: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, int], dict[str, int], dict[str, list[str]]]:
    """Return how often users and items were trained on, and which items miss which modality.

    Args:
        records: result records of finished runs on one split, at least one.

    Returns:
        Training interactions by user token and by item token, and the tokens of the items that
        miss a modality by modality; none if no model of the comparison uses features.
    """
    with_features = [record for record in records if record["modalities"]]
    config = config_from_checkpoint((with_features or records)[0]["config"])
    loaders = load_split(config)
    train = loaders[0]._dataset
    missing = {}
    if with_features:
        features = load_item_features(config, train)
        items = train.field2id_token[train.iid_field].astype(str)
        for modality, present in zip(features.modalities, features.mask.T.numpy(), strict=True):
            missing[modality] = [str(token) for token in items[1:][~present[1:]]]
    return _counts(train, train.uid_field), _counts(train, train.iid_field), missing


def _counts(dataset: Any, field: str) -> dict[str, int]:
    tokens = dataset.field2id_token[field].astype(str)
    counts = np.bincount(dataset.inter_feat[field].numpy(), minlength=len(tokens))
    return {str(token): int(count) for token, count in zip(tokens[1:], counts[1:], strict=True)}
