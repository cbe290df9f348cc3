"""The base of all converters: how a dataset is put in its place, and the report of it."""

from __future__ import annotations

import argparse
import filecmp
import re
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pandas as pd
import yaml

from recbole_margo.command_line import add_options, from_options, option
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import SPLITS, read_splits
from recbole_margo.store.manifest import FeatureManifest
from recbole_margo.store.writing import (
    LOCK,
    disk_errors,
    remove_abandoned,
    temporary_folder,
    temporary_sibling,
)


@dataclass(frozen=True)
class ConversionReport:
    """Counts of a converted dataset.

    Attributes:
        rows: split -> interactions written.
        modalities: modality -> (columns, items with an interaction that miss it).
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
        """Count what lies in a dataset's folder."""
        splits = read_splits(folder, dataset)
        together = pd.concat(splits.values(), ignore_index=True)
        items = set(together["item_id"])
        notes = list(notes)
        repeated = int(together.duplicated().sum())
        if repeated:
            notes.append(f"{repeated} interactions repeat a user and item that occurred before")
        held_out = pd.concat([splits["valid"], splits["test"]])
        known = len(held_out.merge(splits["train"].drop_duplicates()))
        if known:
            notes.append(
                f"{known} interactions of validation and test are in the training too; what a user "
                "has there is not recommended, so they count as misses"
            )
        strangers = set(together["user_id"]) - set(splits["train"]["user_id"])
        if strangers:
            notes.append(f"{len(strangers)} users have no training interaction")
        modalities = {}
        # Raw texts and images become features later, with an encoder.
        if FeatureManifest.path(folder, dataset).exists():
            for name, entry in FeatureManifest.read(folder, dataset).modalities.items():
                covered = (folder / entry.tokens).read_text(encoding="utf-8").split("\n")
                modalities[name] = (entry.dim, len(items.difference(covered)))
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


DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# RecBole reads this dataset from its own wheel, whatever lies in the dataset folder.
RESERVED_NAME = "ml-100k"


@dataclass(frozen=True)
class Destination:
    """Where a dataset goes, and how."""

    output_dir: Path = option(
        "folder of all datasets; the result is DIR/NAME (default: dataset)",
        Path("dataset"),
        metavar="DIR",
    )
    overwrite: bool = option(
        "replace a dataset of this name with other content, and everything in its folder", False
    )
    dry_run: bool = option("show the report and write no dataset", False)


@dataclass
class Converter(ABC):
    """One kind of source that becomes a dataset folder; its options are its fields.

    Attributes:
        source_is_file: whether the source is one file; else it is a folder.
    """

    command: ClassVar[str]
    summary: ClassVar[str]
    source_is_file: ClassVar[bool] = False

    source: Path = option("folder of the raw data", metavar="DIR")
    name: str = option("name of the dataset to make")

    def __post_init__(self) -> None:
        """Refuse a source that does not exist, and a name that no folder can have."""
        expected = "file" if self.source_is_file else "folder"
        if not (self.source.is_file() if self.source_is_file else self.source.is_dir()):
            raise DataError(f"--source: expected a {expected}, found that {self.source} is none.")
        if not DATASET_NAME.fullmatch(self.name) or self.name == RESERVED_NAME:
            raise DataError(
                "--name: expected letters, digits, '_', '-' and '.', and not "
                f"{RESERVED_NAME!r}, which RecBole reads from its own package; found {self.name!r}."
            )

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of the converter and of the destination."""
        add_options(parser, cls)
        add_options(parser, Destination, target=parser.add_argument_group("destination"))

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> Converter:
        """Return the converter that a parsed command line describes."""
        return from_options(cls, arguments)

    @abstractmethod
    def build(self, folder: Path) -> ConversionReport:
        """Write all files of the dataset into a folder that is empty, and becomes the dataset's."""

    def run(self, output: Path, overwrite: bool = False) -> tuple[ConversionReport, bool]:
        """Convert, and put the result in place only when it is whole.

        Returns:
            The report, and whether anything changed: converting the same source again does not.
        """
        target = output / self.name
        with disk_errors(target):
            output.mkdir(parents=True, exist_ok=True)
            remove_abandoned(output)
            with temporary_folder(target) as building:
                report = self.build(building)
                return report, self._put_in_place(target, building, overwrite)

    def preview(self) -> ConversionReport:
        """Convert into a folder that is thrown away."""
        with (
            disk_errors(Path(tempfile.gettempdir()) / self.name),
            tempfile.TemporaryDirectory() as folder,
        ):
            return self.build(Path(folder))

    def write_config(self, folder: Path, **more: int) -> list[str]:
        """Write `<name>.yaml`, so that `--dataset=<name>` trains; return the modalities in it."""
        found: list[str] = []
        if FeatureManifest.path(folder, self.name).exists():
            found += FeatureManifest.read(folder, self.name).modalities
        values = dataset_config(found, **more)
        text = yaml.safe_dump(values, sort_keys=False, default_flow_style=None)
        (folder / f"{self.name}.yaml").write_text(text, encoding="utf-8")
        return found

    def _put_in_place(self, target: Path, building: Path, overwrite: bool) -> bool:
        if not target.exists():
            try:
                building.rename(target)
                return True
            except OSError:
                if not target.exists():
                    raise  # else another process has made it since
        if _contains(target, building):
            return False
        self._replace(target, building, overwrite)
        return True

    def _replace(self, target: Path, building: Path, overwrite: bool) -> None:
        if not overwrite:
            raise DataError(
                f"{target}: expected no dataset of this name, found one with other content. Choose "
                "another --name, or give --overwrite to replace the folder and everything in it."
            )
        # A mistyped --output_dir must not cost somebody a folder that never was a dataset.
        if not any(target.glob(f"{self.name}.*")):
            raise DataError(
                f"{target}: expected a dataset to overwrite, found no file named {self.name}.*. "
                "Choose another --output_dir or --name."
            )
        old = temporary_sibling(target)
        target.rename(old)
        try:
            building.rename(target)
        except OSError:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _contains(folder: Path, part: Path) -> bool:
    """Tell whether every file of `part` is in `folder` with the same content."""
    names = [path.name for path in part.iterdir() if path.name != LOCK]
    return len(filecmp.cmpfiles(folder, part, names, shallow=False)[0]) == len(names)


def dataset_config(modalities: list[str], **more: int) -> dict[str, object]:
    """Return the protocol of the published tables, and what more a source says of training."""
    return {
        "benchmark_filename": list(SPLITS),
        "load_col": {"inter": ["user_id", "item_id"]},
        "modalities": modalities or None,
        "feature_normalization": "none",
        "metrics": ["Recall", "NDCG"],
        "topk": [10, 20],
        "valid_metric": "Recall@20",
        **more,
    }


def convert(kind: type[Converter], parsed: argparse.Namespace) -> int:
    """Run a converter as a parsed command line says, print its report and return the status."""
    with disk_errors(parsed.output_dir):
        converter = kind.from_arguments(parsed)
        if parsed.dry_run:
            sys.stdout.write(f"{converter.preview()}\nnothing written (--dry_run)\n")
            return 0
        report, changed = converter.run(parsed.output_dir, parsed.overwrite)
    target = parsed.output_dir / converter.name
    outcome = f"written to {target}" if changed else f"{target} holds this already"
    sys.stdout.write(f"{report}\n{outcome}\n")
    return 0
