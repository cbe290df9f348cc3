"""The files of a dataset's features, read so that what is wrong with them is a FeatureError."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from recbole_margo.errors import DataError, FeatureError
from recbole_margo.store.feature_files import read_stored_features
from recbole_margo.store.manifest import FeatureEntry, FeatureManifest


def read_manifest(folder: Path, dataset_name: str) -> FeatureManifest:
    """Read the manifest of a dataset's features.

    Raises:
        FeatureError: it is missing or damaged.
    """
    try:
        return FeatureManifest.read(folder, dataset_name)
    except DataError as error:
        raise FeatureError(str(error)) from error


def read_modality(folder: Path, entry: FeatureEntry) -> tuple[NDArray[Any], list[str]]:
    """Open the matrix of one modality and read its item tokens.

    Args:
        folder: the folder of the manifest.
        entry: the modality's entry.

    Returns:
        The memory-mapped matrix [rows, D], float16 or float32, and the [rows] item tokens.

    Raises:
        FeatureError: a file is missing, is not of this form, or disagrees with the manifest.
    """
    try:
        return read_stored_features(folder, entry)
    except DataError as error:
        raise FeatureError(str(error)) from error
