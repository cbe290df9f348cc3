"""Whatever the files of a dataset's features hold, they are loaded or refused by a FeatureError."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from feature_world import ITEMS, NAME, accept_files, toy_config, toy_dataset, write_toy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recbole_margo.data.features import load_item_features
from recbole_margo.errors import FeatureError

MANIFEST = f"{NAME}.features.json"
PIECES = st.sampled_from(
    b'\n|\r|\0|\xff|\xef\xbb\xbf|"|{|}|[|]|,|:|null|true|-1|1e999|..|/|\\|\\ud800|PK\x03\x04|<f8|<f2|O'
    b"|a|\xe2\x80\xa8".split(b"|")
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


def intact(folder: Path) -> Path:
    """Write the dataset of the tests anew over whatever the example before has left."""
    (folder / MANIFEST).unlink(missing_ok=True)
    return write_toy(folder)


def load_or_refuse(folder: Path) -> None:
    with suppress(FeatureError):
        features = load_item_features(toy_config(folder), toy_dataset())
        assert len(features.modalities) == len(features.matrices) > 0
        for column, matrix in enumerate(features.matrices):
            assert len(matrix) == len(ITEMS)
            assert matrix.isfinite().all()
            assert not matrix[~features.mask[:, column]].any()


@fuzzing
@given(st.data())
def test_damaged_files_are_loaded_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    intact(tmp_path)
    path = tmp_path / f"{NAME}.text.{data.draw(st.sampled_from(['npy', 'tokens']))}"
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    accept_files(tmp_path, "text")
    load_or_refuse(tmp_path)


@fuzzing
@given(st.data())
@example(b"[" * 100_000)
@example(b'{"format": ' + b"1" * 5000 + b"}")
@example(b"\xff\xfe{}")
def test_a_damaged_manifest_is_read_or_refused(tmp_path: Path, data: st.DataObject | bytes) -> None:
    intact(tmp_path)
    path = tmp_path / MANIFEST
    content = data if isinstance(data, bytes) else data.draw(damaged(path.read_bytes()))
    path.write_bytes(content)
    load_or_refuse(tmp_path)


JSON_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)


@fuzzing
@given(
    st.sampled_from(
        ["file", "tokens", "rows", "dim", "dtype", "sha256", "tokens_sha256", "source"]
    ),
    JSON_VALUES | st.lists(JSON_VALUES, max_size=2) | st.dictionaries(st.text(), JSON_VALUES),
)
@example("file", "")
@example("file", "..")
@example("file", "a\0b")
@example("tokens", "x" * 5000)
@example("tokens", "\ud800")
def test_any_value_in_the_manifest_is_read_or_refused(
    tmp_path: Path, field: str, value: object
) -> None:
    intact(tmp_path)
    content = json.loads((tmp_path / MANIFEST).read_text())
    content["modalities"]["text"][field] = value
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    load_or_refuse(tmp_path)
