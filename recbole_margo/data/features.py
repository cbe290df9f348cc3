"""Item features in memory: one matrix a modality, aligned to RecBole's internal item ids."""

from __future__ import annotations

import logging
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_margo.data.bundled import BUNDLED_DATASET, ensure_bundled_features
from recbole_margo.data.corruption import FeatureCorruption
from recbole_margo.data.feature_transforms import (
    NORMALIZATIONS,
    check_modality_names,
    column_statistics,
    feature_type,
    nearest_hint,
    normalize_features,
    reduce_features,
    reduced_columns,
)
from recbole_margo.errors import DataError, FeatureError
from recbole_margo.rules import choice
from recbole_margo.store.feature_files import read_stored_features, row_blocks
from recbole_margo.store.manifest import EncoderRecord, FeatureEntry, FeatureManifest

# Keys that change features between the files and the models.
FEATURE_SETTINGS = ("feature_normalization", "feature_reduction", "feature_precision")


@dataclass(frozen=True)
class ItemFeatures:
    """The features of all items of a RecBole dataset.

    Attributes:
        modalities: [M] names.
        matrices: per modality [I, D_m] float32; the rows of PAD (0) and of missing items are zero.
        mask: [I, M] bool, true where the item has the modality; false for PAD.
        checksums: modality -> SHA-256 of its matrix file, how it was reduced, and the precision in
            which models use it.
        corrupted: [I, M] bool, true where `feature_corruption` made the row worse.
    """

    modalities: tuple[str, ...]
    matrices: tuple[Tensor, ...]
    mask: Tensor
    checksums: dict[str, str]
    corrupted: Tensor


def load_item_features(config: Any, dataset: Any) -> ItemFeatures:
    """Load the modalities that the configuration names, aligned by item token.

    Args:
        config: RecBole's Config, or any object whose `config[key]` is a value or None. Keys used:
            `modalities`, `feature_normalization`, `feature_corruption`, `feature_reduction`,
            `feature_precision`, `feature_path`, `seed`, `dataset`, `data_path`.
        dataset: RecBole's Dataset, from which the item tokens by internal id are taken.

    Returns:
        The features of all I items, PAD included.

    Raises:
        FeatureError: the files do not exist, are damaged, or do not fit the dataset.
        ConfigError: a normalisation that does not exist, or is set for an unknown modality; a
            corruption, a reduction or a precision that makes no sense.
    """
    folder, manifest = _manifest(config)
    modalities = _chosen_modalities(config["modalities"], manifest, folder)
    normalizations = _normalizations(config["feature_normalization"], modalities, manifest)
    columns = reduced_columns(config["feature_reduction"], list(manifest.modalities))
    precision = feature_type(config["feature_precision"])
    item_tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field]]
    matrices: list[Tensor] = []
    mask = torch.zeros(len(item_tokens), len(modalities), dtype=torch.bool)
    for column, modality in enumerate(modalities):
        matrix, present = _aligned(folder, manifest, modality, item_tokens)
        matrices.append(matrix)
        mask[:, column] = present
        count = int(present.sum())
        logging.getLogger().info(
            "Features %r: %d dimensions, %d items with it, %d items missing it, normalisation %s.",
            modality,
            matrix.shape[1],
            count,
            len(item_tokens) - 1 - count,
            normalizations[modality],
        )
    corrupted = _corrupt(config, matrices, mask, modalities, item_tokens)
    checksums = {modality: manifest.modalities[modality].sha256 for modality in modalities}
    for column, modality in enumerate(modalities):
        given = matrices[column]
        normalize_features(given, mask[:, column], normalizations[modality])
        matrices[column] = reduce_features(given, columns.get(modality), modality, folder)
        if matrices[column] is not given:
            checksums[modality] += f" reduced to {columns[modality]}"
        if precision != torch.float32:
            checksums[modality] += f" used as {config['feature_precision']}"
    return ItemFeatures(modalities, tuple(matrices), mask, checksums, corrupted)


@dataclass(frozen=True)
class FeatureStatistics:
    """The transforms of the rows of one modality, on their way from the file to a model.

    Attributes:
        normalization: one of `NORMALIZATIONS`.
        mean: of each column, over the items of the dataset [D]; of `standard` alone.
        deviation: likewise, 1 where a column is constant.
        encoder: what made the features, if that is known.
    """

    width: int
    normalization: str
    mean: NDArray[np.float32] | None = None
    deviation: NDArray[np.float32] | None = None
    encoder: EncoderRecord | None = None


def feature_statistics(config: Any, dataset: Any) -> tuple[FeatureStatistics, ...]:
    """Return what `load_item_features` does to the rows of each modality [M]."""
    folder, manifest = _manifest(config)
    modalities = _chosen_modalities(config["modalities"], manifest, folder)
    normalizations = _normalizations(config["feature_normalization"], modalities, manifest)
    items, found = [str(token) for token in dataset.field2id_token[dataset.iid_field]], []
    for modality in modalities:
        entry, normalization = manifest.modalities[modality], normalizations[modality]
        mean = deviation = None
        if normalization == "standard":
            center, spread = column_statistics(*_aligned(folder, manifest, modality, items))
            mean, deviation = center.numpy(), spread.numpy()
        found.append(FeatureStatistics(entry.dim, normalization, mean, deviation, entry.encoder))
    return tuple(found)


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

    Returns:
        The memory-mapped matrix [rows, D], float16 or float32, and the [rows] item tokens.

    Raises:
        FeatureError: a file is missing, is not of this form, or disagrees with the manifest.
    """
    try:
        return read_stored_features(folder, entry)
    except DataError as error:
        raise FeatureError(str(error)) from error


def raw_features(
    config: Any, modalities: Sequence[str], tokens: Sequence[str]
) -> tuple[list[NDArray[np.float32]], NDArray[np.bool_]]:
    """Return features as they are stored, of items that a dataset need not have.

    Args:
        modalities: whose features [M].
        tokens: raw ids of items [B].

    Returns:
        A matrix [B, D_m] per modality, zeros where an item misses it, and who has which [B, M].

    Raises:
        FeatureError: the files do not exist, are damaged, or are of other modalities.
    """
    folder, manifest = _manifest(config)
    matrices = []
    for modality in _chosen_modalities(modalities, manifest, folder):
        stored, known = read_modality(folder, manifest.modalities[modality])
        place = {token: row for row, token in enumerate(known)}
        rows = np.array([place.get(token, -1) for token in tokens])
        matrix = np.zeros((len(tokens), stored.shape[1]), np.float32)
        matrix[rows >= 0] = stored[rows[rows >= 0]]
        matrices.append(matrix)
    return matrices, np.stack([matrix.any(axis=1) for matrix in matrices], axis=1)


def check_features(config: Any) -> None:
    """Look whether the feature files are there that a configuration names; reads none of them.

    Raises:
        FeatureError: the files do not exist, are damaged, or are of other modalities.
        ConfigError: as `load_item_features` does.
    """
    folder, manifest = _manifest(config)
    modalities = _chosen_modalities(config["modalities"], manifest, folder)
    _normalizations(config["feature_normalization"], modalities, manifest)
    reduced_columns(config["feature_reduction"], list(manifest.modalities))
    feature_type(config["feature_precision"])
    for modality in modalities:
        read_modality(folder, manifest.modalities[modality])


def _corrupt(
    config: Any,
    matrices: Sequence[Tensor],
    mask: Tensor,
    modalities: Sequence[str],
    item_tokens: Sequence[str],
) -> Tensor:
    """Corrupt what `feature_corruption` says, in place, and return what that was [I, M]."""
    corruption = FeatureCorruption.from_setting(
        config["feature_corruption"], modalities, config["seed"] or 0
    )
    if corruption is None:
        return torch.zeros_like(mask)
    corrupted = corruption.apply(matrices, mask, modalities, item_tokens)
    for modality, column in zip(modalities, corrupted.T, strict=True):
        logging.getLogger().warning(
            "Features %r: %d items corrupted on purpose (%s).",
            modality,
            int(column.sum()),
            corruption.kind,
        )
    return corrupted


def modality_names(config: Any) -> tuple[str, ...]:
    """Return the modalities that a configuration uses, without loading their features.

    Raises:
        FeatureError: the files do not exist, or lack a modality that is named.
    """
    folder, manifest = _manifest(config)
    return _chosen_modalities(config["modalities"], manifest, folder)


def _manifest(config: Any) -> tuple[Path, FeatureManifest]:
    folder = feature_folder(config)
    if config["dataset"] == BUNDLED_DATASET and not config["feature_path"]:
        ensure_bundled_features(folder)
    return folder, read_manifest(folder, config["dataset"])


def feature_folder(config: Any) -> Path:
    """Return the folder of the feature files: `feature_path`, or else the dataset's own folder.

    RecBole sets `data_path` of the dataset that it ships to a folder of its own package, whatever
    the user asked for. Features are never written there but below the `data_path` as it was given.
    """
    if config["feature_path"]:
        return Path(config["feature_path"])
    if config["dataset"] == BUNDLED_DATASET:
        given = getattr(config, "external_config_dict", None) or {}
        return Path(given.get("data_path") or "dataset", BUNDLED_DATASET)
    return Path(config["data_path"])


def _chosen_modalities(
    named: str | Sequence[str] | None, manifest: FeatureManifest, folder: Path
) -> tuple[str, ...]:
    available = list(manifest.modalities)
    if named is None:
        return tuple(available)
    chosen = (named,) if isinstance(named, str) else tuple(str(name) for name in named)
    for modality in chosen:
        if modality not in available:
            raise FeatureError(
                f"{manifest.path(folder, manifest.dataset)}: expected the modality {modality!r} "
                f"that `modalities` names, found {', '.join(available)}. Change `modalities`, or "
                f"write its features (docs/data.md).{nearest_hint(modality, available)}"
            )
    if not chosen or len(set(chosen)) < len(chosen):
        raise FeatureError(
            f"`modalities`: expected different names among {', '.join(available)}, or null for all "
            f"of them, found {list(chosen)}."
        )
    return chosen


def _normalizations(
    setting: str | Mapping[str, str] | None, modalities: Sequence[str], manifest: FeatureManifest
) -> dict[str, str]:
    if setting is None or isinstance(setting, str):
        setting = dict.fromkeys(modalities, setting or "none")
    check_modality_names("feature_normalization", setting, list(manifest.modalities))
    for modality, normalization in setting.items():
        choice(*NORMALIZATIONS)(f"feature_normalization.{modality}", normalization)
    return {modality: setting.get(modality, "none") for modality in modalities}


def _aligned(
    folder: Path, manifest: FeatureManifest, modality: str, item_tokens: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Return the matrix [I, D] of the items, and which have a row that is not all zero [I]."""
    entry = manifest.modalities[modality]
    stored, stored_tokens = read_modality(folder, entry)
    path = folder / entry.file
    rows = _rows_by_item(item_tokens, stored_tokens, path, manifest.dataset)
    return _gather(stored, rows, item_tokens, path)


def _rows_by_item(
    item_tokens: Sequence[str], stored_tokens: Sequence[str], path: Path, dataset_name: str
) -> NDArray[np.intp]:
    """Return [I] the row of each item in the file, -1 for PAD and for items that have none."""
    row_of = {token: row for row, token in enumerate(stored_tokens)}
    rows = np.array([row_of.get(token, -1) for token in item_tokens], dtype=np.intp)
    rows[0] = -1
    unknown = len(stored_tokens) - int((rows >= 0).sum())
    if unknown == len(stored_tokens):
        raise FeatureError(
            f"{path}: expected the item tokens of the dataset {dataset_name!r}, such as "
            f"{', '.join(item_tokens[1:4])}; found none of them, but "
            f"{', '.join(stored_tokens[:3])}. Write the features with the tokens of the .inter "
            "file (docs/data.md)."
        )
    if unknown:
        logging.getLogger().warning(
            "%s: %d of %d items are unknown to the dataset %r; their features are not used.",
            path,
            unknown,
            len(stored_tokens),
            dataset_name,
        )
    return rows


def _gather(
    stored: NDArray[np.floating], rows: NDArray[np.intp], item_tokens: Sequence[str], path: Path
) -> tuple[Tensor, Tensor]:
    """Copy the rows [I], -1 for none, of a memory-mapped matrix [rows, D], a block at a time."""
    # Memory of torch begins at a multiple of 64 bytes; elsewhere the last digit of a product may
    # depend on where the matrix happens to lie, and so on the process.
    gathered = torch.zeros(len(rows), stored.shape[1])
    matrix = gathered.numpy()
    items = np.flatnonzero(rows >= 0)
    items = items[np.argsort(rows[items])]  # read the file from front to back
    bad: list[str] = []
    for block in row_blocks(len(items), stored.shape[1]):
        values = stored[rows[items[block]]]
        matrix[items[block]] = values
        bad.extend(item_tokens[item] for item in items[block][~np.isfinite(values).all(axis=1)])
        _release(stored)
    if bad:
        raise FeatureError(
            f"{path}: expected finite numbers, found NaN or infinity for {len(bad)} items, first "
            f"{', '.join(bad[:5])}. Repair these rows, or leave the items out: they then miss the "
            "modality."
        )
    present = matrix.any(axis=1)
    zeros = len(items) - int(present.sum())
    if zeros == len(items):
        raise FeatureError(f"{path}: expected features, found only rows of zeros.")
    if zeros:
        logging.getLogger().warning(
            "%s: %d items have a row of zeros; they are taken to miss the modality.", path, zeros
        )
    return gathered, torch.from_numpy(present)


def _release(stored: NDArray[np.floating]) -> None:
    """Let go of the pages of a memory map that were read, which else add up to the whole file."""
    pages: Any = stored.base
    if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)
