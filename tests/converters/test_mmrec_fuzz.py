"""Whatever a folder in MMRec's layout holds, it becomes a dataset or a DataError."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mmrec_source import COLUMNS, ROWS, write_source

from dataset_converters.downloads import DownloadLock
from dataset_converters.export import MMRecExport
from dataset_converters.mmrec import MMRecConverter, read_interactions
from recbole_margo.errors import DataError
from recbole_margo.store.dataset_files import SPLITS, write_splits
from recbole_margo.store.feature_files import write_features

INTER = "\n".join(["\t".join(COLUMNS), *("\t".join(map(str, row)) for row in ROWS)]).encode()
PIECES = st.sampled_from(
    b"\t|,|;| |\"|'|\n|\r\n|\r|\0|\xff|\xef\xbb\xbf|\xff\xfe|NaN|inf|-1|1.5|1e400|0x10|_|True|1e30"
    b"|userID|99999999999999999999|18446744073709551615|#|\\|\xc3\xbc|\xe2\x80\xa8".split(b"|")
)
fuzzing = settings(
    deadline=None,
    max_examples=50,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Overwrite, insert and delete in some content, and perhaps cut it."""
    found = bytearray(content)
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(found)))
        found[place : place + draw(st.integers(0, 8))] = draw(PIECES)
    return bytes(found[: draw(st.integers(0, len(found)))] if draw(st.booleans()) else found)


@fuzzing
@given(damaged(INTER) | damaged(INTER.replace(b"\n", b"\r\n")) | st.binary(max_size=60))
@example(INTER.replace(b"\t", b","))
@example(b"\xef\xbb\xbf" + INTER)
@example(INTER.replace(b"\t4\t", b"\t-4\t"))
@example(INTER.decode().encode("utf-16"))
@example(b"userID\titemID\tx_label\n" + b"\n" * 5)
@example(b"userID\titemID\tx_label\n0\t1\t0\n0\t1\t" + b"1" * 5000 + b"\n")
def test_interactions_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "toy.inter"
    path.write_bytes(content)
    with suppress(DataError):
        table = read_interactions(path)
        assert set(table["x_label"]) <= {0, 1, 2}
        assert (table[["user_id", "item_id"]] >= 0).all(axis=None)
        assert table.drop(columns="x_label").notna().all(axis=None)


def npy_bytes(header: str, body: bytes = bytes(64)) -> bytes:
    text = header.encode("latin-1").ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@fuzzing
@given(damaged(npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (5, 3), }")))
@example(b"PK\x03\x04 an archive that is none")
@example(b"PK\x05\x06" + bytes(18))
@example(npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 3), }"))
@example(npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (-5, 3), }"))
@example(npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (5, 10000000000), }"))
@example(npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3), }"))
@example(npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (5, 0), }"))
@example(npy_bytes("{'descr': '|O', 'fortran_order': False, 'shape': (5, 3), }"))
@example(npy_bytes("{'descr': 'V0', 'fortran_order': False, 'shape': (5, 3), }"))
@example(npy_bytes("{'descr': '<c8', 'fortran_order': False, 'shape': (5, 1), }"))
@example(npy_bytes("{[]: 1}"))
@example(npy_bytes("(" * 9000))
def test_features_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    source = write_source(tmp_path / "raw")
    (source / "text_feat.npy").write_bytes(content)
    with suppress(DataError):
        report = MMRecConverter(source, "toy").preview()
        assert report.items == 4


class _Bomb:
    """Unpickling it creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


def test_a_pickle_among_the_features_is_never_executed(tmp_path: Path) -> None:
    source = write_source(tmp_path / "raw")
    bombs = np.array([[_Bomb(tmp_path / "executed")]] * 5, dtype=object)
    np.save(source / "text_feat.npy", bombs, allow_pickle=True)
    content = (source / "text_feat.npy").read_bytes()
    for cut in (0, content.index(b"\n") + 1):  # the array, and the bare pickle in it
        (source / "text_feat.npy").write_bytes(content[cut:])
        with pytest.raises(DataError, match=r"without pickle"):
            MMRecConverter(source, "toy").preview()
    assert not (tmp_path / "executed").exists()


@fuzzing
@given(st.data())
def test_a_dataset_is_exported_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "dataset" / "toy"
    if not folder.exists():
        MMRecConverter(write_source(tmp_path / "raw"), "toy").run(tmp_path / "dataset")
    path = folder / data.draw(st.sampled_from(sorted(path.name for path in folder.iterdir())))
    content = path.read_bytes()
    path.write_bytes(data.draw(damaged(content)))
    try:
        with suppress(DataError):
            report = MMRecExport(folder, "toy", "mean").preview()
            assert report.rows_read == sum(report.rows.values()) > 0
    finally:
        path.write_bytes(content)


# A byte of value 0 is refused where it is read.
CHARACTERS = st.characters(exclude_characters="\0", codec="utf-8")
TOKENS = st.text(CHARACTERS, min_size=1, max_size=6).filter(
    lambda token: token.splitlines() == [token]
)


@fuzzing
@given(st.lists(TOKENS, min_size=3, max_size=6, unique=True))
@example(["NA", "null", '"'])
@example(["0", "2", "1"])
@example([" a", "a ", "\ufeffa"])
@example(["#", "'", "\\"])
def test_any_token_is_exported_as_it_is(tmp_path: Path, tokens: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path), "toy")
    folder.mkdir()
    rows = pd.DataFrame({"user_id": [str(u) for u in range(len(tokens))], "item_id": tokens})
    write_splits(folder, "toy", dict.fromkeys(SPLITS, rows))
    matrix = np.arange(1.0, len(tokens) + 1)[:, None]
    write_features(folder, "toy", "text", matrix, tokens, "a test")
    MMRecExport(folder, "toy").run(folder.parent / "out")

    written = folder.parent / "out" / "toy"
    mapping = pd.read_csv(written / "i_id_mapping.csv", sep="\t", dtype=str, na_filter=False)
    assert set(mapping["asin"]) == set(tokens)
    number = dict(zip(mapping["asin"], mapping["itemID"].astype(int), strict=True))
    features = np.load(written / "text_feat.npy")[:, 0]
    for row, token in enumerate(tokens):
        assert features[number[token]] == row + 1


@pytest.mark.parametrize("token", ["", "a\n", "a\u2028b", "a\0", "\ud800"])
def test_a_token_that_is_no_line_of_text_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(DataError, match=r"one line of text each, found '"):
        write_features(tmp_path, "toy", "text", np.ones((2, 1)), ["a", token], "a test")


@fuzzing
@given(damaged(b'{"baby/baby.inter": "' + b"0" * 64 + b'"}') | st.binary(max_size=20))
def test_a_lock_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "downloads.lock.json"
    path.write_bytes(content)
    with suppress(DataError):
        assert all(len(value) == 64 for value in DownloadLock.read(path).checksums.values())
