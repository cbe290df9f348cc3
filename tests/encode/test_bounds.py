"""What raw content may take: memory of images and sounds, and files that have no end."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recbole_margo.encode.images import decode_image
from recbole_margo.encode.item_source import UnreadableContentError, read_content
from recbole_margo.encode.pretrained import _check_size

DECODE = """
import resource, sys
import recbole_margo.encode.images as images
from recbole_margo.encode.item_source import UnreadableContentError
content = sys.stdin.buffer.read()
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before = peak()
try:
    images.decode_image(content)
    print("decoded", peak() - before)
except UnreadableContentError as error:
    print("refused", peak() - before)
"""


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def flat_png(side: int, bits: int, color: int, *others: bytes) -> bytes:
    """Return a square PNG of one colour, small as a file whatever its size."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    compressor = zlib.compressobj(9)
    row = bytes(1 + side * bits * channels // 8)
    pixels = b"".join([compressor.compress(row) for _ in range(side)] + [compressor.flush()])
    header = struct.pack(">IIBBBBB", side, side, bits, color, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *others, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def text_bomb() -> bytes:
    return flat_png(64, 8, 2, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20)))] * 99)


def profile_bomb() -> bytes:
    return flat_png(64, 8, 2, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 28), 9)))


@pytest.mark.parametrize(
    ("make", "outcome", "most"),
    [
        (lambda: flat_png(8000, 16, 0), "refused", 16),
        (lambda: flat_png(8000, 8, 6), "refused", 16),
        (lambda: flat_png(5700, 16, 0), "decoded", 320),
        (lambda: flat_png(5700, 8, 6), "decoded", 320),
        (lambda: flat_png(8100, 8, 2), "decoded", 320),
        (text_bomb, "refused", 160),
        (profile_bomb, "refused", 32),
    ],
)
def test_memory_is_bounded_before_an_image_is_decoded(make, outcome: str, most: int) -> None:
    content = make()
    assert len(content) < 500_000
    shown = subprocess.run(
        [sys.executable, "-c", DECODE], input=content, capture_output=True, check=True
    ).stdout.split()
    assert shown[0].decode() == outcome
    assert int(shown[1]) < most


@pytest.mark.parametrize("kind", ["PPM", "TIFF", "ICO"])
def test_only_formats_of_photographs_are_opened(kind: str) -> None:
    with pytest.raises(UnreadableContentError, match="expected an image"):
        decode_image(saved(Image.new("RGB", (32, 32)), kind))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "I;16", "1"])
def test_strips_make_the_same_image(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (37, 23, 4), dtype=np.uint8)
    image = Image.fromarray(noise)
    if mode == "I;16":
        image = Image.fromarray(noise[..., 0].astype(np.uint16) * 200 + noise[..., 1])
    content = saved(image if mode == "I;16" else image.convert(mode), "PNG")
    whole = np.asarray(decode_image(content))
    monkeypatch.setattr("recbole_margo.encode.images.STRIP_PIXELS", 23 * 5)
    assert np.array_equal(np.asarray(decode_image(content)), whole)
    if mode == "RGBA":
        white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        assert np.array_equal(whole, np.asarray(white.convert("RGB")))


def test_what_takes_another_copy_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (100, 100))
    monkeypatch.setattr("recbole_margo.encode.images.LARGEST_BYTES", 50_000)
    assert decode_image(saved(image, "JPEG")).size == (100, 100)
    for content in (saved(image, "JPEG", exif=exif), saved(image, "JPEG", progressive=True)):
        with pytest.raises(UnreadableContentError, match="in memory"):
            decode_image(content)


@pytest.mark.parametrize("kind", ["pipe", "device", "link"])
def test_what_has_no_end_is_no_content(tmp_path: Path, kind: str) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / "1.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    with pytest.raises(UnreadableContentError, match="expected a file, found"):
        read_content(path)


def test_a_large_file_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole_margo.encode.item_source.LARGEST_FILE_BYTES", 1 << 20)
    path = tmp_path / "1.png"
    path.write_bytes(bytes(1 << 20))
    assert len(read_content(path)) == 1 << 20
    path.write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(UnreadableContentError, match="at most 1 MiB"):
        read_content(path)


@pytest.mark.parametrize(
    ("rate", "seconds", "channels", "frames", "refused"),
    [
        (48_000, 30, 2, 10**12, None),
        (2**31 - 1, 30, 1, 100, "samples a second"),
        (0, 30, 1, 100, "samples a second"),
        (192_000, 30, 1024, 10**9, "in memory"),
        (192_000, 30, 1024, 1000, None),
    ],
)
def test_sounds_are_bounded_by_their_headers(rate, seconds, channels, frames, refused) -> None:
    with pytest.raises(UnreadableContentError, match=refused) if refused else nullcontext():
        _check_size(rate, seconds, channels, frames)
