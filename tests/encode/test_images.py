from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from encode_world import png
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from recbole_margo.encode.images import PATTERNS, ColorTextureEncoder, binary_patterns, decode_image
from recbole_margo.encode.item_source import UnreadableContentError


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG that claims, and could be unpacked to, a huge image."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20), 9)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("side", [20_000, 2_000_000_000])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(side: int) -> None:
    with pytest.raises(UnreadableContentError):
        decode_image(bomb(side, side))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_images_are_our_error_or_an_image(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP"]))
    image = Image.open(io.BytesIO(png(1)))
    content = bytearray(saved(image, kind))
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)))
    try:
        assert decode_image(bytes(content[:end])).mode == "RGB"
    except UnreadableContentError as error:
        assert str(error).startswith("expected")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_image_are_our_error(content: bytes) -> None:
    with pytest.raises(UnreadableContentError):
        decode_image(content)


def test_only_formats_of_photographs_are_opened() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PPM")
    with pytest.raises(UnreadableContentError):
        decode_image(stream.getvalue())


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_all_modes_become_rgb(mode: str) -> None:
    image = Image.open(io.BytesIO(png(2)))
    if mode == "I;16":
        values = np.asarray(image.convert("L"), dtype=np.uint16) * 257
        image = Image.fromarray(values)
    decoded = decode_image(saved(image.convert(mode) if mode != "I;16" else image, "PNG"))
    assert decoded.mode == "RGB"
    assert np.asarray(decoded).std() > 10


def test_transparent_pixels_are_white_and_photographs_upright() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert np.asarray(decode_image(saved(clear, "PNG"))).min() == 255
    image = Image.new("RGB", (4, 8), "white")
    image.putpixel((0, 0), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = decode_image(saved(image, "PNG", exif=exif))
    assert turned.size == (8, 4)
    assert turned.getpixel((7, 0)) == (0, 0, 0)


def test_patterns_equal_a_loop_over_pixels() -> None:
    gray = np.random.default_rng(0).integers(0, 4, (9, 11)).astype(np.int16)
    found = binary_patterns(gray)
    assert found.shape == (7, 9)
    around = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    for y in range(1, 8):
        for x in range(1, 10):
            bits = [gray[y + dy, x + dx] >= gray[y, x] for dy, dx in around]
            changes = sum(bits[i] != bits[i - 1] for i in range(8))
            expected = sum(bits) if changes <= 2 else PATTERNS - 1
            assert found[y - 1, x - 1] == expected


def test_vectors_have_length_one_and_know_colour_and_texture() -> None:
    encoder = ColorTextureEncoder()

    def vector(image: Image.Image) -> np.ndarray:
        return encoder.prepare(saved(image, "PNG"))

    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    red, dark_red = (Image.new("RGB", (64, 64), color) for color in ("#ff0000", "#f00808"))
    blue = Image.new("RGB", (64, 64), "#0000ff")
    rough = Image.merge("RGB", [Image.fromarray(noise), *Image.new("RGB", (64, 64)).split()[1:]])
    for image in (red, blue, rough):
        assert np.linalg.norm(vector(image)) == pytest.approx(1.0, abs=1e-6)
    # Same texture, other colour: half of the vector agrees, to the last part.
    assert vector(red) @ vector(blue) == pytest.approx(0.5, abs=1e-6)
    assert vector(red) @ vector(dark_red) == pytest.approx(1.0, abs=1e-6)
    assert vector(red) @ vector(rough) < 0.9
    assert encoder.encode([vector(red), vector(blue)]).shape == (2, len(vector(red)))
