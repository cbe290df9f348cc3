"""NumPy's files from a stranger: no small file stands for much memory or endless work."""

from __future__ import annotations

import io
import os
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dataset_converters.item_inputs import read_keyed_matrix
from recbole_margo.data.feature_transforms import ReducedFeatures
from recbole_margo.encode.item_encoding import EncodingCache
from recbole_margo.errors import CheckpointError, DataError
from recbole_margo.evaluation.item_weights import ItemWeights
from recbole_margo.evaluation.per_user import PerUserMetrics
from recbole_margo.store import numpy_archive
from recbole_margo.store.numpy_archive import read_archive
from recbole_margo.studies.agreement.replay import Replay

NAMES = (
    *("ids", "keys", "vectors", "matrix", "explained", "items", "modalities", "weights"),
    *("present", "users", "metric_names", "metric_values", "pair_user", "pair_item", "pair_rank"),
    "identity",
)


def header(kind: str, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    described = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue()


def bomb(path: Path) -> None:
    """Write an archive of 1 MB that holds a gigabyte of zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in NAMES:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(header("<f4", (1 << 18, 256)))
                for _ in range(4 if name != "matrix" else 256):
                    member.write(bytes(1 << 20))


def endless(path: Path) -> None:
    """Write an archive of texts without characters, a thousand billion of them."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in NAMES:
            archive.writestr(f"{name}.npy", header("<U0", (10**12,)))


def pipe(path: Path) -> None:
    os.mkfifo(path)


def encodings(path: Path) -> None:
    cache = EncodingCache(path.parent / "data", "a")
    cache.folder.mkdir(parents=True)
    path.rename(cache.folder / "0.npz")
    EncodingCache(path.parent / "data", "a")
    assert not list(cache.folder.iterdir())


def nothing_is_read(path: Path) -> None:
    assert ReducedFeatures.stored(path, (1 << 18, 256)) is None
    assert Replay.load(path, "a") is None


READERS = {
    "archive": (read_archive, DataError),
    "matrix with ids": (read_keyed_matrix, DataError),
    "metrics by user": (PerUserMetrics.load, CheckpointError),
    "weights": (ItemWeights.load, CheckpointError),
    "encodings": (encodings, None),
    "what can be made anew": (nothing_is_read, None),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("writer", [bomb, endless, pipe])
def test_no_reader_takes_what_is_not_in_the_file(tmp_path: Path, writer, reader: str) -> None:
    path = tmp_path / "small.npz"
    writer(path)
    read, error = READERS[reader]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if error is None:
        read(path)
    else:
        with pytest.raises(error, match=r"small\.npz"):
            read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_ids_without_characters_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.ones((3, 2), np.float32))
    (tmp_path / "image.ids.npy").write_bytes(header("<U0", (10**12,)))
    with pytest.raises(DataError, match="which holds neither"):
        read_keyed_matrix(tmp_path / "image.npy")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("matrix.npy", header("<f4", (1,)) + bytes(4))
    with pytest.raises(DataError, match="compressed in another way"):
        read_archive(tmp_path / "a.npz")


def test_what_is_compressed_well_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = np.zeros(1 << 16, np.float32)
    np.savez_compressed(tmp_path / "a.npz", zeros=zeros)
    np.savez(tmp_path / "b.npz", zeros=zeros)
    np.testing.assert_array_equal(read_archive(tmp_path / "a.npz")["zeros"], zeros)
    monkeypatch.setattr(numpy_archive, "LARGEST_BYTES", 1 << 10)
    np.testing.assert_array_equal(read_archive(tmp_path / "b.npz")["zeros"], zeros)
    with pytest.raises(DataError, match=r"expands 100 times at most.*numpy\.savez"):
        read_archive(tmp_path / "a.npz")
