"""Transforms of a feature matrix: normalisation, fewer columns (kept on disk), precision."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from recbole_margo.data.row_norms import SAFE_LENGTHS, RowNorms
from recbole_margo.errors import ConfigError, DataError
from recbole_margo.rules import choice, close_names, optional, whole
from recbole_margo.store.numpy_archive import read_archive, write_archive


def nearest_hint(name: Any, available: Sequence[str]) -> str:
    """Return " Did you mean 'text'?" where a name is near to one that there is, else nothing."""
    close = close_names(name, available)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_modality_names(key: str, named: Iterable[Any], available: Sequence[str]) -> None:
    """Raise a `ConfigError` if a setting by modality names one that there is not."""
    for modality in named:
        if modality not in available:
            raise ConfigError(
                f"`{key}`: expected modalities among {', '.join(available)}, found "
                f"{modality!r}.{nearest_hint(modality, available)}"
            )


NORMALIZATIONS = ("none", "l2", "standard")


def normalize_features(matrix: Tensor, present: Tensor, normalization: str) -> None:
    """Normalise a feature matrix in place; rows of missing items stay zero.

    `l2`: x_i / ||x_i||. `standard`: (x_i - mean) / std per column, over the items that have the
    modality (population standard deviation); a column that is constant over them becomes zero.

    Args:
        matrix: [I, D] float32, zero where the item misses the modality.
        present: [I] bool, the items that have it.
        normalization: one of `NORMALIZATIONS`.
    """
    if normalization == "l2":
        RowNorms.of(matrix).divide_(matrix)
    elif normalization == "standard":
        mean, deviation = column_statistics(matrix, present)
        matrix -= mean
        matrix[~present] = 0.0
        matrix /= deviation


def column_statistics(matrix: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the deviation of each column over the items that have a row.

    Args:
        matrix: [I, D] float32, zero where the item misses the modality.
        present: [I] bool.

    Returns:
        Two vectors [D] float32; 1 for the deviation of a constant column.
    """
    # Missing rows are zero, so that sums over all rows are sums over the items that have it.
    # Sums are in float64, a block at a time: the whole matrix in float64 would be the largest
    # thing in memory.
    count = int(present.sum())
    blocks = list(zip(torch.split(matrix, 1024), torch.split(present, 1024), strict=True))
    total = torch.stack([block.double().sum(dim=0) for block, _ in blocks]).sum(dim=0)
    mean = (total / count).to(matrix.dtype)
    squares = torch.stack(
        [((block - mean) * has.unsqueeze(1)).double().square().sum(dim=0) for block, has in blocks]
    ).sum(dim=0)
    deviation = (squares / count).sqrt().to(matrix.dtype)
    return mean, torch.where(deviation > 0, deviation, 1.0)


FEATURE_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def feature_type(setting: Any) -> torch.dtype:
    """Return the type that a value of `feature_precision` names.

    Raises:
        ConfigError: for any other value.
    """
    if setting is None:
        return torch.float32
    choice(*FEATURE_TYPES)("feature_precision", setting)
    return FEATURE_TYPES[setting]


FOLDER = ".reductions"
# Part of the name of a stored result: another way to compute it must not read it.
METHOD = "randomized-svd-1"
# A column of which less is left, relative to the first, holds rounding errors.
SMALLEST_SINGULAR_VALUE = 1e-6


@dataclass(frozen=True)
class ReducedFeatures:
    """A feature matrix with fewer columns.

    Attributes:
        matrix: U_k S_k [I, k] float32; rows that were zero are zero.
    """

    matrix: NDArray[np.float32]
    explained: float

    @classmethod
    def of_matrix(cls, matrix: NDArray[np.float32], columns: int) -> ReducedFeatures:
        r"""Reduce a matrix by the SVD that is truncated after k singular values.

        .. math:: F \approx U_k S_k V_k^\top, \qquad F_k = U_k S_k = F V_k, \qquad
            F_k F_k^\top \approx F F^\top

        The columns are not centred: products and cosines of rows, of which item graphs are made,
        stay what they were up to what is cut off. Centring would change them all.

        Args:
            matrix: F [I, D].
            columns: k, less than D.

        Source: Eckart and Young (1936); Halko, Martinsson and Tropp (SIAM Review 2011) for the
        algorithm.
        """
        power = _matrix_power(matrix)
        if power != 1:
            matrix = np.divide(matrix, power, dtype=np.float32)
        kept = min(columns, len(matrix))
        _, singular, right = randomized_svd(matrix, n_components=kept, random_state=0)
        reduced = np.zeros((len(matrix), columns), dtype=np.float32)
        # Directions beyond the rank are arbitrary, and what lies in them is rounding.
        used = np.flatnonzero(singular > SMALLEST_SINGULAR_VALUE * singular[0])
        reduced[:, used] = matrix @ right[used].T
        total = _squared_norm(matrix)
        explained = min(_squared_norm(reduced) / total, 1.0) if total > 0 else 1.0
        reduced *= power
        return cls(reduced, explained)

    @classmethod
    def stored(cls, path: Path, shape: tuple[int, int]) -> ReducedFeatures | None:
        """Read what `store` wrote; None if there is nothing, or the file is damaged."""
        if not path.is_file():
            return None
        try:
            arrays = read_archive(path, ["matrix", "explained"])
            matrix, explained = arrays["matrix"], arrays["explained"]
            whole = matrix.shape == shape and matrix.dtype == np.float32 and explained.shape == ()
            if whole:
                return cls(matrix, float(explained))
        except DataError:
            pass
        logging.getLogger().warning("%s is damaged and is made anew.", path)
        return None

    def store(self, path: Path) -> None:
        """Write the matrix, whole or not at all; where that is not possible, only a warning."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            arrays = {"matrix": self.matrix, "explained": np.float64(self.explained)}
            write_archive(path, arrays, compressed=False)
        except OSError as error:
            logging.getLogger().warning(
                "%s cannot be written (%s); the features are reduced again the next time.",
                path,
                error.strerror or error,
            )


def reduced_columns(setting: Any, modalities: Sequence[str]) -> dict[str, int]:
    """Read the value of `feature_reduction`.

    Args:
        setting: a number of columns for all modalities, one for each that is named, or None.

    Returns:
        Number of columns by modality; those that keep all of theirs are left out.

    Raises:
        ConfigError: if a number is no whole number from 1, or a modality does not exist.
    """
    if setting is None:
        return {}
    chosen = setting if isinstance(setting, Mapping) else dict.fromkeys(modalities, setting)
    check_modality_names("feature_reduction", chosen, modalities)
    for modality, columns in chosen.items():
        optional(whole(1))(f"feature_reduction.{modality}", columns)
    return {modality: columns for modality, columns in chosen.items() if columns is not None}


def reduce_features(matrix: Tensor, columns: int | None, modality: str, folder: Path) -> Tensor:
    """Return a feature matrix with fewer columns, from the disk if it was made before.

    Args:
        matrix: F [I, D] float32 as a model would see it; rows of missing items are zero.
        columns: k; none, or no less than D: the matrix stays as it is.
        modality: for the log.
        folder: folder of the feature files; results are kept in `.reductions` there, and may be
            removed at any time.

    Returns:
        U_k S_k [I, k], or F itself.
    """
    if columns is None:
        return matrix
    if columns >= matrix.shape[1]:
        logging.getLogger().warning(
            "Features %r: `feature_reduction` asks for %d columns, there are %d; they stay.",
            modality,
            columns,
            matrix.shape[1],
        )
        return matrix
    values = np.ascontiguousarray(matrix.numpy())
    path = folder / FOLDER / f"{_content_hash(values, columns)}.npz"
    reduced = ReducedFeatures.stored(path, (len(values), columns))
    if reduced is None:
        reduced = ReducedFeatures.of_matrix(values, columns)
        reduced.store(path)
    logging.getLogger().info(
        "Features %r: reduced from %d to %d dimensions, which keep %.2f %% of the squared norm.",
        modality,
        matrix.shape[1],
        columns,
        100 * reduced.explained,
    )
    return torch.from_numpy(reduced.matrix).clone()  # in aligned memory, as unreduced features


def _squared_norm(matrix: NDArray[np.float32]) -> float:
    """Return the sum of the squares, over rows in float64 without a copy of the matrix in it."""
    return float(np.einsum("ij,ij->i", matrix, matrix).sum(dtype=np.float64))


def _matrix_power(matrix: NDArray[np.float32]) -> float:
    """Return a power of two by which numbers are divided whose squares float32 cannot hold."""
    largest = max(float(matrix.max(initial=0.0)), -float(matrix.min(initial=0.0)))
    low, high = SAFE_LENGTHS
    if largest == 0 or low <= largest <= high:
        return 1.0
    return largest / (2 * math.frexp(largest)[0])


def _content_hash(matrix: NDArray[np.float32], columns: int) -> str:
    """Return what names a result: the matrix holds the normalisation and all that came before."""
    described = hashlib.sha256(f"{METHOD} {matrix.shape} {columns} ".encode())
    described.update(matrix.data)
    return described.hexdigest()[:32]
