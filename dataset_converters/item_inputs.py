"""What the user gives about items beside the source itself."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recbole_margo.errors import DataError
from recbole_margo.store.text_features import DEFAULT_DIMENSION


@dataclass(frozen=True)
class ItemInputs:
    """Images, ready-made matrices, and what to make of texts.

    Attributes:
        images: folder of images named by item, or None.
        features: modality -> file of a ready-made matrix.
        feature_ids: modality -> file with the item of every row of its matrix.
        text_features: make the modality `text` of the texts, if no matrix of that name is given.
        text_dimension: its most columns.
    """

    images: Path | None = None
    features: dict[str, Path] = field(default_factory=dict)
    feature_ids: dict[str, Path] = field(default_factory=dict)
    text_features: bool = True
    text_dimension: int = DEFAULT_DIMENSION

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser, images: str = "--images") -> None:
        """Add an option for each attribute.

        Args:
            parser: where.
            images: another name of `--images`, by which the source calls them.
        """
        group = parser.add_argument_group("items")
        group.add_argument(
            *dict.fromkeys(("--images", images)),
            dest="images",
            type=Path,
            metavar="DIR",
            help="folder of images named by item (17.jpg); they are listed in NAME.images.tsv",
        )
        group.add_argument(
            "--features",
            action="append",
            metavar="MODALITY=FILE",
            help="a ready-made matrix: .npy with a file of ids, .npz, .safetensors or .parquet; "
            "once for each",
        )
        group.add_argument(
            "--feature-ids",
            action="append",
            metavar="MODALITY=FILE",
            help="the item of every row of a matrix, an id a line or .npy (default: a file beside "
            "the matrix, such as STEM.ids)",
        )
        group.add_argument(
            "--no-text-features",
            dest="text_features",
            action="store_false",
            help="make no modality 'text' (TF-IDF and SVD) of the texts",
        )
        group.add_argument(
            "--text-dimension",
            type=int,
            default=DEFAULT_DIMENSION,
            metavar="D",
            help=f"columns of the modality 'text' (default: {DEFAULT_DIMENSION})",
        )

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> ItemInputs:
        """Return what a parsed command line asks for.

        Raises:
            DataError: an option is not of the form MODALITY=FILE, or names no matrix.
        """
        features = _files_by_modality(arguments.features, "--features")
        feature_ids = _files_by_modality(arguments.feature_ids, "--feature-ids")
        if strangers := sorted(feature_ids.keys() - features.keys()):
            raise DataError(
                f"--feature-ids: expected a matrix --features {strangers[0]}=FILE, found none."
            )
        return cls(
            arguments.images,
            features,
            feature_ids,
            arguments.text_features,
            arguments.text_dimension,
        )


def _files_by_modality(given: Sequence[str] | None, option: str) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for text in given or []:
        modality, separator, file = text.partition("=")
        if not (modality and separator and file) or modality in files:
            raise DataError(
                f"{option}: expected MODALITY=FILE, each modality once, such as "
                f"text=embeddings.npy; found {text!r}."
            )
        files[modality] = Path(file)
    return files
