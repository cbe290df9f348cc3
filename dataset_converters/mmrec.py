"""MMRec's layout: `<name>.inter` with the column x_label, and a matrix by itemID a modality."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dataset_converters.base import ConversionReport, Converter
from dataset_converters.downloads import URLS, mmrec_files
from dataset_converters.interaction_converter import FILES
from dataset_converters.interactions import to_numbers, value_notes
from dataset_converters.numbered_items import (
    ItemTables,
    repeated_rows_option,
    write_numbered_features,
)
from recbole_margo.command_line import group, option
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import SPLITS, write_splits
from recbole_margo.store.tables.delimited import DelimitedTable

LOCK_FILE = "downloads.lock.json"
DEFAULT_FEATURES = {"image": "image_feat.npy", "text": "text_feat.npy"}
# Under these settings the published tables on MMRec's data sets were made.
TRAINING = {"epochs": 1000, "stopping_step": 20, "train_batch_size": 2048}
REQUIRED = ("userID", "itemID", "x_label")
FIELDS = {
    "userID": "user_id",
    "itemID": "item_id",
    "rating": "rating",
    "timestamp": "timestamp",
    "x_label": "x_label",
}
# Pattern, largest value and name; more digits do not fit into 64 bits.
IDENTIFIER = ("[0-9]{1,18}", np.iinfo(np.int64).max, "a whole number from 0")
LABEL = ("[012]", 2, "0 (train), 1 (validation) or 2 (test)")


@dataclass
class MMRecConverter(Converter):
    """Converts MMRec's layout; its split (x_label 0, 1, 2) is kept exactly.

    Row r of a feature file belongs to itemID r. Users and items keep their numbers as tokens.
    """

    command = "mmrec"
    summary = "MMRec's layout: NAME.inter with x_label, image_feat.npy, text_feat.npy, ..."

    features: dict[str, str] | None = option(
        "a modality and its matrix in the source, such as audio=audio_feat.npy; once for each "
        "(default: image=image_feat.npy and text=text_feat.npy, where they exist)",
        None,
        flag="--feature",
        metavar="MODALITY=FILE",
    )
    download: str | None = option(
        "first fetch this published data set into --source (needs gdown), or go on with it; "
        f"checksums are pinned in {LOCK_FILE} in --output_dir",
        None,
        choices=URLS,
    )
    mirror: str | None = option(
        "with --download: another address, which holds DATASET/FILE", None, metavar="URL"
    )
    repeated_rows: str = repeated_rows_option()
    tables: ItemTables = group(ItemTables(), FILES)

    def __post_init__(self) -> None:
        """Find the files."""
        super().__post_init__()
        self._interactions_file = _interactions_file(self.source, self.name)
        self._features = _feature_files(self.source, self.features or None)

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> Converter:
        """Return the converter that a parsed command line describes, after fetching its source."""
        if arguments.download:
            files = mmrec_files(arguments.download, arguments.mirror)
            files.fetch(arguments.source, arguments.output_dir / LOCK_FILE)
        elif arguments.mirror:
            raise DataError("--mirror: expected --download DATASET with it, found none.")
        return super().from_arguments(arguments)

    def build(self, folder: Path) -> ConversionReport:
        """Write the three `.inter` files, the features and the configuration."""
        interactions = read_interactions(self._interactions_file)
        item_count = int(interactions["item_id"].max()) + 1
        columns = interactions.columns.drop("x_label")
        split_of = interactions["x_label"]
        write_splits(
            folder,
            self.name,
            {s: interactions.loc[split_of == label, columns] for label, s in enumerate(SPLITS)},
        )
        notes = self._notes()
        for modality, file_name in self._features.items():
            notes += write_numbered_features(
                folder,
                self.name,
                modality,
                self.source / file_name,
                item_count,
                self._interactions_file.name,
                self.repeated_rows,
            )
        self.write_config(folder, **TRAINING)
        notes += value_notes(interactions)
        users, items = (interactions[c].unique().astype(str).tolist() for c in columns[:2])
        notes += self.tables.write(self.source, folder, self.name, users, items)
        unused = item_count - interactions["item_id"].nunique()
        if unused:
            notes.append(f"{unused} of the itemIDs from 0 to {item_count - 1} have no interaction")
        return ConversionReport.of(folder, self.name, len(interactions), notes)

    def _notes(self) -> list[str]:
        found = {path.name for path in self.source.glob("*_feat.npy")}
        others = sorted(found.difference(self._features.values()))
        return [f"{name} is not among the features; name it with --feature" for name in others]


def read_interactions(path: Path) -> pd.DataFrame:
    """Read and check MMRec's `.inter` file; quotes have no meaning in it.

    Columns are user_id, item_id, rating and timestamp if the file has them, x_label (0, 1, 2).
    """
    table = DelimitedTable(path, "\t", header=True, quotes=False)
    fields = {name: of for name, of in FIELDS.items() if name in table.columns or name in REQUIRED}
    table.check(list(fields), "x_label 0, 1, 2 marks training, validation and test.")
    pieces = [
        pd.DataFrame({field: _numbers(rows[column], table) for column, field in fields.items()})
        for rows in table.read_strictly(list(fields), f"reading {path.name}")
    ]
    together: pd.DataFrame = pd.concat(pieces, ignore_index=True)
    return together


def _numbers(values: pd.Series, table: DelimitedTable) -> pd.Series:
    numbers = _parsed(values)
    if values.name in REQUIRED:
        pattern, most, expected = LABEL if values.name == "x_label" else IDENTIFIER
        if numbers is not None and numbers.dtype == np.int64:
            wrong = ~numbers.between(0, most)
        else:
            wrong = ~values.str.strip().str.fullmatch(pattern)
        table.refuse(wrong.to_numpy(dtype=bool), values, expected)
    elif numbers is None or numbers.dtype == float:
        table.refuse(to_numbers(values, table).isna().to_numpy(), values, "a number")
    return values.str.strip().astype(float) if numbers is None else numbers


def _parsed(values: pd.Series) -> pd.Series | None:
    """Return numbers, floats to their last digit; None if a text is none or looks like none."""
    together = "".join(values)
    # Python takes 1_000 and foreign digits for numbers.
    if "_" not in together and together.isascii():
        for kind in (np.int64, float):
            with suppress(ValueError, OverflowError):
                return values.astype(kind)
    return None


def _interactions_file(source: Path, name: str) -> Path:
    found = sorted(path for path in source.glob("*.inter") if path.is_file())
    if len(found) > 1:
        found = [path for path in found if path.stem == name] or found
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(
            f"{source}: expected one .inter file, or one named {name}.inter, found {names}. Keep "
            "one of them in the folder."
        )
    return found[0]


def _feature_files(source: Path, features: Mapping[str, str] | None) -> dict[str, str]:
    if features is None:
        features = {m: file for m, file in DEFAULT_FEATURES.items() if (source / file).is_file()}
    missing = [file for file in features.values() if not (source / file).is_file()]
    if missing or not features:
        available = ", ".join(sorted(path.name for path in source.glob("*.npy"))) or "none"
        wanted = ", ".join(missing) or " or ".join(DEFAULT_FEATURES.values())
        raise DataError(
            f"{source}: expected the feature file {wanted}, found these .npy files: {available}. "
            "Name them with --feature MODALITY=FILE."
        )
    return dict(features)
