"""One modality in the manifest of a dataset's features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from dataset_converters.errors import DataError

REWRITE = "Write the features of this modality again (docs/data.md)."


@dataclass(frozen=True)
class FeatureEntry:
    """What the manifest knows of the feature matrix [rows, dim] of one modality.

    Attributes:
        file: name of the `.npy` file, in the folder of the manifest.
        tokens: name of the file with one item token a line, in the row order of the matrix.
        rows: number of items that have the modality.
        dim: number of columns.
        dtype: `float16` or `float32`.
        sha256: checksum of the `.npy` file.
        tokens_sha256: checksum of the tokens file.
        source: where the matrix came from, for people.
    """

    file: str
    tokens: str
    rows: int
    dim: int
    dtype: str
    sha256: str
    tokens_sha256: str
    source: str

    @classmethod
    def from_json(cls, record: object, where: str) -> FeatureEntry:
        """Check one entry of a manifest.

        Args:
            record: the parsed JSON value.
            where: file and field, for the message.

        Returns:
            The entry.

        Raises:
            DataError: a field is absent or of the wrong type, or a file is not in the folder.
        """
        expected = {field.name: int if field.type == "int" else str for field in fields(cls)}
        if not isinstance(record, Mapping):
            raise DataError(
                f"{where}: expected an object with {sorted(expected)}, found {record!r}. {REWRITE}"
            )
        for name, kind in expected.items():
            if not isinstance(record.get(name), kind):
                raise DataError(
                    f"{where}: expected the field {name!r} to be of type {kind.__name__}, found "
                    f"{record.get(name)!r}. {REWRITE}"
                )
        for name in ("file", "tokens"):
            if Path(record[name]).name != record[name]:
                raise DataError(
                    f"{where}: expected {name!r} to be the name of a file beside the manifest, "
                    f"found {record[name]!r}. {REWRITE}"
                )
        return cls(**{name: record[name] for name in expected})

    def to_json(self) -> dict[str, str | int]:
        """Return the entry as plain values, in the order of its fields."""
        return asdict(self)
