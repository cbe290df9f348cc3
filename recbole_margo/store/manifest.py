"""The manifest of a dataset's features: `<dataset>.features.json`, an entry a modality."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from recbole_margo.errors import DataError
from recbole_margo.store.reading import read_json
from recbole_margo.store.writing import disk_errors, replacing

REWRITE = "Write the features of this modality again (docs/data.md)."


@dataclass(frozen=True)
class EncoderRecord:
    """The encoder of a feature matrix; two of one fingerprint give vectors of one space.

    Attributes:
        kind: of the content, `text`, `image` or `audio`.
        name: as `recbole-margo encode --encoder` takes it.
        fingerprint: hash of all that decides on the vectors: weights, preparation, or what was
            fitted to the texts of the dataset.
    """

    kind: str
    name: str
    fingerprint: str

    @classmethod
    def from_json(cls, record: object, where: str) -> EncoderRecord:
        """Check the plain form."""
        kinds = {field.name: str for field in fields(cls)}
        checked = _checked(record, kinds, where)
        return cls(**{name: checked[name] for name in kinds})


@dataclass(frozen=True)
class FeatureEntry:
    """The manifest's entry of the feature matrix [rows, dim] of one modality.

    Attributes:
        file: name of the `.npy` file, in the folder of the manifest.
        tokens: name of the file with one item token a line, in the row order of the matrix.
        rows: number of items that have the modality.
        source: where the matrix came from, for people.
        encoder: what made it, if that is known.
    """

    file: str
    tokens: str
    rows: int
    dim: int
    dtype: str
    sha256: str
    tokens_sha256: str
    source: str
    encoder: EncoderRecord | None = None

    @classmethod
    def from_json(cls, record: object, where: str) -> FeatureEntry:
        """Check one entry of a manifest."""
        kinds = {field.name: int if field.type == "int" else str for field in fields(cls)}
        del kinds["encoder"]
        checked = _checked(record, kinds, where)
        for name in ("file", "tokens"):
            if Path(checked[name]).name != checked[name]:
                raise DataError(
                    f"{where}: expected {name!r} to be the name of a file beside the manifest, "
                    f"found {checked[name]!r}. {REWRITE}"
                )
        made_by = checked.get("encoder")
        encoder = None if made_by is None else EncoderRecord.from_json(made_by, f"{where}, encoder")
        return cls(**{name: checked[name] for name in kinds}, encoder=encoder)

    def as_plain(self) -> dict[str, object]:
        """Return what stands in the manifest."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def _checked(record: object, kinds: Mapping[str, type], where: str) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise DataError(
            f"{where}: expected an object with {sorted(kinds)}, found {record!r:.80}. {REWRITE}"
        )
    for name, kind in kinds.items():
        if not isinstance(record.get(name), kind):
            raise DataError(
                f"{where}: expected the field {name!r} to be of type {kind.__name__}, found "
                f"{record.get(name)!r:.80}. {REWRITE}"
            )
    return record


FORMAT = 1


@dataclass(frozen=True)
class FeatureManifest:
    """The modalities of one dataset, in the order in which they were written.

    Attributes:
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

        Raises:
            DataError: the folder or the manifest is missing, is not JSON, or has another form.
        """
        path = cls.path(folder, dataset)
        if not path.is_file():
            what = "this file" if folder.is_dir() else f"the folder {folder}"
            raise DataError(
                f"{path}: expected the manifest of the item features of {dataset!r}, found that "
                f"{what} does not exist. Convert the dataset, for example: recbole-margo "
                f"convert tabular --source INTERACTIONS --items ITEMS --name {dataset} "
                f"--output_dir {folder.parent} (other sources: recbole-margo convert --help); or "
                "write the features by hand (docs/data.md)."
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
            "modalities": {name: entry.as_plain() for name, entry in self.modalities.items()},
        }
        with disk_errors(folder), replacing(self.path(folder, self.dataset)) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
