"""The inputs about items that a user names: images, and matrices whose rows say their item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_margo.command_line import option
from recbole_margo.errors import DataError, import_optional
from recbole_margo.store.dataset_files import IMAGE_SUFFIXES, files_by_name
from recbole_margo.store.feature_files import NPY_ERRORS, numpy_silent, open_matrix
from recbole_margo.store.numpy_archive import check_array, read_archive
from recbole_margo.store.reading import lines, reading, require_regular_file, text_of
from recbole_margo.store.tables.columns import ITEM_NAMES, check_overlap, guess_column
from recbole_margo.store.tables.parquet import ParquetTable
from recbole_margo.store.tables.table_file import clean_ids
from recbole_margo.store.text_space import DEFAULT_DIMENSION


@dataclass(frozen=True)
class ItemInputs:
    """Images, ready-made matrices, and what to make of texts."""

    images: Path | None = option(
        "folder of images named by item (17.jpg); they are listed in NAME.images.tsv",
        None,
        metavar="DIR",
    )
    features: dict[str, Path] = option(
        "a ready-made matrix: .npy with a file of ids, .npz, .safetensors or .parquet; once for "
        "each",
        {},
        metavar="MODALITY=FILE",
    )
    feature_ids: dict[str, Path] = option(
        "the item of every row of a matrix, an id a line or .npy (default: a file beside the "
        "matrix, such as STEM.ids)",
        {},
        metavar="MODALITY=FILE",
    )
    text_features: bool = option("make no modality 'text' (TF-IDF and SVD) of the texts", True)
    text_dimension: int = option("columns of the modality 'text'", DEFAULT_DIMENSION, metavar="D")

    def __post_init__(self) -> None:
        """Refuse ids of a matrix that is not given."""
        if strangers := sorted(self.feature_ids.keys() - self.features.keys()):
            raise DataError(
                f"--feature_ids: expected a matrix --features {strangers[0]}=FILE, found none."
            )


# Names of images, and their folder -> item and its images' names; and notes.
NamesByItem = Callable[[Sequence[str], Path], tuple[dict[str, list[str]], list[str]]]


def find_images(
    folder: Path, items: Sequence[str], names_by_item: NamesByItem | None = None
) -> tuple[dict[str, Path], list[str]]:
    """Find `<item>.jpg` (or .png, .webp, ...) for every item, in a folder and those in it.

    Returns:
        Item -> image, in the order of `items`; and notes on files that were left out.
    """
    if not folder.is_dir():
        raise DataError(f"--images: expected a folder, found that {folder} is none.")
    by_name, repeated = files_by_name(folder, IMAGE_SUFFIXES)
    names_of = {name: [name] for name in by_name}
    notes: list[str] = []
    if names_by_item is not None:
        names_of, notes = names_by_item(list(by_name), folder)
    check_overlap(list(names_of), items, folder)
    found = {item: by_name[names_of[item][0]] for item in items if item in names_of}
    # Two names of one item, too: 0114709.jpg and tt0114709.jpg.
    repeated += sum(len(names_of[item]) - 1 for item in found)
    if repeated:
        notes.append(f"{repeated:,} images have the name of another; the first by path is used")
    used = {name for item in found for name in names_of[item]}
    if len(by_name) > len(used):
        notes.append(f"{len(by_name) - len(used):,} images belong to no item with interactions")
    return found, notes


ID_NAMES = f"ids id itemids items tokens keys {ITEM_NAMES}"
IDS_BESIDE = ("{}.ids", "{}.tokens", "{}.ids.txt", "{}_ids.txt", "{}.ids.npy", "{}_ids.npy")

Matrix = NDArray[Any]


def read_keyed_matrix(
    path: Path,
    ids_file: Path | None = None,
    ids_of_rows: Callable[[int], list[str] | None] | None = None,
) -> tuple[Matrix, list[str]]:
    """Read a feature matrix and the item of every row.

    Args:
        path: `.npy` with ids in a file beside it; `.npz` with an array of ids; `.safetensors` with
            a tensor of ids, ids beside it, or one vector an item; parquet with an id and a vector
            column.
        ids_file: text with an id a line, or `.npy`; None looks for one of `IDS_BESIDE`.
        ids_of_rows: number of rows -> their ids, or None, where the source has a rule and no file.

    Returns:
        The matrix [rows, D] and the item ids [rows].
    """
    require_regular_file(path, "a feature matrix")
    if path.suffix not in READERS:
        raise DataError(
            f"{path}: expected a feature matrix in one of {', '.join(READERS)}, found "
            f"{path.suffix or 'no suffix'!r}. Save it as .npy with a file of ids."
        )
    matrix, ids = READERS[path.suffix](path)
    ids_file = ids_file or (_ids_beside(path) if ids is None else None)
    if ids_file is not None:
        ids = _read_ids(ids_file)
    elif ids is None and ids_of_rows is not None:
        ids = ids_of_rows(len(matrix))
    if ids is None:
        names = ", ".join(pattern.format(path.stem) for pattern in IDS_BESIDE)
        raise DataError(
            f"{path}: expected the item of every row in a file beside it ({names}), found none. "
            "Name it with --feature_ids MODALITY=FILE."
        )
    if matrix.ndim != 2 or len(ids) != len(matrix):
        raise DataError(
            f"{path}: expected a matrix [rows, D] with an id a row, found shape {matrix.shape} and "
            f"{len(ids)} ids{f' in {ids_file}' if ids_file else ''}. Take both from the same run."
        )
    return matrix, clean_ids(ids, str(ids_file or path))


def _ids_beside(path: Path) -> Path | None:
    files = (path.parent / pattern.format(path.stem) for pattern in IDS_BESIDE)
    return next((file for file in files if file.is_file()), None)


def _read_ids(path: Path) -> list[str]:
    if path.suffix == ".npy":
        require_regular_file(path, "a .npy array of ids")
        try:
            with numpy_silent():
                return _as_text(np.load(path, allow_pickle=False), path)
        except NPY_ERRORS as error:
            raise _unreadable(path, "a .npy array of ids", error) from error
    with reading(path) as stream:
        numbered = lines(stream, path, blank=True)
        return [text_of(line, path, number).strip() for number, line in numbered]


def _as_text(ids: NDArray[Any], path: Path) -> list[str]:
    if ids.ndim != 1 or ids.dtype.kind not in "iufSU":
        raise DataError(
            f"{path}: expected one row of ids, numbers or text, found shape {ids.shape} and type "
            f"{ids.dtype}."
        )
    check_array(ids, path)
    texts = np.char.decode(ids, "utf-8") if ids.dtype.kind == "S" else ids.astype(str)
    return [str(text).strip() for text in texts]


def _read_npy(path: Path) -> tuple[Matrix, None]:
    return open_matrix(path), None


def _read_npz(path: Path) -> tuple[Matrix, list[str] | None]:
    return _matrix_and_ids(read_archive(path), path)


def _read_safetensors(path: Path) -> tuple[Matrix, list[str] | None]:
    library = import_optional("safetensors.numpy", "safetensors", f"{path}: reading safetensors")
    try:
        tensors = library.load_file(path)
    except Exception as error:  # the library's own exceptions share no other base
        raise _unreadable(path, "a safetensors file of float16 or float32", error) from error
    if tensors and all(tensor.ndim == 1 for tensor in tensors.values()):
        lengths = {len(tensor) for tensor in tensors.values()}
        if len(lengths) > 1:
            raise DataError(
                f"{path}: expected one vector an item, all of one length, found the lengths "
                f"{sorted(lengths)[:5]}."
            )
        return np.stack(list(tensors.values())), list(tensors)
    return _matrix_and_ids(tensors, path)


def _matrix_and_ids(arrays: dict[str, NDArray[Any]], path: Path) -> tuple[Matrix, list[str] | None]:
    matrices = [name for name, array in arrays.items() if array.ndim == 2]
    if len(matrices) != 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "none"
        raise DataError(f"{path}: expected one matrix [rows, D], found the arrays {shapes}.")
    others = [name for name in arrays if name not in matrices]
    ids = guess_column(others, ID_NAMES)
    return arrays[matrices[0]], None if ids is None else _as_text(arrays[ids], path)


def _read_parquet(path: Path) -> tuple[Matrix, list[str] | None]:
    table = ParquetTable(path)
    ids_column = guess_column(table.columns, ID_NAMES)
    others = [column for column in table.columns if column != ids_column]
    if ids_column is None or len(others) != 1:
        raise DataError(
            f"{path}: expected a column of ids and a column of vectors, found "
            f"{', '.join(map(repr, table.columns))}. Write these two columns only."
        )
    ids: list[str] = []
    blocks: list[Matrix] = []
    for chunk in table.read([ids_column, *others], "reading vectors"):
        ids.extend(str(value).strip() for value in chunk[ids_column])
        blocks.append(_stacked(chunk[others[0]].tolist(), path))
    if not blocks:
        raise DataError(f"{path}: expected vectors, found no rows.")
    return np.concatenate(blocks), ids


def _stacked(vectors: Sequence[Any], path: Path) -> Matrix:
    try:
        block = np.stack([np.asarray(vector) for vector in vectors])
    except ValueError as error:
        raise _unreadable(path, "vectors of one length", error) from error
    if block.ndim != 2 or block.dtype.kind != "f":
        raise DataError(
            f"{path}: expected a column of vectors of floats, found values such as {vectors[0]!r}."
        )
    return block


def _unreadable(path: Path, expected: str, error: Exception) -> DataError:
    return DataError(
        f"{path}: expected {expected}, found a file that does not open as such ({error}). Save it "
        "again, without pickled objects."
    )


READERS: dict[str, Callable[[Path], tuple[Matrix, list[str] | None]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
}
