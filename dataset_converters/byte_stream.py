"""Files read from beginning to end, compressed or not, with a progress bar over their bytes."""

from __future__ import annotations

import gzip
import io
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from tqdm import tqdm

from dataset_converters.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
BUFFER_BYTES = 1 << 20
# No record of any known source comes near; a "line" beyond it is no text, or a bomb.
LINE_BYTES = 1 << 26


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

    Args:
        path: the file, or a link to it.
        expected: what it should be, for the message.

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
        path: the file.
        label: text of a progress bar on a terminal; none by default.

    Returns:
        The uncompressed bytes.

    Raises:
        DataError: the file is missing or empty, or its compression is cut short or damaged.
    """
    require_regular_file(path)
    size = path.stat().st_size
    if not size:
        raise DataError(f"{path}: expected data, found an empty file. Fetch it again.")
    hidden: bool | None = label is None or None  # None: tqdm shows the bar on a terminal only
    with (
        path.open("rb", buffering=0) as raw,
        tqdm(total=size, desc=label, unit="B", unit_scale=True, leave=False, disable=hidden) as bar,
    ):
        stream = io.BufferedReader(_Counted(raw, bar), BUFFER_BYTES)
        try:
            if stream.peek(2)[:2] == GZIP_MAGIC:
                yield cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=stream), BUFFER_BYTES))
            else:
                yield stream
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"{path}: expected a whole gzip file, found one that is cut short or damaged "
                f"({error}). Fetch it again."
            ) from error


def lines(stream: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number (from 1) and the bytes of every line that is not blank.

    Args:
        stream: what `reading` gave.
        path: its file, for messages.

    Raises:
        DataError: a line is longer than any text.
    """
    number = 0
    while line := stream.readline(LINE_BYTES):
        number += 1
        if len(line) == LINE_BYTES:
            raise DataError(
                f"{path}, line {number}: expected a line of text, found more than "
                f"{LINE_BYTES >> 20} MiB without a line end. Is this the right file?"
            )
        if line.strip():
            yield number, line


def text_of(line: bytes, path: Path, number: int) -> str:
    """Decode a line as UTF-8.

    Raises:
        DataError: the line is not UTF-8.
    """
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number}: expected UTF-8, found the byte {line[error.start]:#04x}. "
            f"Convert the file: iconv -f LATIN1 -t UTF-8 {path.name}"
        ) from error
