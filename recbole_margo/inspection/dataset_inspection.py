"""The result of an inspection: numbers, warnings, text, JSON and a figure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from recbole.utils import init_seed
from tabulate import tabulate

from recbole_margo.data.features import ItemFeatures, feature_folder, load_item_features
from recbole_margo.data.protocol import load_dataset, prepare_loaders
from recbole_margo.inspection.figures import DatasetFigure
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
    """What an inspection found.

    Attributes:
        dataset: name of the dataset.
        interactions: counts of the interactions.
        modalities: modality -> what its features are like.
        figure: what the figure shows.
    """

    dataset: str
    interactions: InteractionStatistics
    modalities: dict[str, ModalityStatistics]
    figure: DatasetFigure

    @classmethod
    def of(cls, config: Any) -> DatasetInspection:
        """Inspect the dataset of a config, on the splits that training with it uses.

        Args:
            config: the config; a normalisation that it names is not applied.

        Raises:
            DataError: interactions or features are missing or damaged.
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
                    matrix, order, tokens, splits["train"], splits["valid"], f"testing {modality}"
                )
                norms[modality] = row_norms(matrix[torch.from_numpy(order)])
        user_degrees, item_degrees = degrees(splits["train"])
        figure = DatasetFigure(
            title=f"Dataset {config['dataset']}",
            user_degrees=user_degrees,
            item_degrees=item_degrees,
            norms=norms,
            coverage={name: found.coverage for name, found in modalities.items()},
            recall={
                name: (found.alignment.recall, found.alignment.shuffled)
                for name, found in modalities.items()
                if found.alignment
            },
        )
        return cls(config["dataset"], InteractionStatistics.of(splits), modalities, figure)

    @property
    def misaligned(self) -> list[str]:
        """Modalities whose rows are not clearly better than shuffled ones."""
        return [
            name
            for name, found in self.modalities.items()
            if found.alignment and not found.alignment.is_aligned
        ]

    @property
    def warnings(self) -> list[str]:
        """What the user should look into."""
        found = [self._misalignment(name) for name in self.misaligned]
        if not self.modalities:
            found.append("there are no features; multimodal models need some (docs/encode.md)")
        for name, modality in self.modalities.items():
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
        found = self.modalities[modality].alignment
        tokens = f"{self.dataset}.{modality}.tokens"
        if found is not None and found.better_shift is not None:
            return (
                f"ALIGNMENT: the rows of {modality!r} seem to be off by one: Recall@20 of kNN is "
                f"{found.recall:.4f}, but {found.shifted[found.better_shift]:.4f} when every row "
                f"is given to the item {found.better_shift:+d} row in {tokens}. Was a header or a "
                "first row lost or added?"
            )
        return (
            f"ALIGNMENT: the rows of {modality!r} and the items do not seem to belong together: "
            "kNN by its features finds no more of what users like than with shuffled rows. Check "
            f"the order of the rows against {tokens}. (Or its content says nothing about what "
            "users like; then it does not help a model either.)"
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything but the figure as plain values."""
        modalities = {}
        for name, found in self.modalities.items():
            modalities[name] = asdict(found)
            if found.alignment:
                modalities[name]["alignment"] |= {
                    "shuffled_mean": found.alignment.shuffled_mean,
                    "shuffled_deviation": found.alignment.shuffled_deviation,
                    "strength": found.alignment.strength,
                    "better_shift": found.alignment.better_shift,
                    "is_aligned": found.alignment.is_aligned,
                }
        return {
            "format": 1,
            "dataset": self.dataset,
            "interactions": asdict(self.interactions),
            "modalities": modalities,
            "warnings": self.warnings,
        }

    def __str__(self) -> str:
        """Return the numbers as text for a terminal."""
        return "\n\n".join(
            part for part in (self._interactions(), self._modalities(), self._alignment()) if part
        )

    def _interactions(self) -> str:
        found = self.interactions
        total = sum(found.interactions.values())
        splits = " / ".join(f"{count:,}" for count in found.interactions.values())
        names = list(found.user_degrees)
        table = tabulate(
            [
                ["of a user", *(f"{found.user_degrees[name]:.4g}" for name in names)],
                ["of an item", *(f"{found.item_degrees[name]:.4g}" for name in names)],
            ],
            headers=["training interactions", *names],
            disable_numparse=True,
            colalign=["left"] + ["right"] * len(names),
        )
        return (
            f"{self.dataset}: {found.users:,} users, {found.items:,} items, {total:,} interactions "
            f"({splits} train / valid / test), density {found.density:.4%}\n"
            f"without a training interaction (cold): {found.cold_items:,} items, "
            f"{found.cold_users:,} users\n\n{table}"
        )

    def _modalities(self) -> str:
        rows = [
            [
                name,
                f"{found.items:,}",
                f"{found.coverage:.1%}",
                f"{found.interaction_coverage:.1%}",
                f"{found.dimension:,}",
                f"{found.rank:,} of {min(found.rank_rows, found.dimension):,}",
                f"{found.principal_dimension:,}",
                f"{found.norms['median']:.3g} ({found.norms['10%']:.3g}-{found.norms['90%']:.3g})",
                f"{found.duplicates.exact_items:,}",
                f"{found.duplicates.near_items:,}",
            ]
            for name, found in self.modalities.items()
        ]
        headers = "modality,items,coverage,of training,columns,rank,90% variance"
        headers += ",norm (10%-90%),duplicates,near duplicates"
        return tabulate(rows, headers=headers.split(","), disable_numparse=True) if rows else ""

    def _alignment(self) -> str:
        rows = [
            [
                name,
                f"{found.alignment.recall:.4f}",
                f"{found.alignment.shuffled_mean:.4f} ± {found.alignment.shuffled_deviation:.4f}",
                f"{found.alignment.strength:.1f}",
                "belong together" if found.alignment.is_aligned else "NOT CLEARLY TOGETHER",
            ]
            for name, found in self.modalities.items()
            if found.alignment
        ]
        headers = ["content kNN", "Recall@20", "shuffled rows", "above noise", "rows and items"]
        return tabulate(rows, headers=headers, disable_numparse=True) if rows else ""


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
    """Return all features of the dataset; None when it has none, which is no error here."""
    try:
        return load_item_features(config, dataset)
    except ValueError:
        folder: Path = feature_folder(config)
        if FeatureManifest.path(folder, config["dataset"]).exists():
            raise
        return None
