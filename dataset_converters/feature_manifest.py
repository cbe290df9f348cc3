"""The manifest of a dataset's features: `<dataset>.features.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dataset_converters.atomic import replacing
from dataset_converters.disk import disk_errors
from dataset_converters.errors import DataError
from dataset_converters.feature_entry import FeatureEntry
from dataset_converters.small_files import read_json

FORMAT = 1


@dataclass(frozen=True)
class FeatureManifest:
    """The modalities of one dataset, in the order in which they were written.

    Attributes:
        dataset: name of the dataset.
        modalities: modality name -> its entry.
    """

    dataset: str
    modalities: dict[str, FeatureEntry]

    @staticmethod
    def path(folder: Path, dataset: str) -> Path:
        """Return where the manifest of `dataset` lies in `folder`."""
        return folder / f"{dataset}.features.json"

    @classmethod
    def read(cls, folder: Path, dataset: str) -> FeatureManifest:
        """Read and check the manifest of a dataset.

        Args:
            folder: the dataset's folder.
            dataset: its name.

        Returns:
            The manifest.

        Raises:
            DataError: the folder or the manifest is missing, is not JSON, or has another form.
        """
        path = cls.path(folder, dataset)
        if not path.is_file():
            what = "this file" if folder.is_dir() else f"the folder {folder}"
            raise DataError(
                f"{path}: expected the manifest of the item features of {dataset!r}, found that "
                f"{what} does not exist. Convert the dataset, for example: python -m "
                f"dataset_converters mmrec --source DIR --name {dataset} --output {folder.parent}; "
                "or write the features by hand (docs/data.md)."
            )
        try:
            content = read_json(path)
        except DataError as error:
            raise DataError(
                f"{error}. Convert the dataset again, or write the features again (docs/data.md)."
            ) from error
        return cls._from_json(content, path, dataset)

    @classmethod
    def _from_json(cls, content: object, path: Path, dataset: str) -> FeatureManifest:
        found = content.get("format") if isinstance(content, dict) else None
        if not isinstance(content, dict) or found != FORMAT:
            raise DataError(
                f'{path}: expected "format": {FORMAT}, found {found!r}. Convert the dataset again.'
            )
        if content.get("dataset") != dataset:
            raise DataError(
                f'{path}: expected "dataset": {dataset!r}, found {content.get("dataset")!r}. '
                "A dataset is renamed by converting it again with another --name."
            )
        modalities = content.get("modalities")
        if not isinstance(modalities, dict) or not modalities:
            raise DataError(
                f'{path}: expected "modalities" to name at least one modality, found '
                f"{modalities!r}. Write the features again (docs/data.md)."
            )
        return cls(
            dataset,
            {
                name: FeatureEntry.from_json(record, f"{path}, modality {name!r}")
                for name, record in modalities.items()
            },
        )

    def write(self, folder: Path) -> None:
        """Write the manifest atomically into `folder`."""
        content = {
            "format": FORMAT,
            "dataset": self.dataset,
            "modalities": {name: entry.to_json() for name, entry in self.modalities.items()},
        }
        with disk_errors(folder), replacing(self.path(folder, self.dataset)) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
