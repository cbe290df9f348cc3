"""What a conversion made, counted from the files that it wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from recbole_margo.store.dataset_files import read_splits
from recbole_margo.store.manifest import FeatureManifest


@dataclass(frozen=True)
class ConversionReport:
    """Counts of a converted dataset.

    Attributes:
        dataset: its name.
        rows_read: interactions in the source.
        rows: split -> interactions written.
        users: users that occur in any split.
        items: items that occur in any split.
        modalities: modality -> (columns, items with an interaction that miss it).
        notes: what else the user should know.
        dropped: reason -> interactions of the source that were not written.
    """

    dataset: str
    rows_read: int
    rows: dict[str, int]
    users: int
    items: int
    modalities: dict[str, tuple[int, int]]
    notes: tuple[str, ...]
    dropped: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        folder: Path,
        dataset: str,
        rows_read: int,
        notes: Sequence[str],
        dropped: Mapping[str, int] | None = None,
    ) -> ConversionReport:
        """Count what lies in a dataset's folder.

        Args:
            folder: the folder with the `.inter` files of every split and the features.
            dataset: name of the dataset.
            rows_read: interactions in the source.
            notes: what else the user should know.
            dropped: reason -> interactions of the source that were not written.

        Returns:
            The report.
        """
        splits = read_splits(folder, dataset)
        together = pd.concat(splits.values(), ignore_index=True)
        items = set(together["item_id"])
        notes = list(notes)
        repeated = int(together.duplicated().sum())
        if repeated:
            notes.append(f"{repeated} interactions repeat a user and item that occurred before")
        strangers = set(together["user_id"]) - set(splits["train"]["user_id"])
        if strangers:
            notes.append(f"{len(strangers)} users have no training interaction")
        modalities = {}
        # Raw texts and images become features later, with an encoder.
        if FeatureManifest.path(folder, dataset).exists():
            for name, entry in FeatureManifest.read(folder, dataset).modalities.items():
                having = (folder / entry.tokens).read_text(encoding="utf-8").split("\n")
                modalities[name] = (entry.dim, len(items.difference(having)))
        return cls(
            dataset,
            rows_read,
            {split: len(table) for split, table in splits.items()},
            together["user_id"].nunique(),
            len(items),
            modalities,
            tuple(notes),
            dict(dropped or {}),
        )

    def __str__(self) -> str:
        """Return the report as lines for a terminal."""
        written = sum(self.rows.values())
        lines = [
            f"rows read     {self.rows_read:,}",
            *(f"dropped       {count:,}: {reason}" for reason, count in self.dropped.items()),
            f"users         {self.users:,}",
            f"items         {self.items:,}",
            f"density       {written / (self.users * self.items):.4%}",
            *(f"{split:<13} {count:,}" for split, count in self.rows.items()),
            *(
                f"{name:<13} {columns:,} columns, {missing:,} items miss it"
                for name, (columns, missing) in self.modalities.items()
            ),
            *(f"note          {note}" for note in self.notes),
        ]
        return "\n".join(lines)
