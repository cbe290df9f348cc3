"""Describes images by their colours and textures; needs no download and no GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recbole_margo.encode.encoder import Encoder
from recbole_margo.encode.image_files import decode_image

SIDE = 128
CELLS = 2
TEXTURE_SIDES = (128, 64)
COLOR_BINS = (8, 3, 3)
# The 8 neighbours of a pixel, once around.
AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
PATTERNS = len(AROUND) + 2


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
    """Return the rotation-invariant uniform local binary pattern of every inner pixel.

    A neighbour counts when it is not darker than the pixel. Patterns that change at most twice
    once around are numbered by how many neighbours count, all others share the last number.

    Args:
        gray: brightness [H, W].

    Returns:
        Numbers below `PATTERNS` [H - 2, W - 2].
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
