"""What the converters of raw interactions share: from rows to splits, texts, images, features."""

from __future__ import annotations

import argparse
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pandas as pd

from dataset_converters.base import Converter
from dataset_converters.conversion_report import ConversionReport
from dataset_converters.item_images import NamesByItem, find_images
from dataset_converters.item_inputs import ItemInputs
from dataset_converters.keyed_matrix import read_keyed_matrix
from dataset_converters.preparation import Preparation
from dataset_converters.raw_interactions import RawInteractions
from dataset_converters.value_notes import value_notes
from recbole_margo.store.dataset_files import (
    SPLITS,
    write_images,
    write_item_table,
    write_splits,
    write_texts,
)
from recbole_margo.store.feature_files import write_features
from recbole_margo.store.tables.columns import check_overlap
from recbole_margo.store.text_features import text_features


class InteractionConverter(Converter):
    """A source of interactions that are filtered and split here.

    Attributes:
        preparation: how they are, when the user says nothing else.
        images_option: what the source calls its images.
    """

    preparation: ClassVar[Preparation] = Preparation()
    images_option: ClassVar[str] = "--images"

    def __init__(
        self,
        source: Path,
        name: str,
        preparation: Preparation | None = None,
        inputs: ItemInputs | None = None,
    ) -> None:
        """Remember what is to be converted, and how.

        Args:
            source: the source.
            name: name of the dataset to make.
            preparation: filters and split; None takes those of the class.
            inputs: images, matrices and text features; None takes the defaults.
        """
        super().__init__(source, name)
        self.chosen = preparation or self.preparation
        self.inputs = inputs or ItemInputs()

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of filters, split and items to the common options."""
        super().add_arguments(parser)
        cls.preparation.add_arguments(parser)
        ItemInputs.add_arguments(parser, cls.images_option)

    @abstractmethod
    def read_interactions(self) -> RawInteractions:
        """Read the source."""

    @abstractmethod
    def read_texts(self, items: Sequence[str]) -> tuple[pd.DataFrame | None, list[str]]:
        """Read what the source says of items.

        Args:
            items: tokens of the items that have interactions, in order of first appearance.

        Returns:
            Text columns by item token, in the order of `items`, without items that have no text;
            None if the source has no texts. And notes for the report.
        """

    def write_own_features(self, folder: Path, items: Sequence[str]) -> list[str]:
        """Write the matrices that the source itself has; most have none.

        Args:
            folder: the dataset's folder.
            items: as in `read_texts`.

        Returns:
            The modalities written.
        """
        return []

    def ids_of_rows(self, rows: int) -> list[str] | None:
        """Return the items of a `.npy` without ids, if the source has a rule for them.

        Args:
            rows: of the matrix.
        """
        return None

    def names_by_item(self) -> NamesByItem | None:
        """Return what tells the items of images by their names, where those are no tokens."""
        return None

    def build(self, folder: Path) -> ConversionReport:
        """Write splits, texts, images, features and the configuration."""
        raw = self.read_interactions()
        raw.notes += value_notes(raw.table)
        tables = self.chosen.apply(raw, str(self.source))
        items = raw.item_tokens()
        write_splits(folder, self.name, {s: raw.with_tokens(t) for s, t in tables.items()})
        rows_read, notes, dropped = raw.rows_read, list(raw.notes), raw.dropped
        del raw, tables

        texts, more_notes = self.read_texts(items)
        notes += more_notes + self._write_images(folder, items)
        modalities = self.write_own_features(folder, items)
        modalities += self._write_ready_features(folder, items, notes)
        if texts is not None:
            modalities += self._write_texts(folder, items, texts, notes)
        self.write_config(folder, _dataset_config(modalities))
        if not modalities:
            notes.append("no features yet: give --features, or encode texts or images")
        return ConversionReport.of(folder, self.name, rows_read, notes, dropped)

    def _write_images(self, folder: Path, items: Sequence[str]) -> list[str]:
        if self.inputs.images is None:
            return []
        images, notes = find_images(self.inputs.images, items, self.names_by_item())
        write_images(folder, self.name, images)
        return [f"{len(images):,} of {len(items):,} items have an image", *notes]

    def _write_ready_features(
        self, folder: Path, items: Sequence[str], notes: list[str]
    ) -> list[str]:
        wanted = set(items)
        for modality, path in self.inputs.features.items():
            matrix, ids = read_keyed_matrix(
                path, self.inputs.feature_ids.get(modality), self.ids_of_rows
            )
            check_overlap(ids, items, path)
            rows = [row for row, item in enumerate(ids) if item in wanted]
            if len(rows) < len(ids):
                notes.append(f"{len(ids) - len(rows):,} rows of {path.name} belong to other items")
                matrix, ids = matrix[rows], [ids[row] for row in rows]
            write_features(folder, self.name, modality, matrix, ids, path.name)
        return list(self.inputs.features)

    def _write_texts(
        self, folder: Path, items: Sequence[str], texts: pd.DataFrame, notes: list[str]
    ) -> list[str]:
        write_item_table(folder, self.name, texts)
        joined = {
            item: " ".join(filter(None, cells))
            for item, cells in zip(texts.index, texts.to_numpy(), strict=True)
        }
        write_texts(folder, self.name, joined)
        notes.append(f"{len(joined):,} of {len(items):,} items have a text")
        if not self.inputs.text_features or "text" in self.inputs.features:
            return []
        where = str(self.source)
        matrix = text_features(list(joined.values()), self.inputs.text_dimension, where)
        source = f"TF-IDF and SVD of {', '.join(texts.columns)}"
        write_features(folder, self.name, "text", matrix, list(joined), source)
        return ["text"]


def _dataset_config(modalities: list[str]) -> dict[str, object]:
    """Return the protocol of the published tables; how long to train is left to the defaults."""
    return {
        "benchmark_filename": list(SPLITS),
        "load_col": {"inter": ["user_id", "item_id"]},
        "modalities": modalities or None,
        "feature_normalization": "none",
        "metrics": ["Recall", "NDCG"],
        "topk": [10, 20],
        "valid_metric": "Recall@20",
    }
