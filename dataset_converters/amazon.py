"""Amazon reviews and metadata, editions of 2014, 2018 and 2023."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dataset_converters.amazon_images import extract_image_features
from dataset_converters.amazon_metadata import read_metadata
from dataset_converters.amazon_reviews import read_reviews
from dataset_converters.interaction_converter import InteractionConverter
from dataset_converters.item_inputs import ItemInputs
from dataset_converters.preparation import Preparation
from dataset_converters.raw_interactions import RawInteractions
from recbole_margo.errors import DataError
from recbole_margo.store.feature_files import write_features

SUFFIXES = (".json", ".jsonl", ".csv", ".json.gz", ".jsonl.gz", ".csv.gz")


class AmazonConverter(InteractionConverter):
    """Converts Amazon's files as the published data sets were made; items keep their ASINs.

    Every rating is a positive, exact repeats are dropped, then the 5-core, then the random split.
    """

    command = "amazon"
    summary = "Amazon reviews 2014, 2018, 2023, with metadata and the image features of 2014"
    preparation = Preparation(repeats="all", k_core=5)

    def __init__(
        self,
        source: Path,
        name: str,
        preparation: Preparation | None = None,
        inputs: ItemInputs | None = None,
        reviews: Path | None = None,
        metadata: Path | None = None,
        image_features: Path | None = None,
    ) -> None:
        """Find the files.

        Args:
            source: folder of the files as they were fetched.
            name: name of the dataset to make.
            preparation: filters and split.
            inputs: images, matrices and text features.
            reviews: reviews or ratings; None takes the one file that is neither of the others.
            metadata: None takes `meta_*`, if there is one.
            image_features: None takes `image_features*`, if there is one.

        Raises:
            DataError: no file or several could be meant.
        """
        super().__init__(source, name, preparation, inputs)
        files = sorted(path for path in source.iterdir() if path.is_file())
        metadatas = [path for path in files if path.name.startswith("meta_")]
        images = [path for path in files if path.name.startswith("image_features")]
        others = [path for path in files if path.name.endswith(SUFFIXES) and path not in metadatas]
        found = reviews or _only(others, "reviews or ratings", "--reviews", source)
        if found is None:
            raise DataError(
                f"{source}: expected a file of reviews or ratings ({', '.join(SUFFIXES)}), found "
                "none. Name it with --reviews."
            )
        self.reviews = found
        self.metadata = metadata or _only(metadatas, "metadata", "--metadata", source)
        self.image_features = image_features or _only(
            images, "image features", "--image-features", source
        )

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the files of the source."""
        super().add_arguments(parser)
        group = parser.add_argument_group("files", "By default they are found in the source.")
        for option, what in (
            ("--reviews", "reviews (JSON lines) or ratings (csv), plain or gzip"),
            ("--metadata", "metadata of the products: meta_*"),
            ("--image-features", "binary image features of 2014: image_features*"),
        ):
            group.add_argument(option, type=Path, metavar="FILE", help=what)

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> AmazonConverter:
        """Return the converter that a parsed command line describes."""
        return cls(
            arguments.source,
            arguments.name,
            Preparation.from_arguments(arguments),
            ItemInputs.from_arguments(arguments),
            arguments.reviews,
            arguments.metadata,
            arguments.image_features,
        )

    def read_interactions(self) -> RawInteractions:
        """Read the reviews."""
        return read_reviews(self.reviews)

    def read_texts(self, items: Sequence[str]) -> tuple[pd.DataFrame | None, list[str]]:
        """Read the metadata, if there are any."""
        if self.metadata is None:
            return None, ["no metadata (meta_*) in the source, so no texts"]
        return read_metadata(self.metadata, items), []

    def write_own_features(self, folder: Path, items: Sequence[str]) -> list[str]:
        """Write the binary image features, if there are any, as the modality `image`."""
        if self.image_features is None or "image" in self.inputs.features:
            return []
        rows = folder / "image_rows"
        matrix, found = extract_image_features(self.image_features, items, rows)
        write_features(folder, self.name, "image", matrix, found, self.image_features.name)
        rows.unlink()
        return ["image"]


def _only(files: Sequence[Path], what: str, option: str, source: Path) -> Path | None:
    if len(files) > 1:
        raise DataError(
            f"{source}: expected one file of {what}, found "
            f"{', '.join(path.name for path in files)}. Name one with {option}."
        )
    return files[0] if files else None
