"""The result of an inspection: numbers, verdicts, warnings and their plain form."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from recbole.utils import init_seed

from recbole_margo.data.features import ItemFeatures, feature_folder, load_item_features
from recbole_margo.data.protocol import load_dataset, prepare_loaders
from recbole_margo.inspection.alignment import Alignment, Verdict
from recbole_margo.inspection.statistics import (
    NEAR_COSINE,
    InteractionStatistics,
    ModalityStatistics,
    degrees,
    row_norms,
)
from recbole_margo.store.manifest import FeatureManifest

LOW_COVERAGE = 0.5
MANY_DUPLICATES = 0.05


@dataclass(frozen=True)
class DatasetInspection:
    """The result of an inspection.

    Attributes:
        modalities: modality -> what its features are like.
        degrees: training interactions of every user and of every item.
        norms: modality -> lengths of its rows.
    """

    dataset: str
    interactions: InteractionStatistics
    modalities: dict[str, ModalityStatistics]
    degrees: tuple[NDArray[np.int64], NDArray[np.int64]]
    norms: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, config: Any) -> DatasetInspection:
        """Inspect the dataset of a config, on the splits that training with it uses.

        A normalisation that the config names is not applied. A `DataError` says what is missing or
        damaged.
        """
        # As a run begins: the split of a dataset without benchmark files is drawn from this seed.
        init_seed(config["seed"], config["reproducibility"])
        loaders = prepare_loaders(config, load_dataset(config), config.model_class)
        train = loaders[0]._dataset
        splits = {
            split: interaction_matrix(loader._dataset)
            for split, loader in zip(("train", "valid", "test"), loaders, strict=True)
        }
        tokens = train.field2id_token[train.iid_field].astype(str)
        modalities, norms = {}, {}
        features = _features(config, train)
        if features is not None:
            orders = _row_orders(config, features, tokens)
            for modality, matrix in zip(features.modalities, features.matrices, strict=True):
                order = orders[modality]
                modalities[modality] = ModalityStatistics.of(
                    matrix,
                    order,
                    tokens,
                    splits["train"],
                    splits["valid"] + splits["test"],
                    f"testing {modality}",
                )
                norms[modality] = row_norms(matrix[torch.from_numpy(order)])
        return cls(
            config["dataset"],
            InteractionStatistics.of(splits),
            modalities,
            degrees(splits["train"]),
            norms,
        )

    @property
    def alignments(self) -> dict[str, Alignment]:
        """The measurements of the modalities that users' later interactions say something of."""
        found = {name: one.alignment for name, one in self.modalities.items()}
        return {name: one for name, one in found.items() if one is not None}

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Modality -> what is to be said of it."""
        return {name: one.verdict for name, one in self.alignments.items()}

    def with_verdict(self, verdict: Verdict) -> list[str]:
        """Return the modalities of which this is said."""
        return [name for name, found in self.verdicts.items() if found is verdict]

    @property
    def next_step(self) -> str:
        """How to go on from whole modalities to single items."""
        return (
            f"Which items' rows do not fit: recbole-margo audit --dataset={self.dataset} (seconds, "
            "without a model)"
        )

    @property
    def warnings(self) -> list[str]:
        """Sentences on all that the user should look into."""
        found = [self._misalignment(name) for name in self.with_verdict(Verdict.NO_SIGN)]
        found += [self._weakness(name) for name in self.with_verdict(Verdict.WEAK)]
        if not self.modalities:
            found.append("there are no features; multimodal models need some (docs/encode.md)")
        for name, modality in self.modalities.items():
            found += self._equal_rows(name)
            share = modality.duplicates.near_items / modality.duplicates.compared_items
            if share > MANY_DUPLICATES:
                found.append(
                    f"{share:.0%} of the items with {name!r} nearly equal another item (cosine "
                    f"> {NEAR_COSINE}); are there placeholder images or texts?"
                )
            if modality.coverage < LOW_COVERAGE:
                found.append(f"only {modality.coverage:.0%} of the items have {name!r}")
        if self.interactions.repeated:
            found.append(
                f"{self.interactions.repeated:,} validation and test interactions are in the "
                "training split too"
            )
        return found

    def _misalignment(self, modality: str) -> str:
        found = self.alignments[modality]
        tokens = f"{self.dataset}.{modality}.tokens"
        if found.better_shift is not None:
            return (
                f"ALIGNMENT: the rows of {modality!r} seem to be off by one: Recall@20 of kNN is "
                f"{found.recall:.4f}, but {found.shifted[found.better_shift]:.4f} when every row "
                f"is given to the item {found.better_shift:+d} row in {tokens}. Was a header or a "
                "first row lost or added?"
            )
        return (
            f"ALIGNMENT: no sign that the rows of {modality!r} belong to their items: permuted "
            f"rows do as well. Check the order of the rows against {tokens}. (Or its content says "
            "nothing about what users like; then it does not help a model either.)"
        )

    def _equal_rows(self, modality: str) -> list[str]:
        found = self.modalities[modality].duplicates
        if not found.exact_items:
            return []
        named = [" = ".join(group) for group in found.exact_examples]
        more = ", ..." if found.exact_groups > len(named) else ""
        return [
            f"{found.exact_items:,} items have a row of {modality!r} that equals another item's: "
            f"{', '.join(named)}{more}; `recbole-margo audit` lists them"
        ]

    def _weakness(self, modality: str) -> str:
        found = self.alignments[modality].neighbors
        return (
            f"the rows of {modality!r} belong to their items but say little about what users like: "
            f"{found.lift:.2f} times what permuted rows say (p = {found.p_value:.3f})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything but what only the figure shows as plain values."""
        modalities = {name: asdict(found) for name, found in self.modalities.items()}
        for name, one in self.alignments.items():
            modalities[name]["alignment"] |= {
                "shuffled_mean": one.shuffled_mean,
                "shuffled_deviation": one.shuffled_deviation,
                "strength": one.strength,
                "better_shift": one.better_shift,
                "p_value": one.neighbors.p_value,
                "effect": one.neighbors.lift,
                "verdict": one.verdict.value,
                "is_aligned": one.verdict is not Verdict.NO_SIGN,
            }
        return {
            "format": 1,
            "dataset": self.dataset,
            "interactions": asdict(self.interactions),
            "modalities": modalities,
            "warnings": self.warnings,
        }


def interaction_matrix(part: Any) -> sp.csr_matrix:
    """Return how often each user and item occur together [U, I] in a part of RecBole's dataset."""
    users = part.inter_feat[part.uid_field].numpy()
    items = part.inter_feat[part.iid_field].numpy()
    shape = (part.user_num, part.item_num)
    return sp.csr_matrix((np.ones(len(users), np.int64), (users, items)), shape=shape)


def _row_orders(
    config: Any, features: ItemFeatures, tokens: NDArray[np.str_]
) -> dict[str, NDArray[np.intp]]:
    """Return modality -> internal ids of its items, in the order of the rows of the file."""
    folder = feature_folder(config)
    manifest = FeatureManifest.read(folder, config["dataset"])
    id_of = {str(token): item for item, token in enumerate(tokens)}
    orders = {}
    for modality, present in zip(features.modalities, features.mask.T, strict=True):
        path = folder / manifest.modalities[modality].tokens
        rows = path.read_text(encoding="utf-8").split("\n")
        items = np.array([id_of.get(token, 0) for token in rows], dtype=np.intp)
        orders[modality] = items[present.numpy()[items]]
    return orders


def _features(config: Any, dataset: Any) -> ItemFeatures | None:
    try:
        return load_item_features(config, dataset)
    except ValueError:
        folder: Path = feature_folder(config)
        if FeatureManifest.path(folder, config["dataset"]).exists():
            raise
        return None
