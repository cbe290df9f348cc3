from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_margo.encode import item_encoding
from recbole_margo.encode.item_encoding import EncodingCache


def digest(number: int) -> bytes:
    return hashlib.sha256(bytes([number])).digest()


def vector(number: int) -> np.ndarray:
    return np.full(3, number, dtype=np.float32)


def test_vectors_come_back_after_a_flush(tmp_path: Path) -> None:
    cache = EncodingCache(tmp_path, "a")
    for number in range(3):
        cache.add(digest(number), vector(number))
    assert not list(tmp_path.iterdir())
    cache.flush()
    cache.add(digest(3), vector(3))
    cache.flush()
    cache.flush()
    assert len(list(cache.folder.iterdir())) == 2
    again = EncodingCache(tmp_path, "a")
    for number in range(4):
        np.testing.assert_array_equal(again.get(digest(number)), vector(number))
    assert again.get(digest(4)) is None
    assert EncodingCache(tmp_path, "b").get(digest(0)) is None


def test_much_or_old_is_written_without_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = EncodingCache(tmp_path, "a")
    monkeypatch.setattr(item_encoding, "FLUSH_BYTES", 2 * vector(0).nbytes)
    cache.add(digest(0), vector(0))
    assert not cache.folder.exists()
    cache.add(digest(1), vector(1))
    assert len(list(cache.folder.iterdir())) == 1
    monkeypatch.setattr(item_encoding, "FLUSH_SECONDS", 0.0)
    cache.add(digest(2), vector(2))
    assert len(list(cache.folder.iterdir())) == 2


class Program:
    """A pickle that would leave a trace."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("executed", "w")


def objects(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "pickle":
        return pickle.dumps(Program())
    if kind == "npy":
        np.save(stream, vector(0))
    else:
        np.savez(stream, keys=np.array([Program()], dtype=object), vectors=np.zeros((1, 3)))
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["pickle", "npy", "npz of objects"])
def test_foreign_files_are_dropped_and_never_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = EncodingCache(tmp_path, "a").folder
    folder.mkdir(parents=True)
    (folder / "foreign.npz").write_bytes(objects(kind))
    assert EncodingCache(tmp_path, "a").get(digest(0)) is None
    assert not list(folder.iterdir())
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("place", [".encodings", ".encodings/a"])
def test_nothing_is_removed_where_a_link_leads(tmp_path: Path, place: str) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "a").mkdir(parents=True)
    for folder in (theirs, theirs / "a"):
        np.savez(folder / "results.npz", mine=np.arange(3))
    (tmp_path / "data" / place).parent.mkdir(parents=True)
    (tmp_path / "data" / place).symlink_to(theirs)
    assert EncodingCache(tmp_path / "data", "a").get(digest(0)) is None
    assert len(list(theirs.rglob("*.npz"))) == 2


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_damage_is_never_an_error_and_never_another_vector(
    tmp_path: Path, data: st.DataObject
) -> None:
    cache = EncodingCache(tmp_path, "a")
    cache.add(digest(0), vector(0))
    cache.flush()
    (path,) = cache.folder.iterdir()
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    found = EncodingCache(tmp_path, "a").get(digest(0))
    # Dropped, or unharmed; never another vector.
    assert found is None or np.array_equal(found, vector(0))
    path.unlink(missing_ok=True)
