"""RecBole reads atomic files and lists items by user faster, and the same to the last digit."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from recbole.data import create_dataset

from recbole_margo.data.protocol import load_and_split, split_fingerprint
from recbole_margo.recbole_mends import pandas_that_reads_fast
from recbole_margo.testing import make_config, random_world

OPTIONS = {
    "delimiter": "\t",
    "usecols": ["user:token", "rating:float"],
    "dtype": {"user:token": str, "rating:float": np.float64},
    "encoding": "utf-8",
    "engine": "python",
}
FIELDS = st.one_of(
    st.sampled_from(["", " ", "NA", "nan", "NULL", "None", "-inf", "1e5", "007", "1_0", "#", '"']),
    st.text(alphabet="ab \"'\\,é\u00a0\u2028", max_size=4),
    st.floats().map(repr),
    st.integers(-(10**20), 10**20).map(str),
)


def outcome(read, path, options):
    """Return the table that was read, or the kind of error."""
    try:
        return read(path, **options)
    except Exception as error:  # whatever pandas says
        return type(error)


def check_same(path, options=OPTIONS):
    mended = pandas_that_reads_fast(pd)
    found, expected = (outcome(each.read_csv, path, options) for each in (mended, pd))
    if isinstance(expected, type):
        assert found is expected
    else:
        assert_frame_equal(found, expected, check_exact=True)


@given(rows=st.lists(st.lists(FIELDS, min_size=2, max_size=4), max_size=6), end=st.booleans())
def test_any_table_is_read_as_by_the_parser_in_python(tmp_path_factory, rows, end):
    path = tmp_path_factory.mktemp("table") / "a.inter"
    lines = ["\t".join(row) for row in [["user:token", "rating:float"], *rows]]
    path.write_text("\n".join(lines) + "\n" * end, encoding="utf-8")
    check_same(path)


@given(numbers=st.lists(st.floats(), min_size=1, max_size=20))
def test_numbers_are_the_same_to_the_last_digit(tmp_path_factory, numbers):
    path = tmp_path_factory.mktemp("table") / "a.inter"
    rows = [f"u{i}\t{value!r}" for i, value in enumerate(numbers)]
    path.write_text("\n".join(["user:token\trating:float", *rows]), encoding="utf-8")
    check_same(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"user:token\trating:float",
        b"user:token\trating:float\n",
        b"user:token\trating:float\na\t1\n\nb\t2\n",
        b"user:token\trating:float\na\t1\n  \nb\t2\n",
        b"user:token\trating:float\r\na\t1\r\nb\t2\r\n",
        b"user:token\trating:float\na\t1\rb\t2\n",
        b"user:token\trating:float\na\0b\t1\n",
        b"user:token\trating:float\na\t1\t2\nb\t2\n",
        b"user:token\trating:float\na\nb\t2\n",
        b'user:token\trating:float\n"a\t1\nb"\t2\n',
        b"\xef\xbb\xbfuser:token\trating:float\na\t1\n",
        b"user:token\trating:float\n\xff\t1\n",
        b"user:token\trating:float\na\tb\n",
        b"user:token\tother:token\na\tb\n",
    ],
)
def test_unusual_files_are_read_as_before(tmp_path, content):
    path = tmp_path / "a.inter"
    path.write_bytes(content)
    check_same(path)


def test_a_plain_file_is_read_by_the_parser_in_c_and_others_are_not(tmp_path):
    asked = []

    def read_csv(path, **options):
        asked.append(options["engine"])
        return pd.read_csv(path, **options)

    fast = pandas_that_reads_fast(SimpleNamespace(__name__="pandas", read_csv=read_csv))
    path = tmp_path / "a.inter"
    path.write_text("user:token\trating:float\na\t1\n")
    fast.read_csv(path, **OPTIONS)
    path.write_text('user:token\trating:float\n"a"\t1\n')
    fast.read_csv(path, **OPTIONS)
    fast.read_csv(path, **{**OPTIONS, "engine": "c"}, header=0)
    assert asked == ["c", "python", "c"]
    assert pandas_that_reads_fast(pd).DataFrame is pd.DataFrame


def test_recbole_gives_the_same_ids(tmp_path, monkeypatch):
    random_world().write(tmp_path)
    config = make_config(tmp_path, "MARGO")
    engines = []
    read_csv = pd.read_csv

    def noted(*words, **options):
        engines.append(options["engine"])
        return read_csv(*words, **options)

    monkeypatch.setattr(pd, "read_csv", noted)
    mended = create_dataset(config)
    assert set(engines) == {"c"}, "with the options that RecBole gives"
    monkeypatch.setattr("recbole.data.dataset.dataset.pd", pd)
    stock = create_dataset(config)
    assert_frame_equal(mended.inter_feat, stock.inter_feat, check_exact=True)
    for field, tokens in stock.field2id_token.items():
        assert list(mended.field2id_token[field]) == list(tokens)


def test_the_fingerprint_of_a_split_stays_what_it_was(tmp_path):
    """Runs of earlier versions hold it: a hash of the sorted lines of each part."""
    random_world().write(tmp_path)
    loaders = load_and_split(make_config(tmp_path, "MARGO"))[1]
    digest = hashlib.sha256()
    for loader in loaders:
        part = loader._dataset
        columns = [
            part.id2token(field, part.inter_feat[field].numpy())
            for field in (part.uid_field, part.iid_field)
        ]
        lines = sorted(f"{user}\t{item}" for user, item in zip(*columns, strict=True))
        digest.update("\n".join(lines).encode() + b"\n\n")
    assert split_fingerprint(*loaders) == digest.hexdigest()[:16]
