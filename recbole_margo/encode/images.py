"""Images: decoding files that nobody has checked, and describing them by colour and texture."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from recbole_margo.encode.item_encoding import Encoder
from recbole_margo.encode.item_source import UnreadableContentError

# Formats of photographs that name their size at the beginning. Pillow hands some others, such as
# EPS, to external programs, and tiles of a TIFF may be larger than its image.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
LARGEST_PIXELS = 1 << 26
# What an image may take in memory while it is decoded.
LARGEST_BYTES = 1 << 28
# Images that take more than this are decoded one at a time, however many threads there are.
SMALL_BYTES = 1 << 25
STRIP_PIXELS = 1 << 20
ORIENTATION = 0x0112
# Bytes a pixel of Pillow's modes; all that are not named take four.
MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
RGB_BYTES = 4
_large = threading.Lock()

# Of the histograms.
SIDE = 128
CELLS = 2
TEXTURE_SIDES = (128, 64)
COLOR_BINS = (8, 3, 3)
# The 8 neighbours of a pixel, once around.
AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
PATTERNS = len(AROUND) + 2


def decode_image(content: bytes) -> Image.Image:
    """Decode an image: upright, its first frame, RGB, transparency on white.

    Raises:
        UnreadableContentError: the bytes are no whole image of `FORMATS`, or stand for more than
            `LARGEST_PIXELS` pixels or `LARGEST_BYTES` of memory (a decompression bomb).
    """
    if not content:
        raise UnreadableContentError("expected an image, found an empty file")
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    kind = "JPEG" if content.startswith(b"\xff\xd8\xff") else "file"
    try:
        with warnings.catch_warnings():
            # Pillow warns of files that it can read in part; and our own limit on pixels is lower.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=formats) as image:
                kind = image.format or kind
                if _checked_bytes(image) <= SMALL_BYTES:
                    return _decoded(image)
                with _large:
                    return _decoded(image)
    except UnreadableContentError:
        raise
    except Exception as error:
        # Pillow's readers meet damaged files with many kinds of errors: OSError, SyntaxError, ...
        found = f"{type(error).__name__}: {error}"
        # What Pillow says of a file that ends too early.
        if isinstance(error, OSError) and "truncated" in str(error).lower():
            found = f"a {kind} that is cut off ({error})"
        raise UnreadableContentError(
            f"expected an image ({', '.join(formats)}), found {found}"
        ) from error


def _checked_bytes(image: Image.Image) -> int:
    """Return how much memory an image will take, by its header alone."""
    width, height = image.size
    pixels = width * height
    if pixels > LARGEST_PIXELS:
        raise UnreadableContentError(
            f"expected at most {LARGEST_PIXELS:,} pixels, found {width:,} x {height:,}"
        )
    each = MODE_BYTES.get(image.mode, 4)
    if image.mode != "RGB" or "transparency" in image.info:
        each += RGB_BYTES  # what it is converted to
    if image.format == "JPEG" and image.info.get("progressive"):
        each += 2 * len(image.getbands())  # its coefficients are all held until the last scan
    if image.format == "WEBP":
        each += 8  # the reader's two canvases
    if image.format != "PNG" and _is_turned(image):  # the tags of a PNG may follow its pixels
        each += RGB_BYTES
    if pixels * each > LARGEST_BYTES:
        raise UnreadableContentError(
            f"expected an image of at most {LARGEST_BYTES >> 20} MiB in memory, found "
            f"{pixels * each >> 20} MiB ({width:,} x {height:,} pixels, {image.mode}); make it "
            "smaller"
        )
    return pixels * each


def _is_turned(image: Image.Image) -> bool:
    return bool(image.getexif().get(ORIENTATION, 1) != 1)


def _decoded(image: Image.Image) -> Image.Image:
    image.load()
    # Without need it would be copied.
    if _is_turned(image):
        image = ImageOps.exif_transpose(image)
    return _on_white(image)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    scale = _scale(image) if image.mode.startswith(("I", "F")) else None
    result = Image.new("RGB", image.size)
    for box in _strips(image.size):
        strip = image.crop(box)
        if scale is not None:
            strip = _eight_bits(strip, *scale)
        elif strip.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
            strip = strip.convert("RGBA")
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip)
        result.paste(strip.convert("RGB"), box)
    return result


def _strips(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    width, height = size
    step = max(1, STRIP_PIXELS // width)
    for top in range(0, height, step):
        yield 0, top, width, min(height, top + step)


def _scale(image: Image.Image) -> tuple[float, float]:
    """Return the least value of an image of more than eight bits a pixel, and the spread."""
    extremes = [(v.min(), v.max()) for v in (_values(image.crop(b)) for b in _strips(image.size))]
    lowest = float(min(low for low, _ in extremes))
    return lowest, float(max(high for _, high in extremes)) - lowest


def _eight_bits(strip: Image.Image, lowest: float, spread: float) -> Image.Image:
    """Return a strip scaled to eight bits a pixel, which convert() would cut off instead."""
    scaled = (_values(strip) - lowest) * (255.0 / spread if spread else 0.0)
    return Image.fromarray(scaled.astype(np.uint8))


def _values(strip: Image.Image) -> NDArray[np.float64]:
    return np.nan_to_num(np.asarray(strip, dtype=np.float64))


class ColorTextureEncoder(Encoder):
    r"""Histograms of colour and of local binary patterns in 2 x 2 parts of the image.

    With the histograms h_b of all B blocks, each summing to 1, the vector is
    :math:`\sqrt{w_b h_b}` with :math:`\sum_b w_b = 1`: it has length 1, and the cosine of two
    images is the mean Bhattacharyya coefficient of their blocks. Colour: hue, saturation and value
    (8 x 3 x 3 bins). Texture: rotation-invariant uniform patterns of the brightness at two scales.

    Source: Ojala, Pietikäinen and Mäenpää, "Multiresolution gray-scale and rotation invariant
    texture classification with local binary patterns", IEEE TPAMI 24(7), 2002.
    """

    identity = "color-texture-1"
    description = "colour and texture histograms"
    batch_size = 256

    def prepare(self, content: bytes) -> NDArray[np.float32]:
        """Return the vector [D] of one image; the work is done here because threads share it."""
        image = decode_image(content).resize((SIDE, SIDE), Image.Resampling.BOX)
        colors = [_color_histogram(part) for part in _parts(np.asarray(image.convert("HSV")))]
        textures = []
        for side in TEXTURE_SIDES:
            gray = image.convert("L").resize((side, side), Image.Resampling.BOX)
            patterns = binary_patterns(np.asarray(gray, dtype=np.int16))
            textures += [np.bincount(p.ravel(), minlength=PATTERNS) for p in _parts(patterns)]
        vector = np.concatenate([_share(colors), _share(textures)])
        return np.sqrt(vector / 2.0).astype(np.float32)

    def encode(self, batch: Sequence[Any]) -> NDArray[np.float32]:
        """Return the prepared vectors as a matrix [B, D]."""
        return np.stack(batch)


def binary_patterns(gray: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return rotation-invariant uniform local binary patterns [H - 2, W - 2] of brightness [H, W].

    A neighbour counts when it is not darker than the pixel. Patterns that change at most twice
    once around are numbered by how many neighbours count, all others share the last number.
    """
    height, width = gray.shape
    center = gray[1:-1, 1:-1]
    brighter = np.stack(
        [gray[1 + y : height - 1 + y, 1 + x : width - 1 + x] >= center for y, x in AROUND]
    )
    changes = (brighter != np.roll(brighter, 1, axis=0)).sum(axis=0)
    return np.where(changes <= 2, brighter.sum(axis=0), PATTERNS - 1).astype(np.uint8)


def _parts(pixels: NDArray[Any]) -> list[NDArray[Any]]:
    return [
        part
        for band in np.array_split(pixels, CELLS, axis=0)
        for part in np.array_split(band, CELLS, axis=1)
    ]


def _color_histogram(pixels: NDArray[np.uint8]) -> NDArray[np.intp]:
    bins = np.array(COLOR_BINS)
    index = pixels.reshape(-1, 3).astype(np.intp) * bins // 256
    flat = np.ravel_multi_index(tuple(index.T), COLOR_BINS)
    return np.bincount(flat, minlength=int(bins.prod()))


def _share(histograms: Sequence[NDArray[np.intp]]) -> NDArray[np.float64]:
    stacked = np.concatenate(histograms).astype(np.float64)
    total: float = stacked.sum()
    return stacked / total
