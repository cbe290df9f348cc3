"""What all converters share: one command line, one way to put a dataset in its place."""

from __future__ import annotations

import argparse
import filecmp
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import yaml

from dataset_converters.conversion_report import ConversionReport
from recbole_margo.errors import DataError
from recbole_margo.store.file_lock import LOCK
from recbole_margo.store.writing import disk_errors, remove_abandoned, temporary_sibling

DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# RecBole reads this dataset from its own wheel, whatever lies in the dataset folder.
RESERVED_NAME = "ml-100k"


class Converter(ABC):
    """One kind of source that becomes a dataset folder.

    Attributes:
        command: the converter's name on the command line.
        summary: one line for `--help`.
        source_is_file: whether the source is one file; else it is a folder.
    """

    command: ClassVar[str]
    summary: ClassVar[str]
    source_is_file: ClassVar[bool] = False

    def __init__(self, source: Path, name: str) -> None:
        """Remember what is to be converted.

        Args:
            source: folder of the source, or its file.
            name: name of the dataset to make.

        Raises:
            DataError: the source does not exist, or the name cannot name a folder or is reserved.
        """
        expected = "file" if self.source_is_file else "folder"
        if not (source.is_file() if self.source_is_file else source.is_dir()):
            raise DataError(f"--source: expected a {expected}, found that {source} is none.")
        if not DATASET_NAME.fullmatch(name) or name == RESERVED_NAME:
            raise DataError(
                "--name: expected letters, digits, '_', '-' and '.', and not "
                f"{RESERVED_NAME!r}, which RecBole reads from its own package; found {name!r}."
            )
        self.source = source
        self.name = name

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options that every converter has; a converter adds its own to them."""
        metavar, kind = ("FILE", "file") if cls.source_is_file else ("DIR", "folder")
        parser.add_argument(
            "--source", type=Path, required=True, metavar=metavar, help=f"{kind} of the raw data"
        )
        parser.add_argument("--name", required=True, help="name of the dataset to make")
        parser.add_argument(
            "--output",
            type=Path,
            default=Path("dataset"),
            metavar="DIR",
            help="folder of all datasets; the result is DIR/NAME (default: dataset)",
        )
        parser.add_argument(
            "--overwrite",
            action="store_true",
            help="replace a dataset of this name with other content, and everything in its folder",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="show the report and write no dataset"
        )

    @classmethod
    @abstractmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> Converter:
        """Return the converter that a parsed command line describes."""

    @abstractmethod
    def build(self, folder: Path) -> ConversionReport:
        """Write all files of the dataset.

        Args:
            folder: an empty folder; it becomes the dataset's folder when this returns.

        Returns:
            The report of what was written.

        Raises:
            DataError: the source is not as expected.
        """

    def run(self, output: Path, overwrite: bool = False) -> tuple[ConversionReport, bool]:
        """Convert, and put the result in place only when it is whole.

        Args:
            output: the folder of all datasets; the result is `output / name`.
            overwrite: replace a dataset of this name that has other content.

        Returns:
            The report, and whether anything changed: converting the same source again does not.

        Raises:
            DataError: the source is not as expected, the dataset exists with other content, or the
                disk is full.
        """
        target = output / self.name
        with disk_errors(target):
            return self._build_and_place(output, target, overwrite)

    def _build_and_place(
        self, output: Path, target: Path, overwrite: bool
    ) -> tuple[ConversionReport, bool]:
        output.mkdir(parents=True, exist_ok=True)
        remove_abandoned(output)
        building = temporary_sibling(target)
        building.mkdir()
        try:
            report = self.build(building)
            return report, self._put_in_place(target, building, overwrite)
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def preview(self) -> ConversionReport:
        """Convert into a folder that is thrown away.

        Returns:
            The report that `run` would give.

        Raises:
            DataError: the source is not as expected.
        """
        with (
            disk_errors(Path(tempfile.gettempdir()) / self.name),
            tempfile.TemporaryDirectory() as folder,
        ):
            return self.build(Path(folder))

    def write_config(self, folder: Path, values: dict[str, Any]) -> None:
        """Write `<name>.yaml`, which makes `--dataset=<name>` enough to train."""
        text = yaml.safe_dump(values, sort_keys=False, default_flow_style=None)
        (folder / f"{self.name}.yaml").write_text(text, encoding="utf-8")

    def _put_in_place(self, target: Path, building: Path, overwrite: bool) -> bool:
        """Give the folder its name; return whether anything changed."""
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
        # A mistyped --output must not cost somebody a folder that never was a dataset.
        if not any(target.glob(f"{self.name}.*")):
            raise DataError(
                f"{target}: expected a dataset to overwrite, found no file named {self.name}.*. "
                "Choose another --output or --name."
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
