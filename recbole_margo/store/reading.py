"""Files of strangers: of a kind that ends, decompressed, decoded, bounded in size and depth."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from tqdm import tqdm

from recbole_margo.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
GZIP_LAYERS = 2
BUFFER_BYTES = 1 << 20
# No record of any known source comes near; a "line" beyond it is no text, or a bomb.
LINE_BYTES = 1 << 26


# With what follows it: a text may begin with BZh.
BZIP2 = re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")
BZIP2_MAGIC = b"\0bzip2"
# Beginning, what it is, and what mends it.
OTHER_FORMATS = (
    (
        b"PK\x03\x04",
        "a zip archive or an Excel workbook",
        "Unpack it (unzip {0}), or save the sheet as CSV (in Excel: Save As, CSV UTF-8)",
    ),
    (b"PK\x05\x06", "an empty zip archive", "Fetch it again"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "Save the sheet as CSV"),
    (BZIP2_MAGIC, "a bzip2 archive", "Unpack it: bunzip2 -k {0}"),
    (b"\xfd7zXZ\0", "an xz archive", "Unpack it: xz -dk {0}"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", "Unpack it: zstd -d {0}"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it: 7z x {0}"),
    (b"Rar!\x1a\x07", "a rar archive", "Unpack it: unrar x {0}"),
    (b"\x93NUMPY", "a numpy array", "Give matrices with --features MODALITY=FILE"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "Write its table as csv or parquet"),
    (b"SQLite format 3\0", "an SQLite database", "Write its table as csv"),
    (b"%PDF-", "a PDF document", "Take the data from another source"),
)
PAGES = (b"<!doctype html", b"<html", b"<?xml", b"<error", b"<head")
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class _Counted(io.RawIOBase):
    """A file that moves a progress bar by every byte that is read."""

    def __init__(self, file: io.RawIOBase, bar: tqdm[Any]) -> None:
        self._file = file
        self._bar = bar

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = cast(int, self._file.readinto(buffer))
        self._bar.update(count)
        return count


def require_regular_file(path: Path, expected: str = "a file") -> None:
    """Check that a path leads to a file with an end, before it is opened for reading.

    A named pipe, a device or a socket would be waited for, or read, for ever.

    Raises:
        DataError: there is none, or it is of another kind.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = error.strerror if isinstance(error, OSError) else str(error)
        found = "that it does not exist" if isinstance(error, FileNotFoundError) else reason
        raise DataError(f"{path}: expected {expected}, found {found}.") from error
    if not stat.S_ISREG(mode):
        found = KINDS.get(stat.S_IFMT(mode), "something else")
        raise DataError(
            f"{path}: expected {expected}, found {found}. Name a regular file; what a program "
            "writes has to be saved in one first."
        )


@contextmanager
def reading(path: Path, label: str | None = None) -> Iterator[BinaryIO]:
    """Open a file for reading once; gzip is recognised by content, whatever the name says.

    Args:
        label: text of a progress bar on a terminal; none by default.

    Raises:
        DataError: the file is missing or empty, or its compression is cut short or damaged.
    """
    require_regular_file(path)
    size = path.stat().st_size
    if not size:
        raise DataError(f"{path}: expected data, found an empty file. Write or fetch it again.")
    hidden: bool | None = label is None or None  # None: tqdm shows the bar on a terminal only
    with (
        path.open("rb", buffering=0) as raw,
        tqdm(total=size, desc=label, unit="B", unit_scale=True, leave=False, disable=hidden) as bar,
    ):
        stream = io.BufferedReader(_Counted(raw, bar), BUFFER_BYTES)
        try:
            content: Any = stream
            # Some servers compress what is compressed already.
            for _ in range(GZIP_LAYERS):
                if content.peek(2)[:2] == GZIP_MAGIC:
                    layer = gzip.GzipFile(fileobj=content, mode="rb")
                    content = io.BufferedReader(cast(io.RawIOBase, layer), BUFFER_BYTES)
            _refuse_other_formats(content.peek(64)[:64], path)
            yield content
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"{path}: expected a whole gzip file, found one that is cut short or damaged "
                f"({error}). Fetch it again."
            ) from error


def _refuse_other_formats(head: bytes, path: Path) -> None:
    """Refuse archives and web pages, which no reader here would understand."""
    if head.startswith(GZIP_MAGIC):
        raise DataError(
            f"{path}: expected a file that is gzip compressed {GZIP_LAYERS} times at most, found "
            f"another layer. Unpack it: gunzip -k {path.name}"
        )
    if BZIP2.match(head):
        head = BZIP2_MAGIC
    for magic, kind, remedy in OTHER_FORMATS:
        if head.startswith(magic):
            raise DataError(
                f"{path}: expected text, plain or gzip compressed, found {kind}. "
                f"{remedy.format(path.name)}"
            )
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(PAGES):
        raise DataError(
            f"{path}: expected data, found a web page, as servers send in place of a file. Open "
            "it in a browser to see why, and fetch the file again."
        )


def lines(stream: BinaryIO, path: Path, blank: bool = False) -> Iterator[tuple[int, bytes]]:
    """Yield the number (from 1) and the bytes of every line that is not blank.

    A line that is longer than any text is a `DataError`.
    """
    number = 0
    while line := stream.readline(LINE_BYTES):
        number += 1
        if len(line) == LINE_BYTES:
            raise DataError(
                f"{path}, line {number}: expected a line of text, found more than "
                f"{LINE_BYTES >> 20} MiB without a line end. Is this the right file?"
            )
        if blank or line.strip():
            yield number, line


def text_of(line: bytes, path: Path, number: int) -> str:
    """Decode a line as UTF-8; a `DataError` names the byte that is none, and what mends it."""
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        if b"\0" in line or line[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise DataError(
                f"{path}, line {number}: expected UTF-8, found what seems to be UTF-16. Convert "
                f"the file: iconv -f UTF-16 -t UTF-8 {path.name}"
            ) from error
        raise DataError(
            f"{path}, line {number}: expected UTF-8, found the byte {line[error.start]:#04x}. "
            f"Convert the file: iconv -f LATIN1 -t UTF-8 {path.name}"
        ) from error


JSON_BYTES = 16 << 20


def read_small(path: Path, limit: int) -> str:
    """Return the text of a UTF-8 file of bounded size.

    Raises:
        OSError: the file cannot be opened.
        DataError: it is no regular file, is larger or is not UTF-8.
    """
    path.stat()  # that a file is missing is for the caller to say
    require_regular_file(path)
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DataError(
            f"{path}: expected at most {limit >> 10:,} KiB, found more. It is not a file of the "
            "kind that is read here."
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text, found {error}") from error


def read_json(path: Path) -> Any:
    """Return what a JSON file of bounded size holds.

    Raises:
        OSError: the file cannot be opened.
        DataError: as of `read_small`; or it is not JSON, is nested too deeply, holds a number of
            thousands of digits or a key twice in one object.
    """
    text = read_small(path, JSON_BYTES)
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise DataError(f"{path}: expected JSON, found too many brackets in brackets") from None
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, found a file that does not parse ({error})") from (
            error
        )


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} twice in one object")
    return values
