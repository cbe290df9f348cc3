"""The base of converters of raw interactions: from rows to splits, texts, images, features."""

from __future__ import annotations

import shlex
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dataset_converters.base import ConversionReport, Converter
from dataset_converters.interactions import RawInteractions, value_notes
from dataset_converters.item_inputs import ItemInputs, NamesByItem, find_images, read_keyed_matrix
from dataset_converters.preparation import Preparation
from recbole_margo.command_line import group
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import (
    joined_texts,
    write_images,
    write_item_table,
    write_splits,
    write_texts,
)
from recbole_margo.store.feature_files import write_features
from recbole_margo.store.manifest import EncoderRecord
from recbole_margo.store.tables.columns import check_overlap
from recbole_margo.store.text_space import TFIDF, TextSpace

FILES = "files (by default they are found in the source)"


@dataclass
class InteractionConverter(Converter):
    """A source of interactions that are filtered and split here."""

    preparation: Preparation = group(Preparation(), "interactions")
    inputs: ItemInputs = group(ItemInputs(), "items")

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

    def item_table(self, texts: pd.DataFrame) -> pd.DataFrame:
        """Return what `<name>.item` holds, by default the texts of items."""
        return texts

    def write_own_features(self, folder: Path, items: Sequence[str]) -> list[str]:
        """Write the matrices that the source itself has, most have none; return notes."""
        return []

    def ids_of_rows(self, rows: int) -> list[str] | None:
        """Return the items of a `.npy` without ids, if the source has a rule for them."""
        return None

    def names_by_item(self) -> NamesByItem | None:
        """Return what tells the items of images by their names, where those are no tokens."""
        return None

    def build(self, folder: Path) -> ConversionReport:
        """Write splits, texts, images, features and the configuration."""
        raw = self.read_interactions()
        raw.notes += value_notes(raw.table)
        tables = self.preparation.apply(raw, str(self.source))
        items = raw.item_tokens()
        write_splits(folder, self.name, {s: raw.with_tokens(t) for s, t in tables.items()})
        rows_read, notes, dropped = raw.rows_read, list(raw.notes), raw.dropped
        del raw, tables

        texts, more_notes = self.read_texts(items)
        notes += more_notes + self._write_images(folder, items)
        notes += self.write_own_features(folder, items)
        notes += self._write_ready_features(folder, items)
        if texts is not None:
            notes += self._write_texts(folder, items, texts)
        if not self.write_config(folder):
            notes.append("no features yet: give --features, or encode texts or images")
        return ConversionReport.of(folder, self.name, rows_read, notes, dropped)

    def _write_images(self, folder: Path, items: Sequence[str]) -> list[str]:
        if self.inputs.images is None:
            return []
        images, notes = find_images(self.inputs.images, items, self.names_by_item())
        write_images(folder, self.name, images)
        images_dir = shlex.quote(str(self.inputs.images))
        notes.append(f"thumbnails: recbole-margo bundle ... --images {images_dir}")
        return [f"{len(images):,} of {len(items):,} items have an image", *notes]

    def _write_ready_features(self, folder: Path, items: Sequence[str]) -> list[str]:
        wanted, notes = set(items), []
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
        return notes

    def _write_texts(self, folder: Path, items: Sequence[str], texts: pd.DataFrame) -> list[str]:
        write_item_table(folder, self.name, self.item_table(texts))
        joined = joined_texts(texts)
        write_texts(folder, self.name, joined)
        notes = [f"{len(joined):,} of {len(items):,} items have a text"]
        if not self.inputs.text_features or "text" in self.inputs.features:
            return notes
        where = str(self.source)
        space, matrix = TextSpace.fit(list(joined.values()), self.inputs.text_dimension, where)
        space.write(TextSpace.path(folder, self.name, "text"))
        source = f"TF-IDF and SVD of {', '.join(texts.columns)}"
        encoder = EncoderRecord("text", TFIDF, space.fingerprint)
        write_features(folder, self.name, "text", matrix, list(joined), source, encoder)
        return notes


def only_file(files: Sequence[Path], what: str, flag: str, source: Path) -> Path | None:
    """Return the only one of files, or None if there are none."""
    if len(files) > 1:
        raise DataError(
            f"{source}: expected one {what}, found {', '.join(path.name for path in files)}. Name "
            f"one with {flag}."
        )
    return files[0] if files else None
