"""Reading a modality's files, with every disagreement named before a number is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.errors import DataError
from recbole_margo.store.feature_files import file_sha256, first_duplicate, open_matrix
from recbole_margo.store.manifest import REWRITE, FeatureEntry


def read_stored_features(folder: Path, entry: FeatureEntry) -> tuple[NDArray[Any], list[str]]:
    """Open the matrix of one modality and read its item tokens.

    Args:
        folder: the folder of the manifest.
        entry: the modality's entry.

    Returns:
        The memory-mapped matrix [rows, D], float16 or float32, and the [rows] item tokens.

    Raises:
        DataError: a file is missing, is not of this form, or disagrees with the manifest.
    """
    matrix = _open_float_matrix(_existing(folder / entry.file))
    tokens_path = _existing(folder / entry.tokens)
    tokens = _read_tokens(tokens_path)
    if len(tokens) != len(matrix):
        raise DataError(
            f"{folder / entry.file}: expected one row for each of the {len(tokens)} tokens of "
            f"{entry.tokens}, found {len(matrix)} rows. {REWRITE}"
        )
    _check_sha256(folder / entry.file, entry.sha256)
    _check_sha256(tokens_path, entry.tokens_sha256)
    return matrix, tokens


def _existing(path: Path) -> Path:
    try:
        found = path.is_file()
    except OSError:  # a name that is too long for the file system
        found = False
    if not found:
        raise DataError(
            f"{path}: expected the file that the manifest names, found that it does not exist. "
            f"{REWRITE}"
        )
    return path


def _open_float_matrix(path: Path) -> NDArray[Any]:
    try:
        matrix = open_matrix(path)
    except DataError as error:
        raise DataError(f"{error} {REWRITE}") from error
    if matrix.dtype not in (np.float16, np.float32):
        raise DataError(
            f"{path}: expected float16 or float32, found {matrix.dtype}. Write it with "
            "recbole_margo.store.feature_files.write_features, which casts float64 (docs/data.md)."
        )
    return matrix


def _read_tokens(path: Path) -> list[str]:
    try:
        # Not splitlines: it also splits at characters that may stand inside a token.
        tokens = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8, found {error}. {REWRITE}") from error
    repeated = first_duplicate(tokens)
    if repeated is not None:
        raise DataError(
            f"{path}: expected each item token once, found {repeated!r} twice. Keep one row an "
            "item and write the features again (docs/data.md)."
        )
    return tokens


def _check_sha256(path: Path, expected: str) -> None:
    found = file_sha256(path)
    if found != expected:
        raise DataError(
            f"{path}: expected the SHA-256 {expected} of the manifest, found {found}: the file is "
            f"damaged, or was changed after it was written. {REWRITE}"
        )
