"""Item features on disk: a matrix and its item tokens per modality, written and read back."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from recbole_margo.errors import DataError
from recbole_margo.store.manifest import REWRITE, EncoderRecord, FeatureEntry, FeatureManifest
from recbole_margo.store.reading import require_regular_file
from recbole_margo.store.writing import disk_errors, locked, replacing, write_npy

MODALITY_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
BLOCK_BYTES = 1 << 24
# What numpy raises when it opens a file that is none of its own, or a damaged one.
NPY_ERRORS = (
    ValueError,
    TypeError,
    EOFError,
    OSError,
    OverflowError,
    MemoryError,
    RecursionError,
    TokenError,
    SyntaxError,
    BadZipFile,
)


def write_features(
    folder: Path,
    dataset_name: str,
    modality: str,
    matrix: NDArray[Any],
    tokens: Sequence[str],
    source: str,
    encoder: EncoderRecord | None = None,
) -> FeatureEntry:
    """Write the features of one modality and enter them in the dataset's manifest.

    Args:
        folder: the dataset's folder; it is made when it does not exist.
        modality: name of the modality; an entry of this name is replaced.
        matrix: [rows, D] of any float type, in memory or memory-mapped. float16 is kept, every
            other type becomes float32. A row of zeros says that the item misses the modality: it
            is left out.
        tokens: [rows] the item token of every row.
        source: where the matrix came from, for people.

    Raises:
        DataError: the name, the matrix or the tokens are not so, a value is not finite, or the disk
            is full.
    """
    kept = _checked_rows(modality, matrix, tokens, source)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # The matrix and its tokens too: two that write one modality would mix theirs.
        with locked(folder):
            entry = _write_rows(folder, dataset_name, modality, matrix, tokens, source, kept)
            entry = replace(entry, encoder=encoder)
            modalities: dict[str, FeatureEntry] = {}
            if FeatureManifest.path(folder, dataset_name).exists():
                modalities = FeatureManifest.read(folder, dataset_name).modalities
            FeatureManifest(dataset_name, {**modalities, modality: entry}).write(folder)
    return entry


def write_matrix(
    folder: Path,
    dataset_name: str,
    modality: str,
    matrix: NDArray[Any],
    tokens: Sequence[str],
    source: str,
) -> FeatureEntry:
    """Write the two files of one modality and leave the manifest alone.

    Args and errors are those of `write_features`.
    """
    kept = _checked_rows(modality, matrix, tokens, source)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return _write_rows(folder, dataset_name, modality, matrix, tokens, source, kept)


def _write_rows(
    folder: Path,
    dataset_name: str,
    modality: str,
    matrix: NDArray[Any],
    tokens: Sequence[str],
    source: str,
    kept: NDArray[np.intp],
) -> FeatureEntry:
    matrix_path = folder / f"{dataset_name}.{modality}.npy"
    tokens_path = folder / f"{dataset_name}.{modality}.tokens"
    dtype = np.dtype(np.float16 if matrix.dtype == np.float16 else np.float32)
    with replacing(matrix_path) as temporary:
        shape = (len(kept), matrix.shape[1])
        blocks = row_blocks(*shape, f"writing {modality}")
        write_npy(temporary, dtype, shape, (matrix[kept[rows]] for rows in blocks))
    with replacing(tokens_path) as temporary:
        temporary.write_text("".join(f"{tokens[row]}\n" for row in kept), encoding="utf-8")
    return FeatureEntry(
        file=matrix_path.name,
        tokens=tokens_path.name,
        rows=len(kept),
        dim=matrix.shape[1],
        dtype=dtype.name,
        sha256=file_sha256(matrix_path),
        tokens_sha256=file_sha256(tokens_path),
        source=source,
    )


def open_matrix(path: Path) -> NDArray[Any]:
    """Open a `.npy` matrix memory-mapped, without executing anything that it may carry.

    Raises:
        DataError: the file is missing, is no plain `.npy` array, or the array is not a matrix.
    """
    if not path.is_file():
        raise DataError(f"{path}: expected a .npy matrix, found that the file does not exist.")
    try:
        # Object arrays are pickles, and a pickle is a program: numpy refuses both here.
        with numpy_silent():
            matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except NPY_ERRORS as error:
        raise DataError(
            f"{path}: expected a plain .npy matrix of floats, found a file that numpy does not "
            f"open without pickle ({error}). Save it again: numpy.save(path, "
            "matrix.astype('float32'))."
        ) from error
    if not isinstance(matrix, np.ndarray):
        matrix.close()
        raise DataError(
            f"{path}: expected one .npy matrix, found an .npz archive. Save the array alone."
        )
    if matrix.ndim != 2:
        raise DataError(
            f"{path}: expected a matrix [rows, D], found shape {matrix.shape}. Save it with one "
            "row an item."
        )
    return matrix


@contextmanager
def numpy_silent() -> Iterator[None]:
    """Keep back numpy's warning on files of Python 2, which it reads as well as others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def row_blocks(rows: int, columns: int, label: str | None = None) -> Iterator[slice]:
    """Yield slices that cover `rows` rows of `columns` columns, each of a few megabytes.

    Args:
        label: text of a progress bar on a terminal; none by default.
    """
    step = max(1, BLOCK_BYTES // (8 * max(1, columns)))
    hidden: bool | None = label is None or None  # None: tqdm shows the bar on a terminal only
    for start in tqdm(range(0, rows, step), desc=label, leave=False, disable=hidden):
        yield slice(start, min(rows, start + step))


def equal_groups(rows: NDArray[np.floating], label: str | None = None) -> list[NDArray[np.intp]]:
    """Return the places of rows [n, D] that equal each other bit for bit, two or more a group.

    Args:
        label: text of a progress bar on a terminal; none by default.
    """
    places: dict[bytes, list[int]] = defaultdict(list)
    for block in row_blocks(len(rows), rows.shape[1], label):
        # + 0.0: minus zero equals zero.
        for place, row in enumerate(rows[block] + 0.0, start=block.start):
            places[hashlib.sha256(row).digest()].append(place)
    return [np.array(group) for group in places.values() if len(group) > 1]


def first_duplicate(tokens: Sequence[str]) -> str | None:
    """Return the first token that occurs a second time, or None."""
    seen: set[str] = set()
    for token in tokens:
        if token in seen:
            return token
        seen.add(token)
    return None


def _checked_rows(
    modality: str, matrix: NDArray[Any], tokens: Sequence[str], source: str
) -> NDArray[np.intp]:
    """Return the rows that are not all zero, once all can be written."""
    where = f"{source}, modality {modality!r}"
    if not MODALITY_NAME.fullmatch(modality):
        raise DataError(
            f"{where}: expected a name of letters, digits, '_' and '-' that begins with a letter."
        )
    if matrix.ndim != 2 or not np.issubdtype(matrix.dtype, np.floating):
        raise DataError(
            f"{where}: expected a matrix [rows, D] of floats, found shape {matrix.shape} and type "
            f"{matrix.dtype}. Reshape it, or cast it with matrix.astype('float32')."
        )
    if len(tokens) != matrix.shape[0]:
        raise DataError(
            f"{where}: expected one item token a row, found {matrix.shape[0]} rows and "
            f"{len(tokens)} tokens."
        )
    repeated = first_duplicate(tokens)
    if repeated is not None:
        raise DataError(
            f"{where}: expected each item token once, found {repeated!r} twice. Keep one row an "
            "item."
        )
    unwritable = next((token for token in tokens if not _is_line(token)), None)
    if unwritable is not None:
        raise DataError(
            f"{where}: expected item tokens of one line of text each, found {unwritable!r}. Rename "
            "the item."
        )
    return _rows_with_features(matrix, tokens, where)


def _is_line(token: str) -> bool:
    """Tell whether a token can be a line of a file, and a field that pandas reads to its end."""
    try:
        token.encode("utf-8")  # half of a surrogate pair, as broken JSON may hold it, cannot
    except UnicodeEncodeError:
        return False
    return token.splitlines() == [token] and "\0" not in token


def _rows_with_features(
    matrix: NDArray[Any], tokens: Sequence[str], where: str
) -> NDArray[np.intp]:
    """Return the rows that are not all zero; every value must fit its type on disk."""
    present = np.zeros(len(tokens), dtype=bool)
    bad: list[str] = []
    limit = np.finfo(np.float16 if matrix.dtype == np.float16 else np.float32).max
    for rows in row_blocks(len(tokens), matrix.shape[1], "checking"):
        block = np.abs(matrix[rows])
        present[rows] = block.any(axis=1)
        # Written so that NaN fails too.
        fits = (block <= limit).all(axis=1)
        bad.extend(tokens[rows.start + offset] for offset in np.flatnonzero(~fits))
    if bad:
        raise DataError(
            f"{where}: expected finite values, found NaN, infinity or numbers beyond float32 for "
            f"{len(bad)} items, first {', '.join(bad[:5])}. Repair these rows, or leave the items "
            "out: they then miss the modality."
        )
    if not present.any():
        raise DataError(f"{where}: expected features, found {len(tokens)} rows of zeros.")
    return np.flatnonzero(present)


def read_stored_features(folder: Path, entry: FeatureEntry) -> tuple[NDArray[Any], list[str]]:
    """Return the matrix [rows, D] of a modality, memory-mapped, and its item tokens [rows]."""
    path, tokens_path = folder / entry.file, folder / entry.tokens
    try:
        for one in (path, tokens_path):
            require_regular_file(one, "the file that the manifest names")
        matrix = open_matrix(path)
    except DataError as error:
        raise DataError(f"{error} {REWRITE}") from error
    if matrix.dtype not in (np.float16, np.float32):
        raise DataError(
            f"{path}: expected float16 or float32, found {matrix.dtype}. Write it with "
            "recbole_margo.store.feature_files.write_features, which casts float64 (docs/data.md)."
        )
    tokens = _read_tokens(tokens_path)
    if len(tokens) != len(matrix):
        raise DataError(
            f"{path}: expected one row for each of the {len(tokens)} tokens of {entry.tokens}, "
            f"found {len(matrix)} rows. {REWRITE}"
        )
    _check_sha256(path, entry.sha256)
    _check_sha256(tokens_path, entry.tokens_sha256)
    return matrix, tokens


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
