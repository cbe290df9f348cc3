"""A published split as lists of items by user: LightGCN's text files, and LATTICE's JSON."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from dataset_converters.interaction_converter import FILES, InteractionConverter
from dataset_converters.interactions import RawInteractions
from dataset_converters.numbered_items import (
    ItemTables,
    repeated_rows_option,
    write_numbered_features,
)
from recbole_margo.command_line import group
from recbole_margo.errors import DataError
from recbole_margo.store.reading import lines, read_small, reading

FEATURES = "_feat.npy"
# More do not fit into 64 bits.
DIGITS = 18
# The names that the files of training, validation and test have.
STEMS = (("train",), ("val", "valid", "validation"), ("test",))


@dataclass
class ItemListsConverter(InteractionConverter):
    """Converts lists of items by user; the split is kept, users and items keep their numbers.

    Row r of `<modality>_feat.npy` belongs to item r. Where there is no validation, one is drawn
    from the training.
    """

    suffix: ClassVar[str]

    repeated_rows: str = repeated_rows_option()
    tables: ItemTables = group(ItemTables(), FILES)

    def __post_init__(self) -> None:
        """Find the files."""
        super().__post_init__()
        self._folder = self._folder_of_lists()
        self._files = [self._file_of(*stems) for stems in STEMS]
        self._users: list[str] = []  # known once the lists are read
        self._item_count = 0

    @abstractmethod
    def read_lists(self, path: Path) -> Iterator[tuple[int, list[int]]]:
        """Yield users and their items."""

    def _folder_of_lists(self) -> Path:
        return self.source

    def _file_of(self, *stems: str) -> Path | None:
        names = [f"{stem}{self.suffix}" for stem in stems]
        found = [self._folder / name for name in names if (self._folder / name).is_file()]
        if len(found) > 1:
            raise DataError(
                f"{self._folder}: expected one of {', '.join(names)}, found "
                f"{' and '.join(path.name for path in found)}. Keep one of them in the folder."
            )
        if not found and stems != STEMS[1]:
            raise DataError(f"{self._folder}: expected {names[0]}, found no such file.")
        return found[0] if found else None

    def read_interactions(self) -> RawInteractions:
        """Read the lists of every split."""
        notes: list[str] = []
        parts = [
            self._read_split(path, notes).assign(split=label)
            for label, path in enumerate(self._files)
            if path is not None
        ]
        table = pd.concat(parts, ignore_index=True)
        tokens = {}
        for column in ("user_id", "item_id"):
            table[column], numbers = pd.factorize(table[column])
            tokens[column] = [str(number) for number in numbers]
            if column == "item_id":
                self._item_count = int(numbers.max()) + 1
        self._users = tokens["user_id"]
        return RawInteractions(table, self._users, tokens["item_id"], len(table), notes=notes)

    def _read_split(self, path: Path, notes: list[str]) -> pd.DataFrame:
        users: list[int] = []
        items: list[int] = []
        counts: list[int] = []
        for user, own in self.read_lists(path):
            users.append(user)
            counts.append(len(own))
            items += own
        if not items:
            raise DataError(f"{path}: expected users and their items, found no items.")
        if repeated := len(users) - len(set(users)):
            notes.append(f"{path.name}: {repeated:,} lists are of a user listed before; joined")
        if empty := counts.count(0):
            notes.append(f"{path.name}: {empty:,} lists have no items")
        columns = {"user_id": np.repeat(np.array(users, np.int64), counts), "item_id": items}
        table: pd.DataFrame = pd.DataFrame(columns, dtype=np.int64)
        return table

    def read_texts(self, items: Sequence[str]) -> tuple[pd.DataFrame | None, list[str]]:
        """Return none: these layouts have no texts."""
        return None, []

    def ids_of_rows(self, rows: int) -> list[str] | None:
        """Return the items 0, 1, ... if there are as many rows."""
        return [str(row) for row in range(rows)] if rows == self._item_count else None

    def write_own_features(self, folder: Path, items: Sequence[str]) -> list[str]:
        """Write the matrices beside the lists, and the original ids."""
        notes = self.tables.write(self._folder, folder, self.name, self._users, list(items))
        for path in self._feature_files():
            modality = path.name.removesuffix(FEATURES)
            if modality not in self.inputs.features:
                notes += write_numbered_features(
                    folder,
                    self.name,
                    modality,
                    path,
                    self._item_count,
                    f"the {self.suffix} files",
                    self.repeated_rows,
                )
        return notes

    def _feature_files(self) -> list[Path]:
        return sorted(self._folder.glob(f"?*{FEATURES}"))


class LightGCNConverter(ItemListsConverter):
    """Converts LightGCN's layout: a line has a user and her items, between spaces."""

    command = "lightgcn"
    summary = "LightGCN's layout: train.txt, test.txt (a user and items a line), *_feat.npy"
    suffix = ".txt"

    def read_lists(self, path: Path) -> Iterator[tuple[int, list[int]]]:
        """Yield users and their items, line by line."""
        with reading(path, f"reading {path.name}") as stream:
            for number, line in lines(stream, path):
                words = line.removeprefix(b"\xef\xbb\xbf").split()
                if not all(word.isdigit() and len(word) <= DIGITS for word in words):
                    raise DataError(
                        f"{path}, line {number}: expected a user and items, whole numbers from 0 "
                        f"between spaces, found {line[:60].decode(errors='replace').strip()!r}."
                    )
                user, *items = map(int, words)
                yield user, items


CORE = re.compile(r"\d+-core")
JSON_BYTES = 1 << 28


class _Pairs(list[tuple[str, Any]]):
    """A JSON object; as a dict it would lose all but the last of equal keys."""


class LatticeConverter(ItemListsConverter):
    """Converts LATTICE's layout: an object of lists of items by user a split."""

    command = "lattice"
    summary = "LATTICE's, MICRO's, MMSSL's layout: [5-core/]{train,val,test}.json, *_feat.npy"
    suffix = ".json"

    def read_lists(self, path: Path) -> Iterator[tuple[int, list[int]]]:
        """Yield users and their items, in the order of the file."""
        try:
            content = json.loads(read_small(path, JSON_BYTES), object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}: expected JSON, found: {error}. Fetch it again.") from error
        if not isinstance(content, _Pairs):
            raise DataError(
                f'{path}: expected an object such as {{"0": [5, 17]}}, users and their items, '
                f"found {str(content)[:60]}."
            )
        for user, items in content:
            known = isinstance(items, list) and {type(item) for item in items} <= {int}
            words = [user, *map(str, items)] if known else [""]
            if not all(word.isdecimal() and len(word) <= DIGITS for word in words):
                raise DataError(
                    f"{path}: expected a user and a list of items, whole numbers from 0, found "
                    f"{user[:20]!r}: {str(items)[:60]}."
                )
            yield int(user), items

    def _folder_of_lists(self) -> Path:
        if (self.source / "train.json").is_file():
            return self.source
        cores = [path.parent for path in sorted(self.source.glob("*-core/train.json"))]
        if len(cores) > 1:
            raise DataError(
                f"{self.source}: expected one folder of lists, found "
                f"{', '.join(path.name for path in cores)}. Give one with --source."
            )
        return cores[0] if cores else self.source

    def _feature_files(self) -> list[Path]:
        """Return those in the folder of the lists, or above it: they serve all cores there."""
        own = super()._feature_files()
        if own or not CORE.fullmatch(self._folder.resolve().name):
            return own
        return sorted(self._folder.resolve().parent.glob(f"?*{FEATURES}"))
