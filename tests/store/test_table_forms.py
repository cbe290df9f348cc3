"""Dialects of tables: read as what they are, or refused with what mends them."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pytest

from dataset_converters.tabular import TabularConverter
from recbole_margo.errors import DataError
from recbole_margo.store.tables import delimited
from recbole_margo.store.tables.delimited import DelimitedTable
from recbole_margo.store.tables.table_form import first_names_columns

ROWS = [f"u{user},i{item},{1 + item % 5},{1_700_000_000 + item}" for user in range(8)
        for item in range(6)]  # fmt: skip
HEADER = "user_id,item_id,rating,timestamp"
TABLE = "\n".join([HEADER, *ROWS]) + "\n"


def counts(folder: Path, content: bytes, **options: object) -> tuple[int, int, int]:
    (folder / "rows.csv").write_bytes(content)
    report = TabularConverter(folder / "rows.csv", "forms", **options).preview()  # type: ignore
    return report.rows_read, report.users, report.items


@pytest.mark.parametrize(
    "content",
    [
        ("sep=;\n" + TABLE.replace(",", ";")).encode(),
        ('\ufeff"sep=;"\r\n' + TABLE.replace(",", ";")).encode(),
        ("# exported 2023\n# by, a, program\n" + TABLE).encode(),
        TABLE.replace("timestamp", "2023").encode(),
        TABLE.encode("utf-16-le"),
        TABLE.encode("utf-16-be"),
        TABLE.encode("utf-32"),
        codecs.BOM_UTF16_BE + TABLE.encode("utf-16-be"),
        gzip.compress(gzip.compress(TABLE.encode())),
        TABLE.replace("\n", "\r").encode(),
        TABLE.replace("\n", "\r\n", 7).encode(),
        "\n".join(ROWS).encode(),
        "\n".join(f'"{row.replace(",", chr(34) + "," + chr(34))}"' for row in [HEADER, *ROWS])
        .encode(),
    ],
)  # fmt: skip
def test_dialects_that_are_certain_are_read(tmp_path: Path, content: bytes) -> None:
    assert counts(tmp_path, content) == (48, 8, 6)


def test_ids_that_begin_like_a_comment_are_ids(tmp_path: Path) -> None:
    rows = [f"#{row}" for row in ROWS]
    assert counts(tmp_path, "\n".join([HEADER, *rows]).encode()) == (48, 8, 6)
    assert counts(tmp_path, "\n".join(rows).encode()) == (48, 8, 6)
    assert counts(tmp_path, "\n".join([f"#{HEADER}", *ROWS]).encode()) == (48, 8, 6)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (["user_id,item_id,2023", "u0,i2,4", "u1,i2,3"], True),
        (["a,b,2023", "u0,i2,4", "u1,i2,3"], False),
        (["who,what,when", "u0,i2,4", "u1,i2,3"], True),
        (["0,1,2", "a,b,4", "c,d,5"], True),
        (["1,2,3", "4,5,6", "7,8,9"], False),
        (["u1,i1,4", "u1,i2,"], False),
        (["7,book,A title", "8,music,Another"], False),
        (["item,1,2", "x,3,4"], False),
        (["itemid,1,2", "x,3,4"], True),
    ],
)
def test_the_first_line_names_columns_where_it_differs_from_the_rest(
    records: list[str], expected: bool
) -> None:
    assert first_names_columns([record.split(",") for record in records]) is expected


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("rows.csv", TABLE)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (zipped(), "unzip rows.csv"),
        (gzip.compress(zipped()), "unzip rows.csv"),
        (bz2.compress(TABLE.encode()), "bunzip2 -k rows.csv"),
        (lzma.compress(TABLE.encode()), "xz -dk rows.csv"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 9, "zstd -d rows.csv"),
        (gzip.compress(gzip.compress(gzip.compress(TABLE.encode()))), "gunzip -k rows.csv"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        (TABLE.encode().replace(b"u1,i2", b"u1\0,i2"), "rows.csv, line 10: expected text"),
        (TABLE.encode("utf-8").replace(b"u1,i2", b"u\xe9,i2"), "line 10: expected UTF-8"),
    ],
)
def test_other_files_are_refused_with_what_mends_them(
    tmp_path: Path, content: bytes, remedy: str
) -> None:
    with pytest.raises(DataError) as caught:
        counts(tmp_path, content)
    assert remedy in str(caught.value)


@pytest.mark.parametrize("encoding", ["hex", "base64", "rot13", "zip", "none-such", "a\0b"])
def test_what_is_no_encoding_of_text_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError, match="--encoding: expected the name of an encoding"):
        counts(tmp_path, TABLE.encode(), encoding=encoding)


@pytest.mark.parametrize("separator", ['"', "\n", "\r", '","'])
def test_what_cannot_separate_is_refused(tmp_path: Path, separator: str) -> None:
    with pytest.raises(DataError, match="--separator"):
        counts(tmp_path, TABLE.encode(), separator=separator)


def read_in_blocks(path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", size)
    table = DelimitedTable(path, ",", header=True)
    rows = []
    for piece in table.read(table.columns, "reading"):
        assert list(piece.index) == sorted(piece.index)
        rows += piece.to_numpy().tolist()
    return rows


def test_blocks_end_where_records_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ['a "b" c', 'line\nline, "x"\r\n', '"', '""\n""', "", '12" vinyl', "\n,\n", "é" * 9]
    rows = [[f"u{row}", texts[row % 8], f"i{row}"] for row in range(40)]
    quoted = ["a,b,c", *(",".join(f'"{f.replace(chr(34), chr(34) * 2)}"' for f in r) for r in rows)]
    path = tmp_path / "rows.csv"
    path.write_bytes("\n".join(quoted).encode())
    for size in (1, 3, 7, 64, 1 << 20):
        assert read_in_blocks(path, size, monkeypatch) == rows
    # A quote inside a field that has none around it is a character like others.
    path.write_bytes(b'a,b\n1,12" vinyl\n2,x""y\n3,"z\n""z"\n4,w\n')
    expected = [["1", '12" vinyl'], ["2", 'x""y'], ["3", 'z\n"z'], ["4", "w"]]
    for size in (1, 5, 1 << 20):
        assert read_in_blocks(path, size, monkeypatch) == expected


def test_lines_of_errors_are_counted_through_all_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(TABLE + "u1,i1,1,2,3\n", encoding="utf-8")
    for size in (40, 1 << 20):
        with pytest.raises(DataError, match=r"rows\.csv: .*line 50|line 50"):
            read_in_blocks(path, size, monkeypatch)


@pytest.mark.parametrize("inside", [b"x", b"x\n", b'""\n', b'"",'])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_no_field_is_longer_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bytes, compress
) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(delimited, "LINE_BYTES", 1 << 16)
    field = inside * ((1 << 18) // len(inside))
    (tmp_path / "rows.csv").write_bytes(compress(TABLE.encode() + b'u1,"' + field + b'",1,2\n'))
    held = []
    cut = delimited._last_end
    monkeypatch.setattr(delimited, "_last_end", lambda *a: (held.append(len(a[0])), cut(*a))[1])
    with pytest.raises(DataError, match="line 50: expected a record of text"):
        TabularConverter(tmp_path / "rows.csv", "forms").preview()
    assert max(held) <= (1 << 16) + (1 << 12)


def test_rows_that_lack_fields_and_comments_between_rows_are_counted(tmp_path: Path) -> None:
    lines = [HEADER, *ROWS[:20], "# by hand, from here on", *ROWS[20:], "u0,i9", "u1,i9,3"]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    report = TabularConverter(tmp_path / "rows.csv", "forms").preview()
    assert (report.rows_read, report.items, report.dropped) == (len(ROWS) + 2, 7, {})
    assert [note for note in report.notes if "rows.csv" in note][1:] == [
        "1 lines of rows.csv that begin with # and lack fields are taken for comments; left out",
        f"2 rows of rows.csv have fewer than 4 fields, first in line {len(ROWS) + 3}; what they "
        "lack is taken for empty",
    ]


@pytest.mark.parametrize("separator", [",", "::"])
def test_a_short_row_in_a_table_of_items_is_counted(tmp_path: Path, separator: str) -> None:
    (tmp_path / "rows.csv").write_text(TABLE)
    rows = [
        "item_id,title,brand",
        *(f"i{item},Title {item},Brand" for item in range(5)),
        "i5,Title",
    ]
    (tmp_path / "items.csv").write_text("\n".join(rows).replace(",", separator) + "\n\n")
    report = TabularConverter(
        tmp_path / "rows.csv", "forms", items=tmp_path / "items.csv"
    ).preview()
    assert (
        "1 rows of items.csv have fewer than 3 fields, first in line 7; what they lack is taken "
        "for empty"
    ) in report.notes
