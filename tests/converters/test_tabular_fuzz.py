"""Whatever bytes a file holds, a converter makes a dataset of it or says what is wrong with it."""

from __future__ import annotations

import csv
import gzip
import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dataset_converters.item_inputs import ItemInputs, read_keyed_matrix
from dataset_converters.tabular import TabularConverter
from recbole_margo.errors import DataError

ROWS = [f"u{user},i{item},{1 + item % 5},{1000 + item}" for user in range(4) for item in range(5)]
TABLE = "\n".join(["user,item,rating,timestamp", *ROWS]).encode()
JSON_LINES = b"\n".join(
    b'{"user": "u%d", "item": %d, "title": "t %d"}' % (row % 4, row // 4, row) for row in range(20)
)
PIECES = st.sampled_from(
    b', \t ; :: " \n \r\n \r \0 \xff \xef\xbb\xbf \xff\xfe NaN -1 1e400 1.5 \\ { ] [[[[ user item '
    b"99999999999999999999 PAR1 \x1f\x8b 2024-13-01 \xc3\xbc \xe2\x80\xa8".split(b" ")
)
fuzzing = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def damaged(draw: st.DrawFn, contents: tuple[bytes, ...]) -> bytes:
    """Overwrite, insert and delete in one of the contents; perhaps compress and cut it."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(0, 5))):
        place = draw(st.integers(0, len(content)))
        content[place : place + draw(st.integers(0, 8))] = draw(PIECES)
    found = bytes(content)
    if draw(st.booleans()):
        found = gzip.compress(found, mtime=0)
    if draw(st.booleans()):
        found = found[: draw(st.integers(0, len(found)))]
    return found


@fuzzing
@given(damaged((TABLE, JSON_LINES, b"")) | st.binary(max_size=60))
@example(b"user,item\n" + b"a,b\n" * 5 + b"\x85,\x1c\n")
def test_interactions_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows"
    path.write_bytes(content)
    with suppress(DataError):
        report = TabularConverter(path, "fuzz").preview()
        assert report.rows_read >= sum(report.rows.values())


@fuzzing
@given(damaged((JSON_LINES, b"item,title\ni1,a b\ni2,b c\ni3,a c\n", TABLE)))
@example(b"item,title\ni1")
def test_items_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.csv").write_bytes(TABLE)
    (tmp_path / "items").write_bytes(content)
    with suppress(DataError):
        converter = TabularConverter(tmp_path / "rows.csv", "fuzz", items=tmp_path / "items")
        assert converter.preview().items == 5


def matrix_files() -> dict[str, bytes]:
    ids, matrix = np.array([f"i{item}" for item in range(5)]), np.ones((5, 3), dtype=np.float32)
    files = {".npy": io.BytesIO(), ".npz": io.BytesIO()}
    np.save(files[".npy"], matrix)
    np.savez(files[".npz"], ids=ids, vectors=matrix)
    contents = {suffix: file.getvalue() for suffix, file in files.items()}
    with suppress(ImportError):
        from safetensors.numpy import save

        contents[".safetensors"] = save({"ids": np.arange(5), "vectors": matrix})
    return contents


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
@fuzzing
@given(data=st.data())
def test_matrices_are_read_or_refused(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    contents = matrix_files()
    if suffix not in contents:
        pytest.skip("safetensors is not installed")
    path = tmp_path / f"text{suffix}"
    path.write_bytes(data.draw(damaged((contents[suffix],))))
    (tmp_path / "text.ids").write_bytes(data.draw(damaged((b"i0\ni1\ni2\ni3\ni4\n",))))
    with suppress(DataError):
        matrix, ids = read_keyed_matrix(path)
        assert len(matrix) == len(ids)


# Python 3.10 cannot write this character with its csv module, whoever reads it.
WRITABLE = st.characters(exclude_characters="\0", exclude_categories=["Cs"])


@fuzzing
@given(
    st.lists(
        st.tuples(
            st.text(WRITABLE, max_size=6),
            st.text(WRITABLE, max_size=6),
            st.text(WRITABLE, max_size=12),
        ),
        min_size=6,
        max_size=20,
    )
)
def test_any_text_survives_as_id_and_text(tmp_path: Path, rows) -> None:
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("user", "item", "title"), *rows])
    with suppress(DataError):
        converter = TabularConverter(
            tmp_path / "rows.csv",
            "fuzz",
            inputs=ItemInputs(text_features=False),
            items=tmp_path / "rows.csv",
            separator=",",
        )
        report = converter.preview()
        users = {user.strip() for user, item, _ in rows if user.strip() and item.strip()}
        assert report.users <= len(users)
