"""MMRec's layout: `<name>.inter` with the column x_label, and a matrix by itemID a modality."""

from __future__ import annotations

import argparse
import csv
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dataset_converters.base import ConversionReport, Converter, dataset_config
from dataset_converters.downloads import URLS, mmrec_files
from dataset_converters.interaction_converter import FILES
from dataset_converters.interactions import value_notes
from dataset_converters.numbered_items import (
    ItemTables,
    repeated_rows_option,
    write_numbered_features,
)
from recbole_margo.command_line import group, option
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import SPLITS, write_splits
from recbole_margo.store.feature_files import first_duplicate
from recbole_margo.store.reading import lines

HEADER_CHARACTERS = 1 << 16


def _read_tab_separated(path: Path) -> pd.DataFrame:
    """Read a table whose columns become numbers where they can; quotes have no meaning."""
    try:
        _refuse_zero_bytes(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            columns = file.readline(HEADER_CHARACTERS).rstrip("\r\n").split("\t")
        repeated = first_duplicate(columns)
        if repeated is not None:
            raise DataError(
                f"{path}: expected each column once, found {repeated!r} twice in the header. "
                "Rename or remove one of them."
            )
        with warnings.catch_warnings():
            # pandas would cut off rows that are longer than the header, with a warning only.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table: pd.DataFrame = pd.read_csv(
                path,
                sep="\t",
                index_col=False,
                low_memory=False,
                float_precision="round_trip",
                encoding="utf-8-sig",
                quoting=csv.QUOTE_NONE,
            )
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: expected a file to read, found: {error.strerror}.") from error
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path}: expected interactions, found an empty file.") from error
    except (ValueError, OverflowError, pd.errors.ParserWarning) as error:
        raise DataError(
            f"{path}: expected a UTF-8 table with as many fields in every row as in the header, "
            f"found: {str(error).strip()}."
        ) from error
    if table.empty:
        raise DataError(f"{path}: expected interactions, found a header only.")
    return table


def _refuse_zero_bytes(path: Path) -> None:
    """Refuse what pandas would silently take for the end of a field."""
    with path.open("rb") as file:
        for number, line in lines(file, path, blank=True):
            if b"\0" in line:
                raise DataError(
                    f"{path}, line {number}: expected text in UTF-8, found a byte "
                    "of value 0. Is it in UTF-16? Convert it: iconv -f UTF-16 -t UTF-8."
                )


LOCK_FILE = "downloads.lock.json"
DEFAULT_FEATURES = {"image": "image_feat.npy", "text": "text_feat.npy"}
# Under these settings the published tables on MMRec's data sets were made.
TRAINING = {"epochs": 1000, "stopping_step": 20, "train_batch_size": 2048}
REQUIRED = {"userID": "user_id", "itemID": "item_id", "x_label": "x_label"}
OPTIONAL = {"rating": "rating", "timestamp": "timestamp"}


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
                self.source,
                file_name,
                item_count,
                self._interactions_file.name,
                self.repeated_rows,
            )
        self.write_config(folder, dataset_config(list(self._features), **TRAINING))
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
    """Read and check MMRec's `.inter` file.

    Returns:
        Columns user_id, item_id, x_label (0, 1, 2), and rating and timestamp if the file has them.
    """
    table = _read_tab_separated(path)
    missing = [column for column in REQUIRED if column not in table.columns]
    if missing:
        raise DataError(
            f"{path}: expected a tab-separated header with {', '.join(REQUIRED)} (and perhaps "
            f"{', '.join(OPTIONAL)}), found {list(table.columns)}: {', '.join(missing)} missing. "
            "Separate columns by tabs; x_label 0, 1, 2 marks training, validation and test."
        )
    names = {**REQUIRED, **{c: field for c, field in OPTIONAL.items() if c in table.columns}}
    for column in names:
        _check_numbers(table[column], path, whole=column in REQUIRED)
    _check_range(table["userID"], path, "ids from 0", low=0)
    _check_range(table["itemID"], path, "ids from 0", low=0)
    _check_range(table["x_label"], path, "0 (train), 1 (validation) or 2 (test)", low=0, high=2)
    _check_labels(table["x_label"], path)
    ordered = ["userID", "itemID", *(c for c in OPTIONAL if c in names), "x_label"]
    checked: pd.DataFrame = table.filter(items=ordered).rename(columns=names)
    return checked


def _check_numbers(values: pd.Series, path: Path, whole: bool) -> None:
    if pd.api.types.is_integer_dtype(values.dtype):
        return
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    wrong = ~np.isfinite(numbers)
    if whole:
        wrong |= numbers % 1 != 0
    if not whole and not wrong.any() and pd.api.types.is_float_dtype(values.dtype):
        return
    # A column of whole numbers written as 3.0 is not of an integer type, and no row is to blame.
    row = int(wrong.argmax())
    raise DataError(
        f"{path}, column {values.name}, line {row + 2}: expected "
        f"{'a whole number' if whole else 'a number'}, found {str(values.iloc[row])!r}."
    )


def _check_range(
    values: pd.Series, path: Path, expected: str, low: int, high: int | None = None
) -> None:
    wrong = ~values.between(low, values.max() if high is None else high).to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{path}, column {values.name}, line {row + 2}: expected {expected}, found "
            f"{values.iloc[row]}, and {int(wrong.sum()) - 1} more such rows."
        )


def _check_labels(labels: pd.Series, path: Path) -> None:
    counts = [int((labels == label).sum()) for label in range(len(SPLITS))]
    if 0 in counts:
        found = ", ".join(f"{count} rows of {label}" for label, count in enumerate(counts))
        raise DataError(
            f"{path}, column x_label: expected rows of each of 0 (train), 1 (validation) and 2 "
            f"(test), found {found}. Split the interactions so that each part has some."
        )


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
